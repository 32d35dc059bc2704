/* decode: attention of rows that bring one token, over paged K and V; and merge, which joins their splits.
 *   shapes  q [rows][heads][D] bf16, out [rows][stride] bf16, D = 16, 32, 64 or 128; up to 16 query heads
 *           per KV head, packed into the 16 rows of an mma
 *   floor   the K and V of every context once: 64 sequences of 4096 tokens, Llama-8B: 1.07 GB per layer,
 *           250 us at 4.3 TB/s
 *   launch  x: items (row, split of 256), which blocks take in turn; y: KV head. 4 warps, 512 * D bytes of
 *           shared memory; two blocks of D = 128 are on an SM (by registers), 128 KB of K and V with them,
 *           of which some 30 KB must be on their way to keep the memory busy
 *   Each warp has a unit of 64 tokens, two steps of 32, and its own buffers, one for K and one for V: while
 *   it works on the scores, V arrives; while it weighs V, the next K does:
 *
 *     copies   K0 V0      K1           V1
 *     warp     wait K0│score│soften│wait V0│weigh│wait K1│score ...
 *
 *   order   attention.cuh. Splits of a row are joined by merge in their order; a row of one split is
 *           finished at once, with the same bits. */
#include "kernels/cuda/attention.cuh"

constexpr uint32_t WARPS = 4;

/* Of one warp: K and V of a step, and afterwards what became of its unit. */
template <int D> union warp_memory {
    unsigned char kv[2][STEP_TOKENS * D * 2];
    float part[16][D + 2];
};

template <int D> struct decode_shared {
    warp_memory<D> warps[WARPS];
};

template <int D>
static __device__ __forceinline__ void attend_unit(const cn_cuda_attention &p, const uint32_t *table, uint32_t kv_head,
                                                   uint32_t first, uint32_t end, const uint32_t q[D / 16][4],
                                                   warp_memory<D> &memory, softmax_part<D> &unit)
{
    const uint32_t lane = threadIdx.x % 32, seen[2] = {end, end};
    copy_tiles<D>(p, table, kv_head, 0, first, end, memory.kv[0], lane, 32);
    ptx_copy_commit();
    copy_tiles<D>(p, table, kv_head, 1, first, end, memory.kv[1], lane, 32);
    ptx_copy_commit();
    for (uint32_t step = 0; step < UNIT_STEPS && first < end; step++, first += STEP_TOKENS) {
        const bool more = step + 1 < UNIT_STEPS && first + STEP_TOKENS < end;
        float s[4][4] = {};
        ptx_copy_wait<1>();
        __syncwarp();
        score_step<D>(q, memory.kv[0], s);
        __syncwarp();
        if (more) copy_tiles<D>(p, table, kv_head, 0, first + STEP_TOKENS, end, memory.kv[0], lane, 32);
        ptx_copy_commit();
        soften_step<D>(unit, s, first, seen, p.scale);
        ptx_copy_wait<1>();
        __syncwarp();
        weigh_step<D>(unit, s, memory.kv[1]);
        __syncwarp();
        if (more) copy_tiles<D>(p, table, kv_head, 1, first + STEP_TOKENS, end, memory.kv[1], lane, 32);
        ptx_copy_commit();
    }
    part_finish(unit);
}

template <int D> static __device__ __forceinline__ void leave_part(const softmax_part<D> &unit, warp_memory<D> &memory)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float *to = memory.part[lane / 4 + half * 8];
        if (lane % 4 == 0) to[0] = unit.max[half], to[1] = unit.sum[half];
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            *(float2 *)(to + 2 + i * 8 + lane % 4 * 2) = float2{unit.acc[i][half * 2], unit.acc[i][half * 2 + 1]};
        }
    }
}

/* Two dimensions of one pair, over parts that lie `stride` floats apart. */
static __device__ __forceinline__ void join_parts(const float *part, uint64_t stride, uint32_t count, uint32_t d,
                                                  float out[4])
{
    out[0] = -INFINITY;
    out[1] = out[2] = out[3] = 0.0f;
    for (uint32_t i = 0; i < count; i++, part += stride) {
        float keep, take;
        join_factors(out[0], part[0], keep, take);
        out[1] = fmaf(part[1], take, out[1] * keep);
        out[2] = fmaf(part[2 + d], take, out[2] * keep);
        out[3] = fmaf(part[3 + d], take, out[3] * keep);
    }
}

