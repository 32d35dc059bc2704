/* kernels/cpu/shard_int.h: which part of a model each rank of a group computes.
 * Query heads, KV heads, columns of the MLP and rows of the vocabulary are dealt in contiguous parts.
 * Ranks above the number of KV heads share one: each of them holds it whole.
 *
 * Threads: any, values only.
 * Memory:  none. */
#pragma once

#include "kernels/cpu/path_int.h"

enum { CN_SHARDS_MAX = CN_SLICES };

typedef struct cn_range {
    uint32_t begin, count;
} cn_range;

typedef struct cn_shard {
    cn_range heads, kv_heads, mlp, vocab;
    bool first_holder;           // of its KV heads: the one that gives them to page_io
} cn_shard;

/* Whether `rank_count` ranks, a power of two, can share the model. Errors: CN_E_UNSUPPORTED, saying what does
 * not divide. */
cn_code cn_shard_check(const cn_model_spec *spec, uint32_t rank_count, cn_err *err);

cn_shard cn_shard_of(const cn_model_spec *spec, uint32_t rank_count, uint32_t rank);

/* Gives a matrix the slices that fall on `rank`, of the CN_SLICES that its `inputs` are cut into as a
 * whole; packed->in is the rank's own part. */
void cn_shard_slice(cn_packed *packed, uint32_t inputs, uint32_t rank_count, uint32_t rank);
