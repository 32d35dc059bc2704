/* qkv_post: from the product of q, k and v to what attention reads: RMS norm of each q and k head where the
 * model has one, rotation by position, q to bf16, k and v as bf16 into their pages.
 *   shapes  qkv [rows][stride] float, heads of head_pad (zeros from head_dim on); q [rows][heads][head_pad]
 *   floor   rows * (heads + 2 * kv_heads) * head_dim * 6 bytes; 64 rows of Llama-8B: 2.4 MB, 0.6 us
 *   launch  one warp per head of q, k or v of a row, 4 warps per block
 *     pairs (i, i + head_dim / 2): lane 0 has i = 0, 32, ..., lane 1 has i = 1, 33, ...
 *   order   a lane adds its pairs left to right, five exchanges join the lanes.
 *   The angles come from a table in double precision that the host filled: a float's would be off by a
 *   hundredth at position 100,000. */
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/kernels_int.h"

enum { PAIRS = 2 };              // per lane: head_dim up to 128

static __device__ __forceinline__ void load_pairs(const float *from, uint32_t half, float low[PAIRS], float high[PAIRS])
{
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const uint32_t at = threadIdx.x % 32 + i * 32;
        low[i] = at < half ? from[at] : 0.0f;
        high[i] = at < half ? from[at + half] : 0.0f;
    }
}

static __device__ __forceinline__ void norm_pairs(const float *w, uint32_t half, float eps, float low[PAIRS],
                                                  float high[PAIRS])
{
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) sum = fmaf(high[i], high[i], fmaf(low[i], low[i], sum));
    const float scale = 1.0f / sqrtf(warp_sum(sum) / (float)(2 * half) + eps);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const uint32_t at = threadIdx.x % 32 + i * 32;
        if (at >= half) break;
        low[i] = low[i] * scale * w[at];
        high[i] = high[i] * scale * w[at + half];
    }
}

static __device__ __forceinline__ void rotate_pairs(const float *cosine, const float *sine, uint32_t half,
                                                    float low[PAIRS], float high[PAIRS])
{
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const uint32_t at = threadIdx.x % 32 + i * 32;
        if (at >= half) break;
        const float a = low[i], b = high[i];
        low[i] = fmaf(a, cosine[at], -(b * sine[at]));
        high[i] = fmaf(b, cosine[at], a * sine[at]);
    }
}

static __device__ __forceinline__ uint16_t to_bf16(float x) { return (uint16_t)ptx_pack_bf16(x, 0.0f); }

/* Element d of the row lies at row[d], or, in a page, in its chunk of the tile. */
template <bool in_page>
static __device__ __forceinline__ void store_pairs(unsigned char *to, uint32_t token, uint32_t half, uint32_t head_pad,
                                                   const float low[PAIRS], const float high[PAIRS])
{
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const uint32_t at = threadIdx.x % 32 + i * 32;
        if (at >= head_pad / 2) break;
        for (uint32_t side = 0; side < 2; side++) {
            // What is behind head_dim is zero: at >= half has loaded zeros and goes there.
            const uint32_t d = at < half ? at + side * half : 2 * half + (at - half) * 2 + side;
            const uint16_t value = to_bf16(side ? high[i] : low[i]);
            if (in_page) *(uint16_t *)(to + cn_cuda_tile_at(head_pad, token, d / 8) + d % 8 * 2) = value;
            else ((uint16_t *)to)[d] = value;
        }
    }
}

__global__ void __launch_bounds__(128) qkv_post_kernel(const cn_cuda_step *step, cn_cuda_post p)
{
    const uint32_t head = blockIdx.y * 4 + threadIdx.x / 32, half = p.head_dim / 2;
    if (blockIdx.x >= step->row_count || head >= p.head_count + 2 * p.kv_head_count) return;
    const cn_cuda_row row = ((const cn_cuda_row *)((const unsigned char *)step + step->rows_at))[blockIdx.x];
    const bool is_q = head < p.head_count, is_k = !is_q && head < p.head_count + p.kv_head_count;
    float low[PAIRS], high[PAIRS];
    load_pairs(p.qkv + (uint64_t)blockIdx.x * p.stride + head * p.head_pad, half, low, high);
    const float *norm = is_q ? p.q_norm : is_k ? p.k_norm : nullptr;
    if (norm) norm_pairs(norm, half, p.eps, low, high);
    if (is_q || is_k) {
        const uint64_t at = (uint64_t)row.position * half;
        rotate_pairs(p.cosine + at, p.sine + at, half, low, high);
    }
    if (is_q) {
        const uint64_t at = ((uint64_t)blockIdx.x * p.head_count + head) * p.head_pad;
        store_pairs<false>((unsigned char *)(p.q + at), 0, half, p.head_pad, low, high);
        return;
    }
    const uint32_t kv_head = (head - p.head_count) % p.kv_head_count;
    const uint32_t page = p.tables[(uint64_t)row.slot * p.pages_per_slot + row.position / CN_PAGE_TOKENS];
    const uint64_t tile_bytes = (uint64_t)CN_PAGE_TOKENS * p.head_pad * 2;
    unsigned char *tile = p.pages + page * p.page_bytes + p.layer_offset + (kv_head * 2 + (is_k ? 0 : 1)) * tile_bytes;
    store_pairs<true>(tile, row.position % CN_PAGE_TOKENS, half, p.head_pad, low, high);
}

cudaError_t CN_CUDA(qkv_post_launch)(const cn_cuda_step *step, uint32_t row_max, const cn_cuda_post *p,
                                     cudaStream_t stream)
{
    if (p->head_dim % 2 != 0 || p->head_dim > p->head_pad || p->head_pad > 64 * PAIRS) return cudaErrorInvalidValue;
    const gpu_grid grid = {row_max, (p->head_count + 2 * p->kv_head_count + 3) / 4, 128, 0};
    return gpu_launch("qkv_post", qkv_post_kernel, grid, stream, step, *p);
}
