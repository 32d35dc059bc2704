/* kernels/cuda/attention.cuh: the arithmetic of attention, one piece of code for decode, prefill and merge.
 *
 * A warp has 16 (token, query head) pairs that share a KV head: the rows of its mma. The positions of a
 * sequence are cut the same way for everybody:
 *
 *   split of 256          │unit of 64            │unit│unit│unit│  next split ...
 *                         │step of 32│step of 32 │
 *
 * Inside a unit the softmax is running, step after step. A unit starts from nothing and is joined to its
 * split, a split to the whole, in order. Decode gives the four units of a split to four warps and
 * splits to different blocks; prefill does everything in one warp; both do the same operations on the
 * same numbers. A step that a pair may not see changes nothing: its maximum is -infinity, its factor 0,
 * what it is joined to is multiplied by 1. Hence a pair's bits do not depend on its company.
 *
 * Threads: inside a kernel; all functions here are for a whole warp, but join.
 * Memory:  registers: head_dim / 8 * 4 floats per accumulator. */
#pragma once

#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/kernels_int.h"

constexpr uint32_t PAGE_TOKENS = CN_PAGE_TOKENS, STEP_TOKENS = 32, STEP_PAGES = STEP_TOKENS / PAGE_TOKENS;
constexpr uint32_t UNIT_TOKENS = CN_CUDA_UNIT_TOKENS, UNIT_STEPS = UNIT_TOKENS / STEP_TOKENS;
constexpr uint32_t SPLIT_TOKENS = CN_SPLIT_TOKENS, SPLIT_STEPS = SPLIT_TOKENS / STEP_TOKENS;

/* Softmax so far of rows lane / 4 and lane / 4 + 8: maximum, sum, weighted V. */
template <int D> struct softmax_part {
    float max[2], sum[2];
    float acc[D / 8][4];
};

template <int D> static __device__ __forceinline__ void part_clear(softmax_part<D> &p)
{
#pragma unroll
    for (int i = 0; i < 2; i++) p.max[i] = -INFINITY, p.sum[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < D / 8 * 4; i++) p.acc[i / 4][i % 4] = 0.0f;
}

/* Factors of two parts that become one whose maximum is the first argument afterwards. */
static __device__ __forceinline__ void join_factors(float &max, float other, float &keep, float &take)
{
    const float top = fmaxf(max, other), base = top == -INFINITY ? 0.0f : top;
    keep = ptx_exp2(max - base);
    take = ptx_exp2(other - base);
    max = top;
}

template <int D>
static __device__ __forceinline__ void part_join(softmax_part<D> &whole, const softmax_part<D> &part)
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float keep, take;
        join_factors(whole.max[row], part.max[row], keep, take);
        whole.sum[row] = fmaf(part.sum[row], take, whole.sum[row] * keep);
#pragma unroll
        for (int i = 0; i < D / 8 * 2; i++) {
            float &to = whole.acc[i / 2][row * 2 + i % 2];
            to = fmaf(part.acc[i / 2][row * 2 + i % 2], take, to * keep);
        }
    }
}

/* Q of the warp's pairs as fragments; a row that is NULL counts as zeros. */
template <int D>
static __device__ __forceinline__ void load_q(const uint16_t *low, const uint16_t *high, uint32_t q[D / 16][4])
{
    const uint32_t k = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint16_t *row = j % 2 ? high : low;
            q[i][j] = row ? *(const uint32_t *)(row + i * 16 + j / 2 * 8 + k) : 0;
        }
    }
}

/* Copies K (which = 0) or V (1) of the 32 tokens from `first` on by `lanes` threads, zeros from `end` on.
 * `to` gets two tiles, one per page. */
