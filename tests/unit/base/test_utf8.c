#include "tests/unit/cmocka_all.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/test_rng.h"

/* The reference decodes first and judges afterwards: the shortest form of a scalar value that is not a
 * surrogate. It shares nothing with the byte ranges of base/utf8.c. */
static size_t reference_len(const unsigned char *at, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t want = at[0] < 0x80 ? 1 : at[0] >> 5 == 6 ? 2 : at[0] >> 4 == 14 ? 3 : at[0] >> 3 == 30 ? 4 : 0;
    if (want == 0 || want > len) return 0;
    if (want == 1) return 1;
    uint32_t value = at[0] & (0x7Fu >> want);
    for (size_t i = 1; i < want; i++) {
        if (at[i] >> 6 != 2) return 0;
        value = value << 6 | (at[i] & 0x3Fu);
    }
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    return value >= least[want] && value <= 0x10FFFF && !surrogate ? want : 0;
}

// Whether some bytes can follow that make a well-formed sequence.
static bool can_go_on(const unsigned char *at, size_t len)
{
    static const unsigned char fills[] = {0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF};
    unsigned char whole[4];
    memcpy(whole, at, len);
    for (size_t want = len + 1; want <= 4; want++) {
        for (uint32_t i = 0; i < sizeof fills; i++) {
            memset(whole + len, 0x80, 4 - len);
            whole[len] = fills[i];
            if (reference_len(whole, want) == want) return true;
        }
    }
    return false;
}

static size_t reference_bad_len(const unsigned char *at, size_t len)
{
    size_t n = 1;
    if (!can_go_on(at, 1)) return 1;
    while (n < len && n < 3 && can_go_on(at, n + 1)) n++;
    return n;
}

static size_t reference_partial_len(const unsigned char *text, size_t len)
{
    for (size_t back = len < 3 ? len : 3; back > 0; back--) {
        const unsigned char *at = text + len - back;
        if (reference_len(at, back) == 0 && at[0] >= 0xC0 && can_go_on(at, back)) return back;
    }
    return 0;
}

static void check(const unsigned char *bytes, size_t len)
{
    const char *text = (const char *)bytes;
    const size_t expected = reference_len(bytes, len);
    assert_int_equal(cn_utf8_len(text, len), expected);
    if (expected == 0) assert_int_equal(cn_utf8_bad_len(text, len), reference_bad_len(bytes, len));
    assert_int_equal(cn_utf8_partial_len(text, len), reference_partial_len(bytes, len));
}

// Every start of two bytes, with every interesting third and fourth.
static void agrees_with_a_simple_decoder(void **state)
{
    (void)state;
    static const unsigned char tails[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                          0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xF5, 0xFF};
    unsigned char bytes[4];
    for (uint32_t two = 0; two < 65536; two++) {
        bytes[0] = (unsigned char)(two >> 8);
        bytes[1] = (unsigned char)two;
        check(bytes, 1);
        check(bytes, 2);
        for (uint32_t i = 0; i < sizeof tails; i++) {
            bytes[2] = tails[i];
            check(bytes, 3);
            bytes[3] = tails[(i * 7 + two) % sizeof tails];
            check(bytes, 4);
        }
    }
}

// A stream cut anywhere, with what partial_len says held back, gives whole characters on both sides.
static void a_cut_is_never_inside_a_character(void **state)
{
    (void)state;
    const char text[] = "a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x90\x95z";
    for (size_t cut = 1; cut < sizeof text; cut++) {
        size_t at = 0;
        const size_t whole = cut - cn_utf8_partial_len(text, cut);
        while (at < whole) {
            const size_t step = cn_utf8_len(text + at, whole - at);
            assert_true(step > 0);
            at += step;
        }
        assert_int_equal(at, whole);
    }
    assert_int_equal(cn_utf8_partial_len("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_simple_decoder),
        cmocka_unit_test(a_cut_is_never_inside_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
