/* kernels/cuda/kernels_int.h: what the host code and the kernels agree on: the step as the device reads
 * it, the layout of weights and pages, and one launcher per kernel.
 * Everything here is compiled twice, for a GPU and for the emulator, under two prefixes (CN_CUDA).
 *
 * Threads: launchers by the thread that owns the stream.
 * Memory:  launchers allocate nothing; all pointers are the device's unless said otherwise. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus) && !defined(__clang__)
#include <atomic>
using std::atomic_uint;          // base/wake.h is C11; in clang this is the compiler's own
#endif
#include "kernels/backend.h"

#if defined(CN_EMU)
#include "kernels/emu/runtime.h"
#define CN_CUDA(name) cn_cuda_emu_##name
#else
#include <cuda_runtime_api.h>
#define CN_CUDA(name) cn_cuda_##name
#endif

#if defined(__CUDACC__)
#define CN_BOTH static __host__ __device__ __forceinline__
#else
#define CN_BOTH static inline
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CN_CUDA_UNIT_TOKENS = 64,    // of a split: what one warp attends to by itself (attention.cuh)
    CN_CUDA_TILE_PAIRS = 64,     // (token, query head) pairs of a prefill tile
    CN_CUDA_OUT_TILE = 32,       // outputs that lie together in packed weights
    CN_CUDA_IN_GROUP = 32,       // inputs that lie together in packed weights
    CN_CUDA_SLICES = 8,          // parts of the inputs whose sums are added in order
    CN_CUDA_HEAD_DIM_MAX = 128,
    CN_CUDA_GROUP_MAX = 16,      // query heads of a KV head that decode handles; more go to prefill
    CN_CUDA_NO_ITEM = 0x7FFFFFFF
};

CN_BOTH uint32_t cn_cuda_pad(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }

/* head_dim as kernels see it: the next of 16, 32, 64, 128. */
CN_BOTH uint32_t cn_cuda_head_pad(uint32_t head_dim)
{
    uint32_t pad = 16;
    while (pad < head_dim) pad *= 2;
    return pad;
}

/* Where element (out, in) of a matrix lies in packed weights, counted in elements. A lane's 16 bytes are
 * its operands of one mma; inputs are dealt so that 16 bytes of an activation row are a lane's operands
 * of two mma in a row (gemm.cu has the picture). `in` is padded to CN_CUDA_IN_GROUP. */
CN_BOTH uint64_t cn_cuda_packed_at(uint32_t out, uint32_t in_index, uint32_t in)
{
    const uint32_t k = in_index % CN_CUDA_IN_GROUP, row = out % 16;
    const uint32_t quad = k / 8, step = k / 4 % 2, half = k / 2 % 2;
    const uint64_t group = (uint64_t)(out / CN_CUDA_OUT_TILE) * (in / CN_CUDA_IN_GROUP) +
                           in_index / CN_CUDA_IN_GROUP;
    const uint32_t fragment = out / 16 % 2 * 2 + step, lane = row % 8 * 4 + quad;
    return ((group * 4 + fragment) * 32 + lane) * 8 + (row / 8 + half * 2) * 2 + k % 2;
}

/* Byte offset of 16-byte chunk `chunk` of token `row` in a tile of K or V, [16 tokens][head_dim] bf16:
 * blocks of 8 chunks (one 128-byte row of banks), chunks exchanged so that ldmatrix meets no conflict. */
CN_BOTH uint32_t cn_cuda_tile_at(uint32_t head_dim, uint32_t row, uint32_t chunk)
{
    const uint32_t width = head_dim / 8 < 8 ? head_dim / 8 : 8;
    return (chunk / width * 16 * width + row * width + ((chunk % width) ^ (row * width / 8 & (width - 1)))) * 16;
}

/* ---- the step: one block of memory, its parts at offsets in bytes -------------------------------- */

typedef struct cn_cuda_row {     // one token
    uint32_t slot, position;
    int32_t token;               // id or CN_TOKEN_LAST
    uint32_t item, split_count;  // first item of a decoding row, or CN_CUDA_NO_ITEM
} cn_cuda_row;

typedef struct cn_cuda_item {    // one split of a decoding row
    uint32_t row, split;
} cn_cuda_item;

typedef struct cn_cuda_tile {    // pairs [begin, begin + count) of the rows of one sequence, from `row` on
    uint32_t row, begin, count;
} cn_cuda_tile;

typedef struct cn_cuda_wanted {  // a row whose logits somebody wants
    uint32_t row, slot, position;
    int32_t target;              // -1: none
    uint32_t sample;             // 0 or 1
    uint32_t output;             // index of its first output
} cn_cuda_wanted;

typedef struct cn_cuda_step {
    uint32_t row_count, wanted_count, item_count, tile_count, delta_count;
    uint32_t rows_at, wanted_at, items_at, tiles_at, deltas_at;
    uint32_t bytes, unused;
} cn_cuda_step;

/* Settings of a slot; behind it bias ids, bias values, banned ids and the history, all 4 bytes each. */
typedef struct cn_cuda_settings {
    float temperature, top_p, min_p;
    uint32_t top_k;
    float repetition_penalty, presence_penalty, frequency_penalty;
    uint32_t penalises;
    uint64_t seed;
    uint32_t logprob_count, bias_count, ban_count, ban_until_position;
    uint32_t prompt_count, history_count;
} cn_cuda_settings;

