#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "base/map.h"
#include "tests/unit/test_rng.h"

enum { KEYS = 300, KEY_BYTES = 12 };

static char names[KEYS][KEY_BYTES];

static uint32_t name_len(uint32_t i) { return (uint32_t)strlen(names[i]); }

static int make_names(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < KEYS; i++) snprintf(names[i], KEY_BYTES, "key%u", i);
    return 0;
}

// Catches a deletion that cuts a probe sequence, growth that loses entries, and a stale value. The
// key sets of two phases differ in density, so runs wrap around the table's end as well.
static void agrees_with_model(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("map");
    for (uint32_t hint = 0; hint < 3; hint++) {
        cn_map *map;
        bool there[KEYS] = {false};
        uint64_t values[KEYS] = {0}, value;
        uint32_t count = 0;
        assert_int_equal(cn_map_open(hint * 13, test_rng_u64(&rng), &map), CN_OK);
        for (int step = 0; step < 60000; step++) {
            // Mostly few keys, now and then all of them.
            const uint32_t i = test_rng_below(&rng, step % 20000 < 15000 ? 14 : KEYS);
            switch (test_rng_below(&rng, 3)) {
            case 0:
                values[i] = test_rng_u64(&rng);
                assert_int_equal(cn_map_put(map, names[i], name_len(i), values[i]), CN_OK);
                count += !there[i];
                there[i] = true;
                break;
            case 1:
                assert_int_equal(cn_map_del(map, names[i], name_len(i)), there[i]);
                count -= there[i];
                there[i] = false;
                break;
            default:
                assert_int_equal(cn_map_find(map, names[i], name_len(i), &value), there[i]);
                if (there[i]) assert_int_equal(value, values[i]);
            }
            assert_int_equal(cn_map_count(map), count);
        }
        for (uint32_t i = 0; i < KEYS; i++) {
            assert_int_equal(cn_map_find(map, names[i], name_len(i), &value), there[i]);
        }
        cn_map_close(map);
    }
}

// A replaced key is not looked at any more: its memory may go.
static void replacing_keeps_the_new_pointer(void **state)
{
    (void)state;
    cn_map *map;
    uint64_t value = 0;
    char first[] = "same", second[] = "same";
    assert_int_equal(cn_map_open(4, 1, &map), CN_OK);
    assert_int_equal(cn_map_put(map, first, 4, 1), CN_OK);
    assert_int_equal(cn_map_put(map, second, 4, 2), CN_OK);
    memset(first, 'x', sizeof first);
    assert_true(cn_map_find(map, "same", 4, &value));
    assert_int_equal(value, 2);
    assert_int_equal(cn_map_count(map), 1);
    cn_map_close(map);
}

// Keys are bytes: a prefix, an empty key and one with a zero inside are all different.
static void keys_are_bytes(void **state)
{
    (void)state;
    cn_map *map;
    uint64_t value = 0;
    assert_int_equal(cn_map_open(4, 1, &map), CN_OK);
    assert_int_equal(cn_map_put(map, "a\0b", 3, 3), CN_OK);
    assert_int_equal(cn_map_put(map, "a", 1, 1), CN_OK);
    assert_int_equal(cn_map_put(map, "", 0, 7), CN_OK);
    assert_false(cn_map_find(map, "a\0c", 3, &value));
    assert_false(cn_map_find(map, "a\0", 2, &value));
    assert_true(cn_map_find(map, "a\0b", 3, &value) && value == 3);
    assert_true(cn_map_find(map, "", 0, &value) && value == 7);
    cn_map_close(map);
}

static void refuses_sizes_beyond_its_index(void **state)
{
    (void)state;
    cn_map *map;
    assert_int_equal(cn_map_open(UINT32_MAX, 1, &map), CN_E_MEMORY);
    assert_null(map);
    cn_map_close(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_model),
        cmocka_unit_test(replacing_keeps_the_new_pointer),
        cmocka_unit_test(keys_are_bytes),
        cmocka_unit_test(refuses_sizes_beyond_its_index),
    };
    return cmocka_run_group_tests(tests, make_names, NULL);
}
