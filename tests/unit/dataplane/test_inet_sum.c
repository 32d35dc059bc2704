#include <string.h>

#include "dataplane/inet_sum.h"
#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

// RFC 1071 as it is written down: big-endian words, one after the other.
static uint16_t sum_of(const uint8_t *data, int len)
{
    uint32_t sum = 0;
    for (int i = 0; i < len; i++) {
        sum += (uint32_t)data[i] << (i & 1 ? 0 : 8);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

static uint16_t swapped(uint16_t v) { return (uint16_t)(v << 8 | v >> 8); }

// Every length around the widths that the fast one works with, at every alignment.
static void agrees_with_the_definition(void **state)
{
    (void)state;
    static uint8_t data[9300];
    test_rng rng = test_rng_open("inet_sum");
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)test_rng_below(&rng, 256);
    for (int len = 0; len < 300; len++) {
        for (int at = 0; at < 9; at++) {
            assert_int_equal(cn_inet_sum_fold(data + at, len), swapped(sum_of(data + at, len)));
        }
    }
    for (int i = 0; i < 200; i++) {
        const int at = (int)test_rng_below(&rng, 64), len = (int)test_rng_below(&rng, 9200);
        assert_int_equal(cn_inet_sum_fold(data + at, len), swapped(sum_of(data + at, len)));
    }
}

// Carries from every lane, and the two zeros: nothing is 0 only if every byte is.
static void carries_are_folded(void **state)
{
    (void)state;
    static uint8_t data[9200];
    memset(data, 0xff, sizeof data);
    for (int len = 2; len <= (int)sizeof data; len += 2) {
        assert_int_equal(cn_inet_sum_fold(data, len), 0xffff);
    }
    memset(data, 0, sizeof data);
    assert_int_equal(cn_inet_sum_fold(data, sizeof data), 0);
    static const uint8_t rfc[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};   // RFC 1071, 3
    assert_int_equal(cn_inet_sum_fold(rfc, sizeof rfc), swapped(0xddf2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_definition),
        cmocka_unit_test(carries_are_folded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
