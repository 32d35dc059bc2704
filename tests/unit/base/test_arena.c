#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "base/arena.h"
#include "tests/unit/test_rng.h"

enum { PIECES = 500, BYTES_MAX = 1 << 20 };

// Catches pieces that overlap, that are not aligned, or that move: each is filled with its number
// and looked at again when all are there.
static void pieces_are_apart_and_aligned(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("arena");
    cn_arena arena;
    cn_arena_init(&arena, BYTES_MAX);
    for (int round = 0; round < 20; round++) {
        unsigned char *pieces[PIECES];
        size_t lens[PIECES];
        for (uint32_t i = 0; i < PIECES; i++) {
            lens[i] = test_rng_below(&rng, 900);
            pieces[i] = cn_arena_take(&arena, lens[i]);
            assert_non_null(pieces[i]);
            assert_int_equal((uintptr_t)pieces[i] % 16, 0);
            if (lens[i]) memset(pieces[i], (int)(i & 255), lens[i]);
        }
        for (uint32_t i = 0; i < PIECES; i++) {
            for (size_t n = 0; n < lens[i]; n++) assert_int_equal(pieces[i][n], i & 255);
        }
        cn_arena_reset(&arena);
    }
    cn_arena_close(&arena);
}

static void the_bound_holds(void **state)
{
    (void)state;
    cn_arena arena;
    uint64_t taken = 0;
    cn_arena_init(&arena, 100000);
    while (cn_arena_take(&arena, 1000)) taken += 1000;
    assert_true(taken > 90000 && taken <= 100000);
    assert_true(arena.total_bytes <= 100000);
    assert_null(cn_arena_take(&arena, SIZE_MAX));
    assert_null(cn_arena_take(&arena, SIZE_MAX - 15));
    assert_null(cn_arena_take_array(&arena, SIZE_MAX / 2, 3));
    assert_null(cn_arena_copy(&arena, "", SIZE_MAX));
    cn_arena_close(&arena);
    assert_non_null(cn_arena_take(&arena, 1000));    // usable again
    cn_arena_close(&arena);
}

// After the first round an arena that is used alike takes nothing from the system any more.
static void reset_settles_on_one_block(void **state)
{
    (void)state;
    cn_arena arena;
    cn_arena_init(&arena, BYTES_MAX);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) assert_non_null(cn_arena_take(&arena, 1000));
        cn_arena_reset(&arena);
    }
    const cn_arena_block *block = arena.head;
    const uint64_t bytes = arena.total_bytes;
    for (int i = 0; i < 60; i++) assert_non_null(cn_arena_take(&arena, 1000));
    assert_ptr_equal(arena.head, block);
    assert_int_equal(arena.total_bytes, bytes);
    cn_arena_close(&arena);
}

static void arrays_are_cleared_and_copies_end(void **state)
{
    (void)state;
    cn_arena arena;
    cn_arena_init(&arena, BYTES_MAX);
    memset(cn_arena_take(&arena, 4000), 0xFF, 4000);
    cn_arena_reset(&arena);
    const uint32_t *numbers = cn_arena_take_array(&arena, 100, sizeof *numbers);
    for (int i = 0; i < 100; i++) assert_int_equal(numbers[i], 0);
    assert_string_equal(cn_arena_copy(&arena, "abcdef", 3), "abc");
    assert_string_equal(cn_arena_copy(&arena, NULL, 0), "");
    cn_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_apart_and_aligned),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(reset_settles_on_one_block),
        cmocka_unit_test(arrays_are_cleared_and_copies_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
