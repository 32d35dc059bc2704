#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "state/page_pool.h"
#include "tests/unit/test_rng.h"

enum { PAGES = 7 };              // runs dry all the time, which is the point

static cn_page_pool *open_pool(void)
{
    cn_page_pool *pool;
    assert_int_equal(cn_page_pool_open(PAGES, 42, &pool), CN_OK);
    return pool;
}

static cn_page_key key_of(uint32_t n)
{
    cn_page_key key = {{0}};
    memcpy(key.bytes, &n, sizeof n);
    key.bytes[31] = 1;           // none is all zero
    return key;
}

// Catches a pool that hands out a page twice, loses one, or forgets which content a page has.
static void agrees_with_model(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("page_pool");
    cn_page_pool *pool = open_pool();
    uint32_t refs[PAGES] = {0}, content[PAGES] = {0};    // content 0: not sealed
    bool locked[PAGES] = {0};
    for (int step = 0; step < 100000; step++) {
        const uint32_t what = test_rng_below(&rng, 6), n = 1 + test_rng_below(&rng, 9);
        cn_page_id page = {test_rng_below(&rng, PAGES)};
        const cn_page_key key = key_of(n);
        uint32_t held = 0, twin = PAGES;     // held or locked
        for (uint32_t i = 0; i < PAGES; i++) {
            held += refs[i] > 0 || locked[i];
            if (content[i] == n) twin = i;
        }
        assert_int_equal(cn_page_pool_available(pool), PAGES - held);
        if (what == 4) {
            const bool found = cn_page_pool_lock(pool, &key, &page);
            assert_int_equal(found, twin < PAGES);
            if (!found) continue;
            assert_int_equal(page.v, twin);
            if (locked[page.v]) cn_page_pool_unlock(pool, page);     // once is enough for the model
            locked[page.v] = true;
        } else if (what == 5 && locked[page.v]) {
            cn_page_pool_unlock(pool, page);
            locked[page.v] = false;
        } else if (what == 0) {
            const cn_code want = held < PAGES ? CN_OK : CN_E_PAGES;
            assert_int_equal(cn_page_pool_take(pool, &page), want);
            if (want != CN_OK) continue;
            assert_false(locked[page.v]);
            assert_int_equal(refs[page.v], 0);
            refs[page.v] = 1;
            content[page.v] = 0;
        } else if (what == 1 && refs[page.v] == 1 && content[page.v] == 0) {
            const uint32_t before = page.v;
            cn_page_pool_seal(pool, &page, &key);
            assert_int_equal(page.v, twin < PAGES ? twin : before);
            refs[before] = 0;
            refs[page.v]++;
            content[page.v] = n;
        } else if (what == 2) {
            const bool found = cn_page_pool_find(pool, &key, &page);
            assert_int_equal(found, twin < PAGES);
            if (found) assert_int_equal(page.v, twin);
            if (found) refs[page.v]++;
        } else if (what == 3 && refs[page.v] > 0) {
            cn_page_pool_put(pool, page);
            refs[page.v]--;
        }
        cn_page_pool_check(pool);
    }
    cn_page_pool_close(pool);
}

// Catches an eviction that takes a page in use a moment ago before one that was idle for long.
static void evicts_what_was_idle_longest(void **state)
{
    (void)state;
    cn_page_pool *pool = open_pool();
    cn_page_id pages[PAGES], page;
    for (uint32_t i = 0; i < PAGES; i++) {
        const cn_page_key key = key_of(i);
        assert_int_equal(cn_page_pool_take(pool, &pages[i]), CN_OK);
        cn_page_pool_seal(pool, &pages[i], &key);
    }
    const uint32_t order[PAGES] = {3, 1, 6, 0, 5, 2, 4};
    for (uint32_t i = 0; i < PAGES; i++) cn_page_pool_put(pool, pages[order[i]]);
    const cn_page_key used = key_of(3);
    assert_true(cn_page_pool_find(pool, &used, &page));      // was the oldest, now is the newest
    cn_page_pool_put(pool, page);
    const cn_page_key copied = key_of(1);
    assert_true(cn_page_pool_lock(pool, &copied, &page));    // is the oldest, and stays it
    cn_page_pool_unlock(pool, page);
    for (uint32_t i = 1; i <= PAGES; i++) {
        assert_int_equal(cn_page_pool_take(pool, &page), CN_OK);
        assert_int_equal(page.v, pages[order[i % PAGES]].v);
    }
    cn_page_pool_close(pool);
}

// Catches a key that leaves out something which decides the bytes of a page.
static void keys_differ_in_every_part(void **state)
{
    (void)state;
    cn_kv_info kv = {.layout_version = 1, .numerics = "cpu avx2 1"};
    uint8_t model[CN_FINGERPRINT_BYTES] = {0}, salt[CN_KEY_BYTES] = {0};
    int32_t tokens[CN_PAGE_TOKENS] = {1, 2, 3};
    const cn_page_key root = cn_page_key_root(&kv, model, salt), page = cn_page_key_next(&root, tokens);
    cn_page_key other = cn_page_key_next(&page, tokens);
    assert_memory_not_equal(&page, &other, sizeof page);
    tokens[15] = 1;
    other = cn_page_key_next(&root, tokens);
    assert_memory_not_equal(&page, &other, sizeof page);
    salt[31] = 1;
    other = cn_page_key_root(&kv, model, salt);
    assert_memory_not_equal(&root, &other, sizeof root);
    salt[31] = 0;
    kv.layout_version = 2;
    other = cn_page_key_root(&kv, model, salt);
    assert_memory_not_equal(&root, &other, sizeof root);
    kv.layout_version = 1;
    kv.numerics[9] = '2';
    other = cn_page_key_root(&kv, model, salt);
    assert_memory_not_equal(&root, &other, sizeof root);
    kv.numerics[9] = '1';
    kv.page_bytes = 1;
    other = cn_page_key_root(&kv, model, salt);
    assert_memory_not_equal(&root, &other, sizeof root);
    kv.page_bytes = 0;
    model[15] = 1;
    other = cn_page_key_root(&kv, model, salt);
    assert_memory_not_equal(&root, &other, sizeof root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_model),
        cmocka_unit_test(evicts_what_was_idle_longest),
        cmocka_unit_test(keys_differ_in_every_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
