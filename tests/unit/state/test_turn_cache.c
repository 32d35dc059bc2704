#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/turn_cache.h"
#include "tests/unit/test_rng.h"

enum { KEYS = 40, BYTES_MAX = 16 * 1024, STEPS = 50000 };

// Catches a record under another key, an old one, one that is lost early, and bytes that leak.
static void agrees_with_model(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("turn_cache");
    cn_turn_cache *cache;
    uint32_t value[KEYS] = {0}, len[KEYS] = {0}; // the model: 0, never put or dropped
    uint64_t used[KEYS] = {0};                   // step of the last use
    uint32_t found = 0, evicted = 0;
    assert_int_equal(cn_turn_cache_open(BYTES_MAX, 7, &cache), CN_OK);
    for (uint64_t step = 1; step <= STEPS; step++) {
        char key[16], record[2048];
        const uint32_t k = test_rng_below(&rng, KEYS), what = test_rng_below(&rng, 10);
        snprintf(key, sizeof key, "key %u", k);
        if (what < 3) {
            len[k] = 4 + test_rng_below(&rng, 1200); // some are too large to be kept
            value[k] = (uint32_t)step;
            memset(record, (int)(step & 0xFF), sizeof record);
            memcpy(record, &value[k], sizeof value[k]);
            cn_turn_cache_put(cache, key, record, len[k]);
            used[k] = step;
        } else if (what < 4) {
            cn_turn_cache_drop(cache, key);
            value[k] = 0;
        } else {
            uint32_t got_len;
            const char *got = cn_turn_cache_find(cache, key, &got_len);
            if (got) {
                assert_int_not_equal(value[k], 0);
                assert_int_equal(got_len, len[k]);
                assert_memory_equal(got, &value[k], sizeof value[k]);
                assert_int_equal((uint8_t)got[got_len - 1],
                                 got_len > 4 ? value[k] & 0xFF : (uint8_t)(value[k] >> 24));
                used[k] = step;
                found++;
            } else if (value[k]) {
                // It had to go: what was used since fills the cache, but for one record's room.
                uint64_t newer = 0;
                for (uint32_t i = 0; i < KEYS; i++) newer += used[i] > used[k] ? len[i] + 60 : 0;
                assert_true(len[k] > BYTES_MAX / 16 - 60 || newer > BYTES_MAX / 2);
                value[k] = 0;
                evicted++;
            }
        }
        assert_true(cn_turn_cache_bytes(cache) <= BYTES_MAX);
    }
    assert_true(found > 1000 && evicted > 1000);
    for (uint32_t k = 0; k < KEYS; k++) {
        char key[16];
        snprintf(key, sizeof key, "key %u", k);
        cn_turn_cache_drop(cache, key);
    }
    assert_int_equal(cn_turn_cache_bytes(cache), 0);
    cn_turn_cache_close(cache);
}

// The record that was used longest ago goes first, and no more than needed.
static void the_oldest_goes(void **state)
{
    (void)state;
    cn_turn_cache *cache;
    char record[970] = {0}, key[2] = "a";
    uint32_t len;
    assert_int_equal(cn_turn_cache_open(BYTES_MAX, 7, &cache), CN_OK);
    for (key[0] = 'a'; key[0] < 'a' + 17; key[0]++) { // 16 of them fit
        cn_turn_cache_put(cache, key, record, sizeof record);
        assert_non_null(cn_turn_cache_find(cache, "a", &len)); // in use all the time
    }
    assert_null(cn_turn_cache_find(cache, "b", &len));
    assert_non_null(cn_turn_cache_find(cache, "c", &len));
    cn_turn_cache_put(cache, "c", record, 8); // a new record takes the place of the old
    assert_non_null(cn_turn_cache_find(cache, "c", &len));
    assert_int_equal(len, 8);
    cn_turn_cache_put(cache, "d", record, 0);
    assert_non_null(cn_turn_cache_find(cache, "d", &len));
    assert_int_equal(len, 0);
    cn_turn_cache_close(cache);
    cn_turn_cache_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_model),
                                       cmocka_unit_test(the_oldest_goes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
