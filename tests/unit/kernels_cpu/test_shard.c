#include "kernels/cpu/shard_int.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* The parts of a model, for random shapes against what they must add up to. */

static cn_model_spec random_spec(test_rng *rng, uint32_t ranks)
{
    const uint32_t kv_heads = test_rng_below(rng, 2) ? ranks * (1 + test_rng_below(rng, 3))
                                                     : 1u << test_rng_below(rng, 4);
    const uint32_t unit = kv_heads > ranks ? kv_heads : ranks;
    return (cn_model_spec){
        .head_count = unit * (1 + test_rng_below(rng, 4)),
        .kv_head_count = kv_heads,
        .head_dim = 2 + 2 * test_rng_below(rng, 64),
        .mlp_dim = 2 * CN_SLICES + test_rng_below(rng, 3000),
        .vocab_count = CN_SHARDS_MAX + test_rng_below(rng, 3000),
    };
}

// The parts follow one another and end where the whole ends; none is empty.
static void follow(uint32_t *end, cn_range part)
{
    assert_int_equal(part.begin, *end);
    assert_true(part.count > 0);
    *end += part.count;
}

/* Catches a head, column or word that no rank has or that two have, a query head that is apart from its KV
 * head, and a KV head without a rank that gives it out, or with two. */
static void parts_make_up_the_model(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("shard");
    for (int i = 0; i < 2000; i++) {
        const uint32_t ranks = 1u << test_rng_below(&rng, 4);
        const cn_model_spec m = random_spec(&rng, ranks);
        uint32_t heads = 0, kv_heads = 0, mlp = 0, vocab = 0;
        assert_int_equal(cn_shard_check(&m, ranks, NULL), CN_OK);
        for (uint32_t r = 0; r < ranks; r++) {
            const cn_shard s = cn_shard_of(&m, ranks, r);
            const uint32_t group = m.head_count / m.kv_head_count;
            follow(&heads, s.heads);
            follow(&mlp, s.mlp);
            follow(&vocab, s.vocab);
            if (s.first_holder) follow(&kv_heads, s.kv_heads);
            assert_int_equal(s.heads.begin / group, s.kv_heads.begin);
            assert_int_equal((s.heads.begin + s.heads.count - 1) / group,
                             s.kv_heads.begin + s.kv_heads.count - 1);
            assert_int_equal(s.heads.count % s.kv_heads.count, 0);
        }
        assert_int_equal(heads, m.head_count);
        assert_int_equal(kv_heads, m.kv_head_count);
        assert_int_equal(mlp, m.mlp_dim);
        assert_int_equal(vocab, m.vocab_count);
    }
}

static void compare_slices(uint32_t inputs, uint32_t ranks, const uint32_t *begins, const uint32_t want[CN_SLICES])
{
    for (uint32_t r = 0, slice = 0; r < ranks; r++) {
        cn_packed packed = {.in = (begins[r + 1] - begins[r] + 1) & ~1u};
        cn_shard_slice(&packed, inputs, ranks, r);
        assert_int_equal(packed.slice_count, CN_SLICES / ranks);
        assert_int_equal(packed.slice_ends[packed.slice_count - 1], packed.in);
        for (uint32_t i = 0; i < packed.slice_count; i++, slice++) {
            assert_int_equal(packed.slice_ends[i] % 2, 0);
            if (slice + 1 < CN_SLICES) {
                assert_int_equal(begins[r] + packed.slice_ends[i], want[slice]);
            } else {
                assert_int_equal(begins[r] + packed.slice_ends[i], (inputs + 1) & ~1u);
            }
        }
    }
}

/* Catches slices that lie elsewhere for another number of ranks, or that tear a pair of bf16 inputs: then
 * the bits would depend on the number of ranks. */
static void slices_are_the_same_for_all_numbers_of_ranks(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("slices");
    for (int i = 0; i < 2000; i++) {
        const cn_model_spec m = random_spec(&rng, 8);
        const uint32_t att = m.head_count * m.head_dim;
        cn_packed mlp = {.in = (m.mlp_dim + 1) & ~1u}, o = {.in = att};
        cn_shard_slice(&mlp, m.mlp_dim, 1, 0);
        cn_shard_slice(&o, att, 1, 0);
        for (uint32_t ranks = 1; ranks <= 8; ranks *= 2) {
            uint32_t heads[CN_SHARDS_MAX + 1] = {0}, columns[CN_SHARDS_MAX + 1] = {0};
            for (uint32_t r = 0; r < ranks; r++) {
                const cn_shard s = cn_shard_of(&m, ranks, r);
                heads[r + 1] = (s.heads.begin + s.heads.count) * m.head_dim;
                columns[r + 1] = s.mlp.begin + s.mlp.count;
            }
            compare_slices(att, ranks, heads, o.slice_ends);
            compare_slices(m.mlp_dim, ranks, columns, mlp.slice_ends);
        }
    }
}

/* Catches a model that is cut where it cannot be, and errors that do not say what would be right. */
static void what_does_not_divide_is_refused(void **state)
{
    static const struct {
        uint32_t heads, kv_heads, mlp, ranks;
        const char *text;
    } cases[] = {
        {6, 1, 64, 4, "devices.tensor_parallel: 4; must divide the model's 6 heads (num_attention_heads)"},
        {12, 3, 64, 2, "devices.tensor_parallel: 2; must divide the model's 3 KV heads "
                       "(num_key_value_heads), or be a multiple of them"},
        {8, 8, 15, 2, "devices.tensor_parallel: 2; the model's MLP has 15 columns (intermediate_size); "
                      "must be 16 or more"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cn_model_spec m = {.head_count = cases[i].heads, .kv_head_count = cases[i].kv_heads,
                                 .head_dim = 8, .mlp_dim = cases[i].mlp, .vocab_count = 64};
        cn_err err;
        assert_int_equal(cn_shard_check(&m, 1, NULL), CN_OK);
        assert_int_equal(cn_shard_check(&m, cases[i].ranks, &err), CN_E_UNSUPPORTED);
        assert_string_equal(err.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_make_up_the_model),
        cmocka_unit_test(slices_are_the_same_for_all_numbers_of_ranks),
        cmocka_unit_test(what_does_not_divide_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