template <int D>
__global__ void __launch_bounds__(WARPS * 32, D <= 64 ? 4 : 2) decode_kernel(const cn_cuda_step *step, cn_cuda_attention p)
{
    CN_SHARED(decode_shared<D>, shared);
    const unsigned char *base = (const unsigned char *)step;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, kv_head = blockIdx.y;
    const uint32_t group = p.head_count / p.kv_head_count;
    for (uint32_t at = blockIdx.x; at < step->item_count; at += gridDim.x) {
        const cn_cuda_item item = ((const cn_cuda_item *)(base + step->items_at))[at];
        const cn_cuda_row row = ((const cn_cuda_row *)(base + step->rows_at))[item.row];
        const uint32_t end = row.position + 1, begin = item.split * SPLIT_TOKENS, left = end - begin;
        const uint32_t units = left < SPLIT_TOKENS ? (left + UNIT_TOKENS - 1) / UNIT_TOKENS : WARPS;
        if (warp < units) {
            const uint16_t *heads = p.q + ((uint64_t)item.row * p.head_count + kv_head * group) * D;
            const uint32_t *table = p.tables + (uint64_t)row.slot * p.pages_per_slot;
            uint32_t q[D / 16][4];
            softmax_part<D> unit;
            part_clear(unit);
            load_q<D>(lane / 4 < group ? heads + lane / 4 * D : nullptr,
                      lane / 4 + 8 < group ? heads + (lane / 4 + 8) * D : nullptr, q);
            attend_unit<D>(p, table, kv_head, begin + warp * UNIT_TOKENS, end, q, shared.warps[warp], unit);
            leave_part(unit, shared.warps[warp]);
        }
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < group * D / 2; i += WARPS * 32) {
            const uint32_t pair = i / (D / 2), d = i % (D / 2) * 2;
            float part[4];
            join_parts(shared.warps[0].part[pair], sizeof(warp_memory<D>) / sizeof(float), units, d, part);
            if (row.split_count == 1) {
                const uint64_t to = (uint64_t)item.row * p.out_stride + (kv_head * group + pair) * D + d;
                *(uint32_t *)(p.out + to) = ptx_pack_bf16(part[2] / part[1], part[3] / part[1]);
            } else {
                float *to = p.partials + (((uint64_t)at * p.kv_head_count + kv_head) * group + pair) * (D + 2);
                if (d == 0) to[0] = part[0], to[1] = part[1];
                to[2 + d] = part[2];
                to[3 + d] = part[3];
            }
        }
        __syncthreads();
    }
}

template <int D> __global__ void __launch_bounds__(64) merge_kernel(const cn_cuda_step *step, cn_cuda_attention p)
{
    if (blockIdx.x >= step->row_count) return;
    const cn_cuda_row row = ((const cn_cuda_row *)((const unsigned char *)step + step->rows_at))[blockIdx.x];
    if (row.item == CN_CUDA_NO_ITEM || row.split_count == 1) return;
    const uint32_t head = blockIdx.y, d = threadIdx.x * 2;
    const float *first = p.partials + ((uint64_t)row.item * p.head_count + head) * (D + 2);
    if (d >= D) return;
    float part[4];
    join_parts(first, (uint64_t)p.head_count * (D + 2), row.split_count, d, part);
    *(uint32_t *)(p.out + (uint64_t)blockIdx.x * p.out_stride + head * D + d) =
        ptx_pack_bf16(part[2] / part[1], part[3] / part[1]);
}

template <int D>
static cudaError_t decode(const cn_cuda_step *step, uint32_t item_max, const cn_cuda_attention *p, cudaStream_t stream)
{
    const gpu_grid grid = {item_max, p->kv_head_count, WARPS * 32, sizeof(decode_shared<D>)};
    return gpu_launch("decode", decode_kernel<D>, grid, stream, step, *p);
}

cudaError_t CN_CUDA(decode_launch)(const cn_cuda_step *step, uint32_t item_max, const cn_cuda_attention *p,
                                   cudaStream_t stream)
{
    if (p->head_count > CN_CUDA_GROUP_MAX * p->kv_head_count) return cudaErrorInvalidValue;
    switch (p->head_dim) {
    case 16: return decode<16>(step, item_max, p, stream);
    case 32: return decode<32>(step, item_max, p, stream);
    case 64: return decode<64>(step, item_max, p, stream);
    case 128: return decode<128>(step, item_max, p, stream);
    }
    return cudaErrorInvalidValue;
}

cudaError_t CN_CUDA(merge_launch)(const cn_cuda_step *step, uint32_t row_max, const cn_cuda_attention *p,
                                  cudaStream_t stream)
{
    const gpu_grid grid = {row_max, p->head_count, p->head_dim <= 64 ? 32u : 64u, 0};
    switch (p->head_dim) {
    case 16: return gpu_launch("merge", merge_kernel<16>, grid, stream, step, *p);
    case 32: return gpu_launch("merge", merge_kernel<32>, grid, stream, step, *p);
    case 64: return gpu_launch("merge", merge_kernel<64>, grid, stream, step, *p);
    case 128: return gpu_launch("merge", merge_kernel<128>, grid, stream, step, *p);
    }
    return cudaErrorInvalidValue;
}
