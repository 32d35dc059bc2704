#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "model/fingerprint.h"

enum { WEIGHTS = 64 };

static uint16_t weights[WEIGHTS];
static float frequencies[2] = {1, 0.5f};

static cn_tensor tensor_at(uint32_t at, uint64_t rows, uint64_t cols)
{
    return (cn_tensor){weights + at, rows, cols, CN_DTYPE_BF16};
}

static cn_model_spec small_spec(cn_layer_weights *layer)
{
    for (int i = 0; i < WEIGHTS; i++) weights[i] = (uint16_t)(i * 7);
    *layer = (cn_layer_weights){
        .attn_norm = tensor_at(0, 1, 4), .q = tensor_at(4, 2, 4), .k = tensor_at(12, 2, 4),
        .v = tensor_at(20, 2, 4), .o = tensor_at(28, 2, 4), .mlp_norm = tensor_at(36, 1, 4),
        .gate = tensor_at(40, 2, 4), .up = tensor_at(48, 2, 2), .down = tensor_at(52, 2, 2),
    };
    return (cn_model_spec){
        .layer_count = 1, .dim = 4, .head_count = 2, .kv_head_count = 1, .head_dim = 4,
        .mlp_dim = 2, .vocab_count = 2, .context_tokens_max = 100, .norm_eps = 1e-5f,
        .rope_inv_freq = frequencies, .rope_magnitude = 1, .embed = tensor_at(56, 1, 4),
        .final_norm = tensor_at(60, 1, 4), .head = tensor_at(56, 1, 4), .layers = layer,
    };
}

static void assert_other(const cn_model_spec *spec, const uint8_t before[CN_FINGERPRINT_BYTES])
{
    uint8_t now[CN_FINGERPRINT_BYTES];
    cn_fingerprint_model(spec, now);
    assert_memory_not_equal(now, before, sizeof now);
}

// Catches a weight that is not read: pages of one fine-tune would be taken for those of another.
static void every_weight_counts(void **state)
{
    (void)state;
    cn_layer_weights layer;
    uint8_t before[CN_FINGERPRINT_BYTES], again[CN_FINGERPRINT_BYTES];
    const cn_model_spec spec = small_spec(&layer);
    cn_fingerprint_model(&spec, before);
    for (int i = 0; i < WEIGHTS; i++) {
        weights[i] ^= 0x8000;
        assert_other(&spec, before);
        weights[i] ^= 0x8000;
    }
    cn_fingerprint_model(&spec, again);
    assert_memory_equal(again, before, sizeof before);
}

// Catches a number of the configuration that decides bits and is left out.
static void every_number_counts(void **state)
{
    (void)state;
    cn_layer_weights layer;
    uint8_t before[CN_FINGERPRINT_BYTES];
    const cn_model_spec spec = small_spec(&layer);
    cn_fingerprint_model(&spec, before);
    cn_model_spec other = spec;
    other.norm_eps = 1e-6f;
    assert_other(&other, before);
    other = spec;
    other.rope_magnitude = 2;
    assert_other(&other, before);
    other = spec;
    other.head_count = 1;
    assert_other(&other, before);
    other = spec;
    other.embed.dtype = CN_DTYPE_F16;
    assert_other(&other, before);
    other = spec;
    other.final_norm = (cn_tensor){0};
    assert_other(&other, before);
    layer.q = tensor_at(4, 4, 2);        // the same bytes in another shape
    assert_other(&spec, before);
    layer.q = tensor_at(4, 2, 4);
    layer.q_norm = layer.attn_norm;      // a tensor that was absent
    layer.attn_norm = (cn_tensor){0};
    assert_other(&spec, before);
    frequencies[1] = 0.25f;
    other = small_spec(&layer);
    assert_other(&other, before);
    frequencies[1] = 0.5f;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight_counts),
        cmocka_unit_test(every_number_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
