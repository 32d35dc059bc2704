/* prefill: attention of rows of one sequence that lie together, over paged K and V, each up to itself.
 *   shapes  as decode.cu; a tile is up to 64 (token, query head) pairs of one KV head
 *   floor   4 * heads * D * sum of the positions seen operations; 8192 tokens of Llama-8B: 0.55 TFLOP per
 *           layer, 0.7 ms at 790 TFLOP/s
 *   launch  x: tile, y: KV head; 4 warps of 16 pairs each, which share K and V in two buffers
 *
 *     pairs    │warp 0: 16│warp 1│warp 2│warp 3│      pair = token * group + head: a token's heads together
 *     steps    32 tokens each; while one is worked on, the next is on its way
 *
 *   A unit and the split that it joins are in registers (2 * D / 2 floats), the whole, which is touched once
 *   in 256 tokens, lies in shared memory.
 *   order   attention.cuh */
#include "kernels/cuda/attention.cuh"

constexpr uint32_t WARPS = 4;

template <int D> struct prefill_shared {
    unsigned char kv[2][2][STEP_TOKENS * D * 2];
    float whole[WARPS][4 + D / 2][32];       // each lane its own column
};

template <int D>
static __device__ __forceinline__ void join_whole(float (*whole)[32], const softmax_part<D> &split)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float max = whole[row][lane], keep, take;
        join_factors(max, split.max[row], keep, take);
        whole[row][lane] = max;
        whole[2 + row][lane] = fmaf(split.sum[row], take, whole[2 + row][lane] * keep);
#pragma unroll
        for (int i = 0; i < D / 8 * 2; i++) {
            float &to = whole[4 + i / 2 * 4 + row * 2 + i % 2][lane];
            to = fmaf(split.acc[i / 2][row * 2 + i % 2], take, to * keep);
        }
    }
}

template <int D>
static __device__ __forceinline__ void copy_step(const cn_cuda_attention &p, const uint32_t *table, uint32_t kv_head,
                                                 uint32_t at, uint32_t end, unsigned char (*kv)[STEP_TOKENS * D * 2])
{
    if (at * STEP_TOKENS < end) {
        copy_tiles<D>(p, table, kv_head, 0, at * STEP_TOKENS, end, kv[0], threadIdx.x, WARPS * 32);
        copy_tiles<D>(p, table, kv_head, 1, at * STEP_TOKENS, end, kv[1], threadIdx.x, WARPS * 32);
    }
    ptx_copy_commit();
}

template <int D>
static __device__ __forceinline__ void store_whole(const cn_cuda_attention &p, float (*whole)[32], uint64_t to, int row)
{
    const uint32_t lane = threadIdx.x % 32;
    const float sum = whole[2 + row][lane];
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
        *(uint32_t *)(p.out + to + i * 8 + lane % 4 * 2) = ptx_pack_bf16(
            whole[4 + i * 4 + row * 2][lane] / sum, whole[4 + i * 4 + row * 2 + 1][lane] / sum);
    }
}

template <int D>
__global__ void __launch_bounds__(WARPS * 32) prefill_kernel(const cn_cuda_step *step, cn_cuda_attention p)
{
    CN_SHARED(prefill_shared<D>, shared);
    if (blockIdx.x >= step->tile_count) return;
    const unsigned char *base = (const unsigned char *)step;
    const cn_cuda_tile tile = ((const cn_cuda_tile *)(base + step->tiles_at))[blockIdx.x];
    const cn_cuda_row first = ((const cn_cuda_row *)(base + step->rows_at))[tile.row];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, kv_head = blockIdx.y;
    const uint32_t group = p.head_count / p.kv_head_count;
    const uint32_t *table = p.tables + (uint64_t)first.slot * p.pages_per_slot;
    const uint32_t end = first.position + (tile.begin + tile.count - 1) / group + 1;
    uint32_t seen[2], warp_steps = 0;
    uint64_t head_at[2];                     // row * heads + head
    bool there[2];
    for (int i = 0; i < 2; i++) {
        const uint32_t in_tile = warp * 16 + lane / 4 + i * 8, pair = tile.begin + in_tile;
        there[i] = in_tile < tile.count;
        seen[i] = there[i] ? first.position + pair / group + 1 : 0;
        head_at[i] = (uint64_t)(tile.row + pair / group) * p.head_count + kv_head * group + pair % group;
    }
    if (warp * 16 < tile.count) {
        const uint32_t last = warp * 16 + 15 < tile.count ? warp * 16 + 15 : tile.count - 1;
        warp_steps = (first.position + (tile.begin + last) / group) / STEP_TOKENS + 1;
    }
    uint32_t q[D / 16][4];
    load_q<D>(there[0] ? p.q + head_at[0] * D : nullptr, there[1] ? p.q + head_at[1] * D : nullptr, q);
    float(*whole)[32] = shared.whole[warp];
    for (int i = 0; i < 4 + D / 2; i++) whole[i][lane] = i < 2 ? -INFINITY : 0.0f;
    softmax_part<D> unit, split;
    part_clear(unit);
    part_clear(split);
    copy_step<D>(p, table, kv_head, 0, end, shared.kv[0]);
    for (uint32_t at = 0; at * STEP_TOKENS < end; at++) {
        copy_step<D>(p, table, kv_head, at + 1, end, shared.kv[(at + 1) % 2]);
        ptx_copy_wait<1>();
        __syncthreads();
        if (at < warp_steps) {
            float s[4][4] = {};
            score_step<D>(q, shared.kv[at % 2][0], s);
            soften_step<D>(unit, s, at * STEP_TOKENS, seen, p.scale);
            weigh_step<D>(unit, s, shared.kv[at % 2][1]);
            if ((at + 1) % UNIT_STEPS == 0 || at + 1 == warp_steps) {
                part_finish(unit);
                part_join(split, unit);
                part_clear(unit);
            }
            if ((at + 1) % SPLIT_STEPS == 0 || at + 1 == warp_steps) {
                join_whole<D>(whole, split);
                part_clear(split);
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; i++) {
        if (!there[i]) continue;
        const uint64_t row = head_at[i] / p.head_count, head = head_at[i] % p.head_count;
        store_whole<D>(p, whole, row * p.out_stride + head * D, i);
    }
}

template <int D>
static cudaError_t prefill(const cn_cuda_step *step, uint32_t tile_max, const cn_cuda_attention *p, cudaStream_t stream)
{
    const gpu_grid grid = {tile_max, p->kv_head_count, WARPS * 32, sizeof(prefill_shared<D>)};
    return gpu_launch("prefill", prefill_kernel<D>, grid, stream, step, *p);
}

cudaError_t CN_CUDA(prefill_launch)(const cn_cuda_step *step, uint32_t tile_max, const cn_cuda_attention *p,
                                    cudaStream_t stream)
{
    switch (p->head_dim) {
    case 16: return prefill<16>(step, tile_max, p, stream);
    case 32: return prefill<32>(step, tile_max, p, stream);
    case 64: return prefill<64>(step, tile_max, p, stream);
    case 128: return prefill<128>(step, tile_max, p, stream);
    }
    return cudaErrorInvalidValue;
}