/* ---- kernels: true, or the reason is in cudaError_t ----------------------------------------------- */

typedef struct cn_cuda_attention {
    const uint16_t *q;           // [rows][heads][head_dim]
    uint16_t *out;               // [rows][out_stride]
    const unsigned char *pages;
    const uint32_t *tables;      // [slot][pages_per_slot]
    uint64_t page_bytes, layer_offset;
    float *partials;             // [item][kv_head][group][head_dim + 2]
    uint32_t out_stride, pages_per_slot, head_count, kv_head_count, head_dim;
    float scale;                 // of the scores, times log2(e)
} cn_cuda_attention;

typedef struct cn_cuda_post {
    const float *qkv;            // [rows][stride]: q, k and v heads of head_pad each
    uint16_t *q;                 // [rows][heads][head_pad]
    unsigned char *pages;
    const uint32_t *tables;
    const float *cosine, *sine;  // [position][head_dim / 2]
    const float *q_norm, *k_norm;    // or NULL
    uint64_t page_bytes, layer_offset;
    uint32_t stride, pages_per_slot, head_count, kv_head_count, head_dim, head_pad;
    float eps;
} cn_cuda_post;

typedef enum cn_cuda_epilogue {
    CN_CUDA_STORE,               // float c = a w
    CN_CUDA_ADD,                 // float c += a w
    CN_CUDA_SWIGLU               // bf16 c = silu(gate) * up, gate and up in turns of 8 outputs
} cn_cuda_epilogue;

typedef struct cn_cuda_product {
    const void *w;               // packed
    const uint16_t *a;           // [rows][in] bf16; 7 rows behind the last are read as well
    void *c;                     // [rows][c_stride]
    const uint32_t *row_count;   // of a; rows of c behind them are left alone
    uint32_t first_row;          // of a; row 0 of c
    uint32_t row_max, in, out, c_stride;
    cn_cuda_epilogue epilogue;
} cn_cuda_product;

typedef struct cn_cuda_sampler {
    const cn_cuda_step *step;
    float *logits;               // [rows][stride]; changed
    uint32_t first, row_max;     // wanted rows [first, first + row_max) are logits' rows 0, 1, ...
    uint32_t vocab, stride;
    const unsigned char *settings;   // [slot][settings_bytes]
    uint64_t settings_bytes;
    uint32_t *counts;            // [slot][vocab]: occurrences in the answer; top bit: occurred at all
    int32_t *last_tokens;        // [slot]
    cn_step_output *outputs;     // of the host, mapped
} cn_cuda_sampler;

cudaError_t CN_CUDA(apply_launch)(const cn_cuda_step *step, uint32_t delta_max, uint32_t *tables,
                                  uint32_t pages_per_slot, cudaStream_t stream);
cudaError_t CN_CUDA(page_copy_launch)(unsigned char *pages, uint64_t page_bytes, uint32_t from, uint32_t to,
                                      cudaStream_t stream);
/* Counts what the history of a slot that was just opened holds. */
cudaError_t CN_CUDA(history_launch)(const unsigned char *settings, uint32_t *counts, uint32_t vocab,
                                    cudaStream_t stream);
cudaError_t CN_CUDA(embed_launch)(const cn_cuda_step *step, uint32_t row_max, const void *packed,
                                  const int32_t *last_tokens, float *x, uint32_t dim, cudaStream_t stream);
/* y = bf16(x * w / sqrt(mean x^2 + eps)) for rows [first, first + row_max) below *row_count; dim floats
 * count for the mean, `stride` is a multiple of 32 and w zero behind dim. */
cudaError_t CN_CUDA(rms_norm_launch)(const float *x, const float *w, uint16_t *y, const uint32_t *row_count,
                                     uint32_t row_max, uint32_t dim, uint32_t stride, float eps,
                                     cudaStream_t stream);
cudaError_t CN_CUDA(gemm_launch)(const cn_cuda_product *p, cudaStream_t stream);
cudaError_t CN_CUDA(qkv_post_launch)(const cn_cuda_step *step, uint32_t row_max, const cn_cuda_post *p,
                                     cudaStream_t stream);
cudaError_t CN_CUDA(decode_launch)(const cn_cuda_step *step, uint32_t item_max, const cn_cuda_attention *p,
                                   cudaStream_t stream);
/* After decode: rows with more than one split. */
cudaError_t CN_CUDA(merge_launch)(const cn_cuda_step *step, uint32_t row_max, const cn_cuda_attention *p,
                                  cudaStream_t stream);
cudaError_t CN_CUDA(prefill_launch)(const cn_cuda_step *step, uint32_t tile_max, const cn_cuda_attention *p,
                                    cudaStream_t stream);
/* The wanted rows of x and attention, one below the other. */
cudaError_t CN_CUDA(gather_launch)(const cn_cuda_step *step, uint32_t wanted_max, const float *x,
                                   const uint16_t *att, float *x_to, uint16_t *att_to, uint32_t x_stride,
                                   uint32_t att_stride, cudaStream_t stream);
cudaError_t CN_CUDA(sample_launch)(const cn_cuda_sampler *p, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
