/* tests/unit/kernels_cuda_emu/device.h: memory of the emulated device and comparisons, for tests of kernels.
 *
 * Threads: one.
 * Memory:  what device_take returns is freed with cudaFree. */
#pragma once

#define CN_EMU 1

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/kernels_int.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* Filled with 0xFF: NaN, and no index of anything. */
static inline void *device_take(size_t bytes)
{
    void *memory;
    assert_int_equal(cudaMalloc(&memory, bytes), cudaSuccess);
    return memory;
}

static inline void *device_copy(const void *from, size_t bytes)
{
    void *memory = device_take(bytes);
    assert_int_equal(cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    return memory;
}

static inline void device_read(void *to, const void *from, size_t bytes)
{
    assert_int_equal(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
}

/* Runs what was launched; a fault of a kernel fails the test with its text. */
static inline void device_wait(void)
{
    const cudaError_t error = cudaStreamSynchronize(NULL);
    if (error != cudaSuccess) fail_msg("%s", cudaGetErrorString(error));
}

static inline float device_float(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

/* To bf16 by cutting: for inputs, whose exact value the test then takes from here. */
static inline uint16_t device_half(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* Uniform in -size / 2 to size / 2. */
static inline float device_random(test_rng *rng, float size)
{
    return ((float)(test_rng_u64(rng) >> 40) / 16777216.0f - 0.5f) * size;
}

static inline void device_near(double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound)) fail_msg("%.9g; should be %.9g, within %.3g", got, want, bound);
}
