/* kernels/cuda/launch.cuh: how every kernel begins: on a GPU through the runtime, in the emulator as a
 * closure. Kernels are never launched with <<<>>>, which only one of the two compilers knows.
 *
 * Threads: the one that owns the stream.
 * Memory:  arguments are copied. */
#pragma once

#include "kernels/cuda/ptx.cuh"

/* Shared memory of the block, as a struct; its size goes to gpu_launch. */
#if defined(CN_EMU)
#include <tuple>

#include "kernels/emu/runtime.h"
#define CN_SHARED(type, name) type &name = *(type *)cn_fiber_shared(nullptr)
#else
#define CN_SHARED(type, name)                                                                      \
    extern __shared__ __align__(1024) unsigned char shared_bytes[];                                \
    type &name = *(type *)shared_bytes
#endif

struct gpu_grid {
    uint32_t x, y, threads;      // blocks, and threads of a block
    size_t shared_bytes;
};

#if defined(CN_EMU)

template <typename... P> struct gpu_call {
    void (*kernel)(P...);
    std::tuple<P...> args;
};

template <typename... P, typename... A>
static cudaError_t gpu_launch(const char *name, void (*kernel)(P...), gpu_grid grid, cudaStream_t stream, A... args)
{
    gpu_call<P...> call = {kernel, {static_cast<P>(args)...}};
    const cn_fiber_launch launch = {
        name, {grid.x, grid.y, 1}, {grid.threads, 1, 1}, grid.shared_bytes,
        [](void *self) {
            const auto *c = static_cast<const gpu_call<P...> *>(self);
            std::apply(c->kernel, c->args);
        },
        &call};
    return cn_runtime_launch(&launch, sizeof call, stream);
}

#else

template <typename... P, typename... A>
static cudaError_t gpu_launch(const char *, void (*kernel)(P...), gpu_grid grid, cudaStream_t stream, A... args)
{
    if (grid.shared_bytes > (48u << 10)) {
        const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       (int)grid.shared_bytes);
        if (error != cudaSuccess) return error;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(grid.x, grid.y, 1);
    config.blockDim = dim3(grid.threads, 1, 1);
    config.dynamicSmemBytes = grid.shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
}

#endif

/* Sum and maximum over a warp; every lane gets the same bits. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (uint32_t bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, bits);
    return x;
}

static __device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
static __device__ __forceinline__ float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }
