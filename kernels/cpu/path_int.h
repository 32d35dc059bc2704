/* kernels/cpu/path_int.h: the arithmetic of one instruction set, as a table of functions.
 * Every function is deterministic for its path: an output's bits depend on its own row only.
 *
 * Threads: any; every function works on the pieces that it is given.
 * Memory:  borrowed; rows of floats are padded to CN_PAD columns, zero beyond their length. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

enum {
    CN_PANEL = 16,               // columns of a packed panel
    CN_PAD = 32,                 // columns that a product writes at once
    CN_TILE_ROWS = 8,            // rows that a product keeps in registers
    CN_SLICES = 8,               // stretches of inputs that can be summed apart
    CN_QUERY_TILE = 32           // query vectors that attention handles together
};

static inline uint32_t cn_path_pad(uint32_t n) { return (n + CN_PAD - 1) / CN_PAD * CN_PAD; }

/* A weight matrix [out][in], packed for products: out padded to CN_PAD, in to even.
 *   bf16   [out / 16][in / 2][16][2]      the two inputs of a pair side by side
 *   others [out / 16][in][16]
 * An output is the sum of its inputs in ascending order. With slices, each slice of the inputs is summed
 * so, and the sums are joined as a binary tree: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). */
typedef struct cn_packed {
    const void *data;
    cn_dtype dtype;
    uint32_t out, in;            // padded
    uint32_t slice_count;        // 0: none; else a power of two
    uint32_t slice_ends[CN_SLICES];          // even, ascending, the last one `in`
} cn_packed;

typedef enum cn_epilogue {
    CN_STORE,                    // c = a w
    CN_ADD,                      // c += a w: the residual stream
    CN_SWIGLU                    // panels 2j, 2j+1 hold gate and up: c's panel j = silu(gate) * up
} cn_epilogue;

/* Columns [begin, end) of one product for `rows` rows; multiples of CN_PAD. */
typedef struct cn_product {
    cn_packed w;
    const float *a;              // [rows][a_stride]; zero between the length and w.in
    const uint16_t *a_bf16;      // the same rounded to bf16, where the path wants it, else NULL
    float *c;
    uint32_t rows, a_stride, c_stride, begin, end;
    cn_epilogue epilogue;
} cn_product;

/* One tile of queries of one sequence and one KV head against part of its pages. */
typedef struct cn_attention {
    const float *q;              // query i at q + q_offsets[i], head_dim floats, already scaled
    float *out;                  // result i at out + out_offsets[i]
    uint32_t q_offsets[CN_QUERY_TILE], out_offsets[CN_QUERY_TILE];
    uint32_t positions[CN_QUERY_TILE];       // query i sees positions 0 .. positions[i]
    uint32_t query_count;
    uint32_t head_dim;
    const unsigned char *pages;              // page p begins at pages + p * page_bytes
    const cn_page_id *table;
    uint64_t page_bytes, k_offset, v_offset; // of this layer and head in a page
    cn_dtype dtype;                          // of K and V: F32 or BF16
    uint32_t split_begin, split_end;         // splits of CN_SPLIT_TOKENS to visit
    float *partial;              // NULL: merge and finish; else [split][query][head_dim + 2] is left
    float *scratch;              // cn_path_attention_scratch floats of this thread
} cn_attention;

typedef struct cn_path {
    const char *name;
    bool wants_bf16;             // products with bf16 weights read a_bf16

    void (*product)(const cn_product *p);
    void (*to_bf16)(const float *a, uint16_t *out, uint32_t n);      // n a multiple of 16
    /* y = x * w / sqrt(mean x^2 + eps) over n; w as floats. */
    void (*rms_norm)(const float *x, const float *w, float *y, uint32_t n, float eps);
    void (*attention)(const cn_attention *t);
    /* Merges what attention left for one query, `stride` floats apart per split, in split order. */
    void (*merge)(const float *partial, uint64_t stride, uint32_t split_count, uint32_t head_dim,
                  float *out);
    /* Largest of n logits, and whether all are finite. */
    float (*row_max)(const float *logits, uint32_t n, bool *finite);
    /* Sum of e^((x - max) * scale), in a fixed order. */
    float (*row_sum_exp)(const float *logits, uint32_t n, float max, float scale);
    /* out[i] = x[i] + Gumbel noise of (seed, position, ids ? ids[i] : first_id + i). */
    void (*add_gumbel)(const float *x, float *out, uint32_t n, uint64_t seed, uint32_t position,
                       const int32_t *ids, int32_t first_id);
} cn_path;

static inline size_t cn_path_attention_scratch(uint32_t head_dim)
{
    const size_t pad = cn_path_pad(head_dim);
    return CN_QUERY_TILE * (CN_SPLIT_TOKENS + 2 * pad + 4) + 2 * CN_PAGE_TOKENS * pad;
}

extern const cn_path cn_path_portable;
extern const cn_path cn_path_avx2;
extern const cn_path cn_path_avx512;
extern const cn_path cn_path_avx512_bf16;

/* The path of that name, or the best one that this machine runs where name is NULL; NULL if the machine
 * does not have it, or if there is none of that name. */
const cn_path *cn_path_choose(const char *name);
