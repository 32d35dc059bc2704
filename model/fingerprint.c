#include "model/fingerprint.h"

#include <assert.h>
#include <string.h>

#include <xxhash.h>

/* How it works. A chain: the digest of everything so far is hashed together with the next part. A
 * tensor is a part by its shape, its type and the digest of its bytes, so that the same numbers in
 * another shape, or shifted from one tensor into the next, give another chain. */

typedef struct chain {
    XXH128_canonical_t digest;
} chain;

static_assert(sizeof(XXH128_canonical_t) == CN_FINGERPRINT_BYTES, "XXH3-128");

static void add_bytes(chain *c, const void *data, uint64_t bytes)
{
    struct {
        XXH128_canonical_t before, part;
        uint64_t bytes;
    } link = {.before = c->digest, .bytes = bytes};
    if (bytes > 0) XXH128_canonicalFromHash(&link.part, XXH3_128bits(data, bytes));
    XXH128_canonicalFromHash(&c->digest, XXH3_128bits(&link, sizeof link));
}

static void add_tensor(chain *c, const cn_tensor *tensor)
{
    const uint64_t shape[3] = {tensor->rows, tensor->cols, tensor->dtype};
    const uint64_t width = tensor->dtype == CN_DTYPE_F32 ? 4 : 2;
    add_bytes(c, shape, tensor->data ? sizeof shape : 0);
    add_bytes(c, tensor->data, tensor->data ? tensor->rows * tensor->cols * width : 0);
}

static void add_layer(chain *c, const cn_layer_weights *layer)
{
    const cn_tensor *tensors[] = {&layer->attn_norm, &layer->q, &layer->k, &layer->v,
                                  &layer->q_norm, &layer->k_norm, &layer->o, &layer->mlp_norm,
                                  &layer->gate, &layer->up, &layer->down};
    static_assert(sizeof *layer == sizeof tensors / sizeof *tensors * sizeof(cn_tensor), "all");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) add_tensor(c, tensors[i]);
}

void cn_fingerprint_model(const cn_model_spec *spec, uint8_t out[CN_FINGERPRINT_BYTES])
{
    chain c = {0};
    // context_tokens_max is left out: it bounds positions and changes none.
    const uint32_t shape[] = {spec->layer_count, spec->dim, spec->head_count, spec->kv_head_count,
                              spec->head_dim, spec->mlp_dim, spec->vocab_count};
    const float numbers[] = {spec->norm_eps, spec->rope_magnitude};
    add_bytes(&c, shape, sizeof shape);
    add_bytes(&c, numbers, sizeof numbers);
    add_bytes(&c, spec->rope_inv_freq, spec->head_dim / 2 * sizeof *spec->rope_inv_freq);
    add_tensor(&c, &spec->embed);
    add_tensor(&c, &spec->final_norm);
    add_tensor(&c, &spec->head);
    for (uint32_t i = 0; i < spec->layer_count; i++) add_layer(&c, &spec->layers[i]);
    memcpy(out, &c.digest, CN_FINGERPRINT_BYTES);
}