template <int D>
static __device__ __forceinline__ void copy_tiles(const cn_cuda_attention &p, const uint32_t *table, uint32_t kv_head,
                                                  uint32_t which, uint32_t first, uint32_t end, unsigned char *to,
                                                  uint32_t lane, uint32_t lanes)
{
    const uint32_t tile_bytes = PAGE_TOKENS * D * 2;
    const uint64_t offset = p.layer_offset + (uint64_t)(kv_head * 2 + which) * tile_bytes;
#pragma unroll
    for (uint32_t page = 0; page < STEP_PAGES; page++) {
        const uint32_t token = first + page * PAGE_TOKENS;
        const bool there = token < end;
        const unsigned char *from =
            p.pages + (there ? table[token / PAGE_TOKENS] * p.page_bytes + offset : 0);
#pragma unroll 2
        for (uint32_t i = lane; i < PAGE_TOKENS * D / 8; i += lanes) {
            const uint32_t row = i / (D / 8), at = cn_cuda_tile_at(D, row, i % (D / 8));
            ptx_copy16(to + page * tile_bytes + at, from + (there ? at : 0), token + row < end);
        }
    }
}

/* Adds the 32 tokens from `first` on to a unit. `seen[i]`: tokens that row lane / 4 + 8 i may see, as a
 * count from the start of the sequence. */
template <int D>
static __device__ __forceinline__ void score_step(const uint32_t q[D / 16][4], const unsigned char *k, float s[4][4])
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t page = 0; page < STEP_PAGES; page++) {
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            const uint32_t row = lane % 8 + lane / 16 * 8, chunk = i * 2 + lane / 8 % 2;
            ptx_ldmatrix(b, k + page * PAGE_TOKENS * D * 2 + cn_cuda_tile_at(D, row, chunk));
            ptx_mma(s[page * 2], q[i], b[0], b[1]);
            ptx_mma(s[page * 2 + 1], q[i], b[2], b[3]);
        }
    }
}

/* Scores become weights; the unit's sums and V so far are scaled to the new maximum. */
template <int D>
static __device__ __forceinline__ void soften_step(softmax_part<D> &unit, float s[4][4], uint32_t first,
                                                   const uint32_t seen[2], float scale)
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float max = -INFINITY, sum = 0.0f, keep, unused;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float &x = s[i / 2][row * 2 + i % 2];
            const uint32_t token = first + i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2;
            x = token < seen[row] ? x * scale : -INFINITY;
            max = fmaxf(max, x);
        }
        max = fmaxf(max, __shfl_xor_sync(0xFFFFFFFFu, max, 1));
        max = fmaxf(max, __shfl_xor_sync(0xFFFFFFFFu, max, 2));
        join_factors(unit.max[row], max, keep, unused);
        const float base = unit.max[row] == -INFINITY ? 0.0f : unit.max[row];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float &x = s[i / 2][row * 2 + i % 2];
            x = ptx_exp2(x - base);
            sum += x;
        }
        unit.sum[row] = fmaf(unit.sum[row], keep, sum);
#pragma unroll
        for (int i = 0; i < D / 8 * 2; i++) unit.acc[i / 2][row * 2 + i % 2] *= keep;
    }
}

template <int D>
static __device__ __forceinline__ void weigh_step(softmax_part<D> &unit, const float s[4][4], const unsigned char *v)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t page = 0; page < STEP_PAGES; page++) {
        const float *left = s[page * 2], *right = s[page * 2 + 1];
        const uint32_t a[4] = {ptx_pack_bf16(left[0], left[1]), ptx_pack_bf16(left[2], left[3]),
                               ptx_pack_bf16(right[0], right[1]), ptx_pack_bf16(right[2], right[3])};
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint32_t b[4];
            const uint32_t row = lane % 8 + lane / 8 % 2 * 8, chunk = i * 2 + lane / 16;
            ptx_ldmatrix_trans(b, v + page * PAGE_TOKENS * D * 2 + cn_cuda_tile_at(D, row, chunk));
            ptx_mma(unit.acc[i * 2], a, b[0], b[1]);
            ptx_mma(unit.acc[i * 2 + 1], a, b[2], b[3]);
        }
    }
}

/* The four lanes of a row have each summed their tokens. */
template <int D> static __device__ __forceinline__ void part_finish(softmax_part<D> &unit)
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        unit.sum[row] += __shfl_xor_sync(0xFFFFFFFFu, unit.sum[row], 1);
        unit.sum[row] += __shfl_xor_sync(0xFFFFFFFFu, unit.sum[row], 2);
    }
}
