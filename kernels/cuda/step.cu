/* step: the small kernels around the layers: page tables, embedding, the rows that go on.
 *   apply      tables[slot][index] = page for each delta; of two for the same entry the later one counts
 *   page_copy  one whole page, 16 bytes per thread; a launch per page keeps the order of copies
 *   history    counts[token] of one slot; integer additions, so their order does not matter
 *   embed      x[r] = float(embedding of the row's token), gathered from packed weights: a token's row is
 *              32-byte sectors of a quarter used, 4 * dim bytes read for 2 * dim, once per row and step
 *   gather     rows that somebody wants, before the last product of the last layer */
#include "kernels/cuda/launch.cuh"

#include "kernels/cuda/kernels_int.h"

static __device__ __forceinline__ const void *part_of(const cn_cuda_step *step, uint32_t at)
{
    return (const unsigned char *)step + at;
}

__global__ void apply_kernel(const cn_cuda_step *step, uint32_t *tables, uint32_t pages_per_slot)
{
    const cn_page_delta *deltas = (const cn_page_delta *)part_of(step, step->deltas_at);
    const uint32_t count = step->delta_count;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const cn_page_delta mine = deltas[i];
        bool last = true;
        for (uint32_t j = i + 1; j < count; j++) {
            last = last && (deltas[j].slot.v != mine.slot.v || deltas[j].index != mine.index);
        }
        if (last) tables[(uint64_t)mine.slot.v * pages_per_slot + mine.index] = mine.page.v;
    }
}

cudaError_t CN_CUDA(apply_launch)(const cn_cuda_step *step, uint32_t delta_max, uint32_t *tables,
                                  uint32_t pages_per_slot, cudaStream_t stream)
{
    const gpu_grid grid = {(delta_max + 127) / 128, 1, 128, 0};
    return gpu_launch("apply", apply_kernel, grid, stream, step, tables, pages_per_slot);
}

__global__ void page_copy_kernel(const uint4 *from, uint4 *to, uint64_t count)
{
    const uint64_t first = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (uint64_t i = first; i < count; i += (uint64_t)gridDim.x * blockDim.x) to[i] = from[i];
}

cudaError_t CN_CUDA(page_copy_launch)(unsigned char *pages, uint64_t page_bytes, uint32_t from, uint32_t to,
                                      cudaStream_t stream)
{
    const uint64_t count = page_bytes / sizeof(uint4), blocks = (count + 255) / 256;
    const gpu_grid grid = {(uint32_t)(blocks < 264 ? blocks : 264), 1, 256, 0};
    return gpu_launch("page_copy", page_copy_kernel, grid, stream, (const uint4 *)(pages + from * page_bytes),
                      (uint4 *)(pages + to * page_bytes), count);
}

__global__ void history_kernel(const cn_cuda_settings *s, uint32_t *counts, uint32_t vocab)
{
    const uint32_t *behind = (const uint32_t *)(s + 1);
    const uint32_t *history = behind + 2 * s->bias_count + s->ban_count;
    for (uint32_t i = threadIdx.x; i < vocab; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < s->history_count; i += blockDim.x) {
        atomicOr(&counts[history[i]], 1u << 31);
        if (i >= s->prompt_count) atomicAdd(&counts[history[i]], 1u);
    }
}

cudaError_t CN_CUDA(history_launch)(const unsigned char *settings, uint32_t *counts, uint32_t vocab,
                                    cudaStream_t stream)
{
    return gpu_launch("history", history_kernel, gpu_grid{1, 1, 512, 0}, stream,
                      (const cn_cuda_settings *)settings, counts, vocab);
}

__global__ void embed_kernel(const cn_cuda_step *step, const uint16_t *packed, const int32_t *last_tokens,
                             float *x, uint32_t dim)
{
    if (blockIdx.x >= step->row_count) return;
    const cn_cuda_row row = ((const cn_cuda_row *)part_of(step, step->rows_at))[blockIdx.x];
    const int32_t given = row.token == CN_TOKEN_LAST ? last_tokens[row.slot] : row.token;
    // After a sample that failed there is no token; what is computed then is not looked at.
    const uint32_t token = given < 0 ? 0 : (uint32_t)given;
    for (uint32_t k = threadIdx.x * 2; k < dim; k += blockDim.x * 2) {
        const uint32_t pair = *(const uint32_t *)(packed + cn_cuda_packed_at(token, k, dim));
        *(float2 *)(x + (uint64_t)blockIdx.x * dim + k) = float2{bf16_low(pair), bf16_high(pair)};
    }
}

cudaError_t CN_CUDA(embed_launch)(const cn_cuda_step *step, uint32_t row_max, const void *packed,
                                  const int32_t *last_tokens, float *x, uint32_t dim, cudaStream_t stream)
{
    const gpu_grid grid = {row_max, 1, dim < 256 ? 32u : 128u, 0};
    return gpu_launch("embed", embed_kernel, grid, stream, step, (const uint16_t *)packed, last_tokens, x, dim);
}

__global__ void gather_kernel(const cn_cuda_step *step, const float *x, const uint16_t *att, float *x_to,
                              uint16_t *att_to, uint32_t x_stride, uint32_t att_stride)
{
    if (blockIdx.x >= step->wanted_count) return;
    const uint64_t to = blockIdx.x;
    const uint64_t from = ((const cn_cuda_wanted *)part_of(step, step->wanted_at))[to].row;
    for (uint32_t i = threadIdx.x; i < x_stride / 4; i += blockDim.x) {
        ((float4 *)(x_to + to * x_stride))[i] = ((const float4 *)(x + from * x_stride))[i];
    }
    for (uint32_t i = threadIdx.x; i < att_stride / 8; i += blockDim.x) {
        ((uint4 *)(att_to + to * att_stride))[i] = ((const uint4 *)(att + from * att_stride))[i];
    }
}

cudaError_t CN_CUDA(gather_launch)(const cn_cuda_step *step, uint32_t wanted_max, const float *x,
                                   const uint16_t *att, float *x_to, uint16_t *att_to, uint32_t x_stride,
                                   uint32_t att_stride, cudaStream_t stream)
{
    const gpu_grid grid = {wanted_max, 1, 64, 0};
    return gpu_launch("gather", gather_kernel, grid, stream, step, x, att, x_to, att_to, x_stride, att_stride);
}
