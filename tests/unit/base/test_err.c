#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

static void every_code_has_a_sound_row(void **state)
{
    (void)state;
    for (int code = 0; code < CN_CODE_COUNT; code++) {
        const cn_code_info *info = cn_err_info((cn_code)code);
        assert_true(info->name[0] && info->meaning[0]);
        if (code == CN_OK) continue;
        assert_true(info->http_status >= 400 && info->http_status < 600);
        assert_true(info->code[0] != '\0' || code == CN_E_ABSENT);     // null, as at OpenAI
        if (info->http_status == 429) {          // OpenAI names what there is too much of
            assert_true(strcmp(info->type, "requests") == 0 || strcmp(info->type, "tokens") == 0);
            continue;
        }
        // What OpenAI's clients tell apart: our fault or theirs.
        const char *type = info->http_status < 500 || info->http_status == 501 || info->http_status == 505
                               ? "invalid_request_error" : "server_error";
        assert_string_equal(info->type, type);
    }
    assert_int_equal(CN_OK, 0);
    assert_string_equal(cn_err_info(CN_E_QUEUE)->name, "E_QUEUE");
}

static void set_fills_and_returns(void **state)
{
    (void)state;
    cn_err err;
    assert_int_equal(cn_err_set_param(&err, CN_E_LIMIT, "n", "n: %d; at most %d", 9, 8), CN_E_LIMIT);
    assert_int_equal(err.code, CN_E_LIMIT);
    assert_string_equal(err.param, "n");
    assert_string_equal(err.text, "n: 9; at most 8");
    assert_int_equal(cn_err_set(&err, CN_E_IO, "gone"), CN_E_IO);
    assert_string_equal(err.param, "");
    assert_string_equal(err.text, "gone");
    assert_int_equal(cn_err_set(NULL, CN_E_IO, "nobody reads this"), CN_E_IO);
    assert_int_equal(cn_err_set_param(NULL, CN_E_IO, "p", "nor this"), CN_E_IO);
}

// A long text is cut between characters, whatever its length and the width of its characters.
static void a_cut_text_stays_utf8(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xBC", "\xE2\x82\xAC", "\xF0\x9F\x90\x95"};
    for (int c = 0; c < 4; c++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[1200] = "";
            cn_err err;
            memset(text, '.', shift);
            for (size_t at = shift; at < 1000; at += strlen(characters[c])) {
                memcpy(text + at, characters[c], strlen(characters[c]) + 1);
            }
            cn_err_set(&err, CN_E_INVALID, "%s", text);
            const size_t len = strlen(err.text);
            assert_true(len <= sizeof err.text - 1 && len >= sizeof err.text - 4);
            assert_memory_equal(err.text, text, len);
            assert_int_equal(cn_utf8_partial_len(err.text, len), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_sound_row),
        cmocka_unit_test(set_fills_and_returns),
        cmocka_unit_test(a_cut_text_stays_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
