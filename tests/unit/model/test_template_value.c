#include "tests/unit/model/test_template_render.h"

#include "model/template_ast_int.h"
#include "model/template_run_int.h"
#include "model/template_sort_int.h"
#include "tests/unit/test_rng.h"

typedef struct fixture {
    cn_arena arena;
    cn_template tmpl;
    cn_err err;
    cn_run run;
} fixture;

static int open_run(void **state)
{
    static fixture f;
    static char name[] = "t";
    memset(&f, 0, sizeof f);
    cn_arena_init(&f.arena, 1 << 28);
    f.tmpl.name = name;
    f.run = (cn_run){.tmpl = &f.tmpl, .arena = &f.arena, .steps_left = 100000000, .err = &f.err};
    *state = &f;
    return 0;
}

static int close_run(void **state)
{
    fixture *f = *state;
    cn_arena_close(&f->arena);
    return 0;
}

/* Would catch a dict that loses, doubles or reorders keys, below and above the size from which it
 * is searched by hash. The model is an array. */
static void dict_agrees_with_an_array(void **state)
{
    enum { KEYS = 97 };
    cn_run *run = &((fixture *)*state)->run;
    test_rng rng = test_rng_open("template_value");
    for (int round = 0; round < 50; round++) {
        int64_t model[KEYS];
        uint32_t order[KEYS], count = 0;
        for (uint32_t i = 0; i < KEYS; i++) model[i] = -1;
        cn_dict *dict = cn_template_value_dict(run, test_rng_below(&rng, 20));
        assert_non_null(dict);
        const uint32_t used = 1 + test_rng_below(&rng, KEYS);
        for (int step = 0; step < 300; step++) {
            const uint32_t key = test_rng_below(&rng, used);
            // The same key in another guise now and then.
            const cn_value as_key = test_rng_below(&rng, 2) ? make_int(key) : make_float(key);
            if (test_rng_below(&rng, 2)) {
                if (model[key] < 0) order[count++] = key;
                model[key] = step;
                assert_true(cn_template_value_put(run, dict, as_key, make_int(step)));
            }
            const cn_entry *entry = cn_template_value_find(run, dict, as_key);
            assert_int_equal(entry != NULL, model[key] >= 0);
            if (entry) assert_int_equal(entry->value.as.integer, model[key]);
        }
        assert_int_equal(dict->count, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(dict->entries[i].value.as.integer, model[order[i]]);
        }
    }
    assert_int_equal(run->code, CN_OK);
}

/* Would catch a sort that is wrong, unstable, or reverses equal items. */
static void sort_is_stable(void **state)
{
    enum { MOST = 70 };
    cn_run *run = &((fixture *)*state)->run;
    test_rng rng = test_rng_open("template_value sort");
    for (int round = 0; round < 500; round++) {
        cn_value items[MOST];
        const uint32_t count = test_rng_below(&rng, MOST);
        const bool reverse = test_rng_below(&rng, 2);
        // 3 and 3.0 are equal, so the kind tells whether equal items kept their order.
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t number = test_rng_below(&rng, 8);
            items[i] = test_rng_below(&rng, 2) ? make_int(number) : make_float(number);
        }
        const cn_value sorted =
            cn_template_sort_items(run, make_items(CN_LIST, items, count), reverse, NULL, NULL);
        assert_int_equal(sorted.len, count);
        uint32_t at = 0;
        for (int i = 0; i < 8; i++) {
            const int number = reverse ? 7 - i : i;
            for (uint32_t k = 0; k < count; k++) {
                if (real_of(items[k]) != number) continue;
                assert_int_equal(sorted.as.items[at].kind, items[k].kind);
                assert_true(real_of(sorted.as.items[at++]) == number);
            }
        }
        assert_int_equal(at, count);
    }
}

/* Would catch appending in place that changes a value which somebody else still holds. */
static void growing_does_not_change_older_values(void **state)
{
    enum { VALUES = 40 };
    cn_run *run = &((fixture *)*state)->run;
    test_rng rng = test_rng_open("template_value grow");
    static char model[VALUES][20000];
    const char *at[VALUES];
    size_t len[VALUES];
    for (uint32_t i = 0; i < VALUES; i++) {
        at[i] = "";
        len[i] = 0;
    }
    for (int step = 0; step < 20000; step++) {
        const uint32_t from = test_rng_below(&rng, VALUES), to = test_rng_below(&rng, VALUES);
        char piece[200];
        const size_t more = test_rng_below(&rng, sizeof piece);
        memset(piece, 'a' + step % 26, more);
        if (len[from] + more > sizeof model[0]) continue;
        char *grown = cn_template_run_grow(run, at[from], len[from], more);
        assert_non_null(grown);
        if (more) memcpy(grown + len[from], piece, more);
        memmove(model[to], model[from], len[from]);
        memcpy(model[to] + len[from], piece, more);
        len[to] = len[from] + more;
        at[to] = grown;
        const uint32_t check = test_rng_below(&rng, VALUES);
        assert_memory_equal(at[check], model[check], len[check]);
    }
    for (uint32_t i = 0; i < VALUES; i++) assert_memory_equal(at[i], model[i], len[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dict_agrees_with_an_array, open_run, close_run),
        cmocka_unit_test_setup_teardown(sort_is_stable, open_run, close_run),
        cmocka_unit_test_setup_teardown(growing_does_not_change_older_values, open_run, close_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
