#include <stdlib.h>
#include <string.h>

#include "dataplane/lwip_pool.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

enum { CONNECTION_BYTES = 392, DATA_BYTES = 1 << 20 };

static void open_pool(uint64_t data_bytes, bool jumbo)
{
    const cn_lwip_pool_options options = {data_bytes, CONNECTION_BYTES, 8, jumbo};
    cn_err err;
    if (cn_lwip_pool_open(&options, &err)) fail_msg("%s", err.text);
}

// No two blocks overlap, whatever is taken and given back; each keeps what was written to it.
static void blocks_are_their_holders(void **state)
{
    (void)state;
    enum { HELD_MAX = 600 };
    static struct { uint8_t *at; size_t bytes; uint8_t mark; } held[HELD_MAX];
    test_rng rng = test_rng_open("lwip_pool");
    open_pool(DATA_BYTES, true);
    uint32_t count = 0;
    for (int step = 0; step < 50000; step++) {
        if (count < HELD_MAX && test_rng_below(&rng, 2)) {
            const size_t bytes = 1 + test_rng_below(&rng, test_rng_below(&rng, 8) ? 700 : 9216);
            uint8_t *at = cn_lwip_pool_take(bytes);
            if (!at) continue;
            assert_int_equal((uintptr_t)at % 64, 0);
            held[count].at = at;
            held[count].bytes = bytes;
            held[count].mark = (uint8_t)step;
            memset(at, (uint8_t)step, bytes);
            count++;
        } else if (count) {
            const uint32_t i = test_rng_below(&rng, count);
            for (size_t k = 0; k < held[i].bytes; k++) assert_int_equal(held[i].at[k], held[i].mark);
            cn_lwip_pool_put(held[i].at);
            held[i] = held[--count];
        }
    }
    while (count) cn_lwip_pool_put(held[--count].at);
    assert_int_equal(cn_lwip_pool_used_bytes(), 0);
    cn_lwip_pool_close();
}

// Data takes from larger classes when its own is empty, and stops when all are.
static void the_bound_holds(void **state)
{
    (void)state;
    static void *blocks[DATA_BYTES / 64];
    open_pool(DATA_BYTES, false);
    uint32_t count = 0;
    while ((blocks[count] = cn_lwip_pool_take(64)) != NULL) count++;
    assert_true(cn_lwip_pool_used_bytes() <= DATA_BYTES);
    assert_true(cn_lwip_pool_used_bytes() > DATA_BYTES * 9 / 10);
    assert_int_equal(cn_lwip_pool_fill(64), 256);
    assert_int_equal(cn_lwip_pool_fill(1500), 256);
    assert_int_equal(cn_lwip_pool_refused(), 1);
    assert_null(cn_lwip_pool_take(1664));
    assert_null(cn_lwip_pool_take(1665));                // larger than any block
    // Connections are not touched by that, nor can they take from data.
    void *connections[8];
    for (int i = 0; i < 8; i++) assert_non_null(connections[i] = cn_lwip_pool_take(CONNECTION_BYTES));
    assert_null(cn_lwip_pool_take(CONNECTION_BYTES));
    cn_lwip_pool_put(connections[3]);
    assert_ptr_equal(cn_lwip_pool_take(CONNECTION_BYTES), connections[3]);
    for (int i = 0; i < 8; i++) cn_lwip_pool_put(connections[i]);
    while (count) cn_lwip_pool_put(blocks[--count]);
    assert_int_equal(cn_lwip_pool_fill(64), 0);
    assert_int_equal(cn_lwip_pool_used_bytes(), 0);
    cn_lwip_pool_close();
}

static void zeroed_is_zeroed(void **state)
{
    (void)state;
    open_pool(DATA_BYTES, false);
    uint8_t *block = cn_lwip_pool_take(256);
    memset(block, 0xaa, 256);
    cn_lwip_pool_put(block);
    block = cn_lwip_pool_take_zeroed(4, 64);
    for (int i = 0; i < 256; i++) assert_int_equal(block[i], 0);
    cn_lwip_pool_put(block);
    cn_lwip_pool_close();
}

// The system refuses address space: the error says how much was wanted.
static void no_memory_is_an_error(void **state)
{
    (void)state;
    const cn_lwip_pool_options options = {DATA_BYTES, 1 << 30, UINT32_MAX, false};
    cn_err err;
    assert_int_equal(cn_lwip_pool_open(&options, &err), CN_E_MEMORY);
    assert_non_null(strstr(err.text, "no memory for 4611686"));
    open_pool(DATA_BYTES, false);
    cn_lwip_pool_close();
}

static void there_is_one(void **state)
{
    (void)state;
    const cn_lwip_pool_options options = {DATA_BYTES, CONNECTION_BYTES, 8, false};
    cn_err err;
    open_pool(DATA_BYTES, false);
    assert_int_equal(cn_lwip_pool_open(&options, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "is open"));
    cn_lwip_pool_close();
    cn_lwip_pool_close();                                // of none: nothing
    const cn_lwip_pool_options much = {(UINT64_C(1) << 36) + 1, CONNECTION_BYTES, 8, false};
    assert_int_equal(cn_lwip_pool_open(&much, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "68719476737 bytes of data; at most 68719476736"));
    open_pool(DATA_BYTES, false);
    cn_lwip_pool_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_their_holders),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(zeroed_is_zeroed),
        cmocka_unit_test(no_memory_is_an_error),
        cmocka_unit_test(there_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
