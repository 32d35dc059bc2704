#include "tests/unit/cmocka_all.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "tests/unit/test_rng.h"

#define assert_holds(buf, text)                                                                    \
    do {                                                                                           \
        assert_int_equal((buf)->len, strlen(text));                                                \
        assert_memory_equal((buf)->data, text, strlen(text));                                      \
    } while (0)

static void pieces_add_up(void **state)
{
    (void)state;
    cn_buf buf;
    cn_buf_init(&buf, 1000);
    cn_buf_add(&buf, NULL, 0);
    cn_buf_add(&buf, "ab", 2);
    cn_buf_add_char(&buf, ' ');
    cn_buf_add_text(&buf, "cd ");
    cn_buf_add_u64(&buf, 0);
    cn_buf_add_char(&buf, ' ');
    cn_buf_add_u64(&buf, UINT64_MAX);
    cn_buf_add_format(&buf, " %d%s", -5, "x");
    memcpy(cn_buf_reserve(&buf, 3), "end", 3);
    cn_buf_advance(&buf, 3);
    assert_holds(&buf, "ab cd 0 18446744073709551615 -5xend");
    assert_false(buf.overflowed);
    cn_buf_close(&buf);
}

// What does not fit is dropped as a whole, and so is everything after it, until clear.
static void overflow_is_marked_once(void **state)
{
    (void)state;
    cn_buf buf;
    cn_buf_init(&buf, 10);
    cn_buf_add_text(&buf, "12345");
    cn_buf_add_text(&buf, "678901");
    assert_true(buf.overflowed);
    cn_buf_add_text(&buf, "6");
    assert_holds(&buf, "12345");
    assert_null(cn_buf_reserve(&buf, 1));
    cn_buf_clear(&buf);
    cn_buf_add_text(&buf, "1234567890");
    assert_holds(&buf, "1234567890");
    assert_false(buf.overflowed);
    assert_null(cn_buf_reserve(&buf, SIZE_MAX));
    cn_buf_close(&buf);
}

static void floats_read_back(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("buf");
    const float fixed[] = {0.0f, 1.0f, -1.5f, 0.1f, FLT_MAX, FLT_MIN, FLT_TRUE_MIN, -9999.0f};
    cn_buf buf;
    cn_buf_init(&buf, 100);
    for (uint32_t i = 0; i < 20000; i++) {
        const uint32_t bits = (uint32_t)test_rng_u64(&rng);
        float value;
        memcpy(&value, &bits, sizeof value);
        if (i < sizeof fixed / sizeof *fixed) value = fixed[i];
        cn_buf_clear(&buf);
        cn_buf_add_float(&buf, value);
        cn_buf_add_char(&buf, '\0');
        if (isfinite(value)) assert_true(strtof(buf.data, NULL) == value);
        else assert_string_equal(buf.data, "null");
    }
    cn_buf_clear(&buf);
    cn_buf_add_float(&buf, 0.1f);
    assert_holds(&buf, "0.1");
    cn_buf_close(&buf);
}

static void json_of(cn_buf *buf, const char *text, size_t len)
{
    cn_buf_clear(buf);
    cn_buf_add_json(buf, text, len);
}

static void json_escapes_what_it_must(void **state)
{
    (void)state;
    cn_buf buf;
    cn_buf_init(&buf, 1000);
    json_of(&buf, "", 0);
    assert_holds(&buf, "\"\"");
    json_of(&buf, "a\"b\\c\n\r\t\b\f/\x01\x1f\x7f", 14);
    assert_holds(&buf, "\"a\\\"b\\\\c\\n\\r\\t\\b\\f/\\u0001\\u001f\\u007f\"");
    json_of(&buf, "\0", 1);
    assert_holds(&buf, "\"\\u0000\"");
    json_of(&buf, "gr\xC3\xBC\xC3\x9F \xF0\x9F\x90\x95", 11);
    assert_holds(&buf, "\"gr\xC3\xBC\xC3\x9F \xF0\x9F\x90\x95\"");
    json_of(&buf, "a\xFF" "b\xE2\x82" "c\xED\xA0\x80", 9);
    assert_holds(&buf, "\"a\xEF\xBF\xBD" "b\xEF\xBF\xBD" "c\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    cn_buf_close(&buf);
}

// Whatever the bytes, what comes out is one JSON string: UTF-8, no bare control byte, and no quote
// or backslash that is not part of an escape.
static void json_of_any_bytes_is_a_string(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("buf_json");
    cn_buf buf;
    cn_buf_init(&buf, 4096);
    for (int round = 0; round < 20000; round++) {
        char bytes[64];
        const size_t len = test_rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < len; i++) bytes[i] = (char)test_rng_u64(&rng);
        json_of(&buf, bytes, len);
        assert_true(buf.len >= 2 && buf.data[0] == '"' && buf.data[buf.len - 1] == '"');
        for (size_t i = 1; i < buf.len - 1;) {
            const size_t step = cn_utf8_len(buf.data + i, buf.len - i);
            assert_true(step > 0);
            assert_true((unsigned char)buf.data[i] >= 0x20 && buf.data[i] != '"');
            i += buf.data[i] == '\\' ? (buf.data[i + 1] == 'u' ? 6 : 2) : step;
            assert_true(i <= buf.len - 1);
        }
    }
    cn_buf_close(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_add_up),
        cmocka_unit_test(overflow_is_marked_once),
        cmocka_unit_test(floats_read_back),
        cmocka_unit_test(json_escapes_what_it_must),
        cmocka_unit_test(json_of_any_bytes_is_a_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
