#include <string.h>

#include "dataplane/lwip_pool.h"
#include "dataplane/transport_held_int.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

static void open_pool(uint64_t data_bytes)
{
    const cn_lwip_pool_options options = {data_bytes, 400, 4, false};
    assert_int_equal(cn_lwip_pool_open(&options, NULL), CN_OK);
}

static uint8_t byte_at(uint64_t at) { return (uint8_t)(at * 7 + (at >> 8)); }

// What is added comes out in order, whatever the pieces are; the model is two counters.
static void bytes_come_out_in_order(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("transport_held");
    cn_transport_held held = {0};
    static uint8_t piece[1460];
    uint64_t added = 0, popped = 0;
    uint32_t len;
    open_pool(4 << 20);
    for (int step = 0; step < 20000; step++) {
        if (added - popped < 100000 && test_rng_below(&rng, 2)) {
            const uint32_t n = 1 + test_rng_below(&rng, test_rng_below(&rng, 2) ? 20 : sizeof piece);
            for (uint32_t i = 0; i < n; i++) piece[i] = byte_at(added + i);
            assert_true(cn_transport_held_add(&held, piece, n));
            added += n;
        } else {
            const uint8_t *data = cn_transport_held_peek(&held, &len);
            assert_int_equal(data != NULL, added > popped);
            if (!data) continue;
            assert_true(len > 0 && len <= added - popped);
            const uint32_t n = test_rng_below(&rng, len + 1);
            for (uint32_t i = 0; i < n; i++) assert_int_equal(data[i], byte_at(popped + i));
            cn_transport_held_pop(&held, n);
            popped += n;
        }
    }
    assert_int_equal(cn_transport_held_drop(&held), added - popped);
    assert_null(cn_transport_held_peek(&held, &len));
    assert_int_equal(cn_lwip_pool_used_bytes(), 0);
    cn_lwip_pool_close();
}

// Single bytes share blocks: a peer that sends them one by one costs no more than one that does not.
static void small_pieces_share_blocks(void **state)
{
    (void)state;
    cn_transport_held held = {0};
    open_pool(4 << 20);
    for (uint32_t i = 0; i < 10000; i++) {
        const uint8_t one = byte_at(i);
        assert_true(cn_transport_held_add(&held, &one, 1));
    }
    assert_true(cn_lwip_pool_used_bytes() < 11000);
    assert_int_equal(cn_transport_held_drop(&held), 10000);
    cn_lwip_pool_close();
}

static void no_memory_is_said(void **state)
{
    (void)state;
    cn_transport_held held = {0};
    static const uint8_t piece[1000];
    open_pool(64 << 10);
    uint32_t count = 0;
    while (cn_transport_held_add(&held, piece, sizeof piece)) count++;
    assert_true(count > 10 && count < 64);
    assert_true(cn_transport_held_drop(&held) >= count * sizeof piece);
    assert_true(cn_transport_held_add(&held, piece, sizeof piece));
    cn_transport_held_drop(&held);
    assert_int_equal(cn_lwip_pool_used_bytes(), 0);
    cn_lwip_pool_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_in_order),
        cmocka_unit_test(small_pieces_share_blocks),
        cmocka_unit_test(no_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
