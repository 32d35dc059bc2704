#include "tests/unit/kernels_emu/planted.h"

#include "kernels/cuda/launch.cuh"

struct planted_shared {
    alignas(128) unsigned char matrix[16][128];
    alignas(16) float copied[64];
    float exchanged[64];
};

// Copies come in two groups: the upper half of the block's floats first.
static void copy_in(planted bug, const float *in, planted_shared &shared)
{
    const uint32_t t = threadIdx.x;
    for (uint32_t group = 0; group < 2; group++) {
        if (t % 32 < 8 && t / 32 == 1 - group) ptx_copy16(&shared.copied[t / 32 * 32 + t % 32 * 4], in + t / 32 * 32 + t % 32 * 4, true);
        ptx_copy_commit();
    }
    if (bug == PLANTED_NO_WAIT) return;
    if (bug == PLANTED_WAIT_COUNT) ptx_copy_wait<1>();
    else ptx_copy_wait<0>();
}

static void read_matrix(planted bug, planted_shared &shared)
{
    const uint32_t lane = threadIdx.x % 32, row = lane % 16, chunk = lane / 16;
    const uint32_t swizzled = bug == PLANTED_NO_SWIZZLE ? chunk : chunk ^ (row & 7);
    unsigned char *at = shared.matrix[row] + swizzled * 16;
    uint32_t out[4];
    if (bug == PLANTED_MISALIGNED) at += 2;
    if (bug == PLANTED_OVERRUN && lane == 31) at = (unsigned char *)(&shared + 1);
    ptx_ldmatrix(out, at);
}

__global__ void planted_kernel(planted bug, const float *in, float *out)
{
    CN_SHARED(planted_shared, shared);
    const uint32_t t = threadIdx.x;
    if (bug == PLANTED_LANE_LEFT && t == 5) return;
    if (bug == PLANTED_OTHER_OPERATION && t % 32 < 16) __syncwarp();
    if (bug == PLANTED_OTHER_BARRIER) cn_fiber_barrier(1 + t / 32, 64);
    if (bug == PLANTED_BARRIER_SIZE) cn_fiber_barrier(1, t < 32 ? 64 : 32);
    const float one = __shfl_xor_sync(bug == PLANTED_OUTSIDE_MASK ? 1u << t % 32 : 0xFFFFFFFFu, 1.0f, 16);
    read_matrix(bug, shared);
    copy_in(bug, in, shared);
    if (bug != PLANTED_NO_SYNCWARP) __syncwarp();
    shared.exchanged[t] = shared.copied[t] * one;
    if (bug != PLANTED_NO_BARRIER) __syncthreads();
    out[t] = shared.exchanged[t ^ 32];
}

cudaError_t cn_planted_launch(planted bug, const float *in, float *out, cudaStream_t stream)
{
    return gpu_launch("planted", planted_kernel, gpu_grid{1, 1, 64, sizeof(planted_shared)}, stream, bug, in, out);
}

__global__ void count_kernel(uint32_t *out) { *out += 1; }

cudaError_t cn_planted_count(uint32_t *out, cudaStream_t stream)
{
    return gpu_launch("count", count_kernel, gpu_grid{1, 1, 1, 0}, stream, out);
}
