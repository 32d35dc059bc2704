/* tests/identity/random_model.h: a small model with random weights, made in memory.
 *
 * Threads: one.
 * Memory:  one block, freed by random_model_close. */
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"
#include "tests/unit/test_rng.h"

enum { RANDOM_MODEL_LAYERS_MAX = 4 };

typedef struct random_model {
    cn_model_spec spec;
    cn_layer_weights layers[RANDOM_MODEL_LAYERS_MAX];
    float inv_freq[128];
    char *memory;
    size_t used, capacity;
} random_model;

static inline float random_model_weight(test_rng *rng)
{
    return ((float)(test_rng_u64(rng) >> 40) / 16777216.0f - 0.5f) * 0.5f;
}

static inline cn_tensor random_model_tensor(random_model *m, test_rng *rng, cn_dtype dtype,
                                            uint64_t rows, uint64_t cols, float center)
{
    const size_t size = dtype == CN_DTYPE_F32 ? 4 : 2;
    char *at = m->memory + m->used;
    m->used += (rows * cols * size + 63) & ~(size_t)63;
    if (m->used > m->capacity) abort();
    for (uint64_t i = 0; i < rows * cols; i++) {
        const float value = center + random_model_weight(rng);
        uint32_t bits;
        memcpy(&bits, &value, 4);
        const uint16_t high = (uint16_t)(bits >> 16);
        if (dtype == CN_DTYPE_F32) memcpy(at + i * 4, &value, 4);
        else memcpy(at + i * 2, &high, 2);
    }
    return (cn_tensor){at, rows, cols, dtype};
}

enum { RANDOM_MODEL_SHAPES = 3, RANDOM_MODEL_SHARED_SHAPES = 3 };

/* `dtype` is F32 or BF16; `pick` one of the shapes, of which those from RANDOM_MODEL_SHAPES on can be shared
 * by 8 ranks, with more, as many and fewer KV heads, and sizes that do not divide. */
static inline void random_model_open_as(random_model *m, test_rng *rng, cn_dtype dtype, uint32_t pick)
{
    static const struct {
        uint32_t layers, dim, heads, kv_heads, head_dim, mlp, vocab;
        bool qk_norm, tied;
    } shapes[] = {
        {2, 64, 4, 2, 16, 96, 101, false, true},
        {3, 72, 6, 1, 20, 100, 97, true, false},
        {2, 48, 3, 3, 32, 64, 259, true, true},
        {2, 56, 16, 16, 6, 99, 131, true, false},
        {2, 64, 8, 4, 16, 100, 101, false, true},
        {2, 40, 8, 1, 20, 70, 97, true, true},
    };
    const uint32_t dim = shapes[pick].dim, hd = shapes[pick].head_dim, mlp = shapes[pick].mlp;
    const uint32_t q_rows = shapes[pick].heads * hd, kv_rows = shapes[pick].kv_heads * hd;
    memset(m, 0, sizeof *m);
    m->capacity = 4 << 20;
    m->memory = malloc(m->capacity);
    if (!m->memory) abort();
    m->spec = (cn_model_spec){
        .layer_count = shapes[pick].layers, .dim = dim, .head_count = shapes[pick].heads,
        .kv_head_count = shapes[pick].kv_heads, .head_dim = hd, .mlp_dim = mlp,
        .vocab_count = shapes[pick].vocab, .context_tokens_max = 1024, .norm_eps = 1e-5f,
        .rope_inv_freq = m->inv_freq, .rope_magnitude = 1.0f, .layers = m->layers,
    };
    for (uint32_t i = 0; i < hd / 2; i++) m->inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)hd);
    m->spec.embed = random_model_tensor(m, rng, dtype, m->spec.vocab_count, dim, 0);
    m->spec.final_norm = random_model_tensor(m, rng, dtype, 1, dim, 1);
    m->spec.head = shapes[pick].tied ? m->spec.embed
                                     : random_model_tensor(m, rng, dtype, m->spec.vocab_count, dim, 0);
    for (uint32_t i = 0; i < m->spec.layer_count; i++) {
        cn_layer_weights *w = &m->layers[i];
        w->attn_norm = random_model_tensor(m, rng, dtype, 1, dim, 1);
        w->q = random_model_tensor(m, rng, dtype, q_rows, dim, 0);
        w->k = random_model_tensor(m, rng, dtype, kv_rows, dim, 0);
        w->v = random_model_tensor(m, rng, dtype, kv_rows, dim, 0);
        if (shapes[pick].qk_norm) {
            w->q_norm = random_model_tensor(m, rng, dtype, 1, hd, 1);
            w->k_norm = random_model_tensor(m, rng, dtype, 1, hd, 1);
        }
        w->o = random_model_tensor(m, rng, dtype, dim, q_rows, 0);
        w->mlp_norm = random_model_tensor(m, rng, dtype, 1, dim, 1);
        w->gate = random_model_tensor(m, rng, dtype, mlp, dim, 0);
        w->up = random_model_tensor(m, rng, dtype, mlp, dim, 0);
        w->down = random_model_tensor(m, rng, dtype, dim, mlp, 0);
    }
}

static inline void random_model_open(random_model *m, test_rng *rng, cn_dtype dtype)
{
    random_model_open_as(m, rng, dtype, test_rng_below(rng, RANDOM_MODEL_SHAPES));
}

static inline void random_model_close(random_model *m) { free(m->memory); }
