/* kernels/emu/device.h: the words of CUDA C++ that kernels use, for a compiler of plain C++.
 * A kernel includes this where it is compiled for the emulator and the toolkit's headers otherwise. What
 * is an instruction of its own (tensor cores, asynchronous copies) is not here: that is behind wrappers
 * with a twin for the emulator (kernels/cuda/ptx.cuh).
 *
 * Threads: inside a kernel only.
 * Memory:  none. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/emu/fiber.h"

#define __global__ static
#define __device__
#define __host__
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define __forceinline__ inline   // there, one large function takes a compiler minutes
#else
#define __forceinline__ inline __attribute__((always_inline))
#endif
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define threadIdx (cn_fiber_self->thread)
#define blockIdx (cn_fiber_self->block)
#define blockDim (cn_fiber_self->block_size)
#define gridDim (cn_fiber_self->block_count)

struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

static inline void __syncthreads()
{
    const cn_fiber_dim size = cn_fiber_self->block_size;
    cn_fiber_barrier(0, size.x * size.y * size.z);
}

static inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu)
{
    cn_fiber_meet(mask, "__syncwarp", nullptr, nullptr, true);
}

struct cn_device_shuffle {
    uint64_t value, result;
    uint32_t from;
};

static inline void cn_device_shuffle_join(void *const *lanes, uint32_t mask)
{
    for (uint32_t i = 0; i < CN_FIBER_LANES; i++) {
        if (!(mask >> i & 1)) continue;
        cn_device_shuffle *mine = (cn_device_shuffle *)lanes[i];
        if (!(mask >> mine->from & 1)) cn_fiber_fault("shuffle from lane %u, outside %08x", mine->from, mask);
        mine->result = ((const cn_device_shuffle *)lanes[mine->from])->value;
    }
}

template <typename T> static inline T cn_device_shuffle_from(uint32_t mask, T value, uint32_t from)
{
    cn_device_shuffle mine = {0, 0, from};
    static_assert(sizeof(T) <= sizeof mine.value);
    memcpy(&mine.value, &value, sizeof value);
    cn_fiber_meet(mask, "shuffle", cn_device_shuffle_join, &mine, false);
    memcpy(&value, &mine.result, sizeof value);
    return value;
}

template <typename T> static inline T __shfl_xor_sync(uint32_t mask, T value, uint32_t bits)
{
    return cn_device_shuffle_from(mask, value, cn_fiber_self->lane ^ bits);
}

template <typename T> static inline T __shfl_sync(uint32_t mask, T value, uint32_t lane)
{
    return cn_device_shuffle_from(mask, value, lane % CN_FIBER_LANES);
}

template <typename T> static inline T atomicAdd(T *at, T value)
{
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

static inline uint32_t atomicOr(uint32_t *at, uint32_t value)
{
    return __atomic_fetch_or(at, value, __ATOMIC_RELAXED);
}

static inline uint32_t __float_as_uint(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
