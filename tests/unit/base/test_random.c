#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "base/clock.h"
#include "base/random.h"

// The first three numbers of SplitMix64 from seed 0, from the authors' splitmix64.c.
static void seeded_is_splitmix64(void **state)
{
    (void)state;
    uint64_t seed = 0;
    const cn_random random = cn_random_seeded(&seed);
    assert_true(cn_random_u64(&random) == 0xE220A8397B1DCDAFu);
    assert_true(cn_random_u64(&random) == 0x6E789E6AA1B965F4u);
    assert_true(cn_random_u64(&random) == 0x06C45D188009454Fu);
}

// Fills exactly what it was given, and not twice with the same.
static void system_fills_exactly(void **state)
{
    (void)state;
    unsigned char bytes[80] = {0}, again[80] = {0};
    const cn_random random = cn_random_system();
    cn_random_fill(&random, bytes + 8, 64);
    cn_random_fill(&random, again + 8, 64);
    for (int i = 0; i < 8; i++) assert_true(bytes[i] == 0 && bytes[72 + i] == 0);
    assert_memory_not_equal(bytes + 8, again + 8, 64);
}

static void clocks_go_forward(void **state)
{
    (void)state;
    uint64_t now_ns = 5;
    const cn_clock system = cn_clock_system(), simulated = cn_clock_simulated(&now_ns);
    const uint64_t first_ns = cn_clock_now_ns(&system);
    assert_true(cn_clock_now_ns(&system) >= first_ns);
    assert_true(cn_clock_wall_ns(&system) > UINT64_C(1700000000) * 1000000000u);
    assert_int_equal(cn_clock_now_ns(&simulated), 5);
    now_ns = 9;
    assert_int_equal(cn_clock_now_ns(&simulated), 9);
    assert_int_equal(cn_clock_wall_ns(&simulated), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeded_is_splitmix64),
        cmocka_unit_test(system_fills_exactly),
        cmocka_unit_test(clocks_go_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
