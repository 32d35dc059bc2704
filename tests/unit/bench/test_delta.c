/* What is read from the events and answers of the three APIs, and what is no JSON. */
#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "bench/delta.h"
#include "tests/unit/test_rng.h"

static const struct {
    const char *json;
    const char *text;            // all pieces, joined; NULL: none
    int64_t input, output, cached;
    const char *error;           // NULL: none
} cases[] = {
    {"{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}", "Hi", -1, -1, -1, NULL},
    {"{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}", NULL, -1, -1, -1, NULL},
    {"{\"choices\":[{\"text\":\" a\",\"logprobs\":{\"text\":\"no\"}}]}", " a", -1, -1, -1, NULL},
    {"{\"choices\":[{\"message\":{\"content\":\"whole\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}],"
     "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":5}}}",
     "whole{}", 7, 3, 5, NULL},
    {"{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}", "x", -1, -1, -1, NULL},
    {"{\"type\":\"response.output_text.done\",\"text\":\"all of it again\"}", NULL, -1, -1, -1, NULL},
    {"{\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"output\":[{\"content\":[{\"text\":\"again\"}]}],"
     "\"usage\":{\"input_tokens\":4,\"output_tokens\":2,\"input_tokens_details\":{\"cached_tokens\":0}}}}",
     NULL, 4, 2, 0, NULL},
    {"{\"id\":\"resp_2\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"one\"}]}],\"error\":null}",
     "one", -1, -1, -1, NULL},
    {"{\"error\":{\"message\":\"no place\",\"code\":503}}", NULL, -1, -1, -1, "no place"},
    {"{\"error\":\"plain\"}", NULL, -1, -1, -1, "plain"},
    {"{\"type\":\"response.failed\",\"response\":{\"error\":{\"message\":\"bad\"}}}", NULL, -1, -1, -1, "bad"},
    {"{\"type\":\"error\",\"message\":\"worse\"}", NULL, -1, -1, -1, "worse"},
    {" { \"choices\" : [ ] } ", NULL, -1, -1, -1, NULL},
    {"{\"choices\":[{\"text\":\"\\u00e9\\ud83d\\ude00\\n\\\"\"}]}", "\xc3\xa9\xf0\x9f\x98\x80\n\"", -1, -1, -1, NULL},
};

static void answers_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cn_delta d;
        cn_buf text;
        cn_buf_init(&text, 4096);
        assert_true(cn_delta_parse(cases[i].json, strlen(cases[i].json), &d));
        for (uint32_t k = 0; k < d.text_count; k++) cn_delta_unescape(&d.texts[k], &text);
        const char *expected = cases[i].text ? cases[i].text : "";
        assert_int_equal(text.len, strlen(expected));
        if (text.len) assert_memory_equal(text.data, expected, text.len);
        assert_int_equal(d.input_tokens, cases[i].input);
        assert_int_equal(d.output_tokens, cases[i].output);
        assert_int_equal(d.cached_tokens, cases[i].cached);
        assert_int_equal(d.has_error, cases[i].error != NULL);
        if (cases[i].error) assert_memory_equal(d.error.at, cases[i].error, strlen(cases[i].error));
        cn_buf_close(&text);
    }
}

static void token_ids_and_id_are_found(void **state)
{
    (void)state;
    static const char json[] = "{\"id\":\"cmpl-9\",\"choices\":[{\"text\":\"ab\",\"token_ids\":[17, 4,2303]}]}";
    cn_delta d;
    assert_true(cn_delta_parse(json, sizeof json - 1, &d));
    assert_int_equal(d.id_count, 3);
    assert_memory_equal(d.ids.at, "17, 4,2303", d.ids.len);
    assert_int_equal(d.ids.len, 10);
    assert_memory_equal(d.id.at, "cmpl-9", d.id.len);
}

// Every beginning of a good event is a bad one, and no read goes beyond the text (ASan sees to that).
static void beginnings_are_no_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = strlen(cases[i].json);
        while (cases[i].json[len - 1] == ' ') len--;
        for (size_t cut = 0; cut < len; cut++) {
            char *copy = malloc(cut + 1);
            cn_delta d;
            memcpy(copy, cases[i].json, cut);
            char *exact = realloc(copy, cut ? cut : 1);
            assert_non_null(exact);
            assert_false(cn_delta_parse(exact, cut, &d));
            free(exact);
        }
    }
}

// A key that goes on behind a 0 is none that is known.
static void a_key_ends_where_it_ends(void **state)
{
    (void)state;
    static const char json[] = "{\"type\0 and more than any key of the table has\":\"x\"}";
    cn_delta d;
    assert_true(cn_delta_parse(json, sizeof json - 1, &d));
    assert_int_equal(d.type.len, 0);
}

static void damage_is_survived(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("delta");
    for (int round = 0; round < 20000; round++) {
        char text[512];
        const char *source = cases[test_rng_below(&rng, sizeof cases / sizeof cases[0])].json;
        const size_t len = strlen(source);
        cn_delta d;
        cn_buf out;
        memcpy(text, source, len);
        for (int k = 0; k < 3; k++) text[test_rng_below(&rng, (uint32_t)len)] = (char)test_rng_u64(&rng);
        cn_buf_init(&out, 4096);
        if (cn_delta_parse(text, len, &d)) {
            for (uint32_t k = 0; k < d.text_count; k++) {
                assert_true(d.texts[k].at >= text && d.texts[k].at + d.texts[k].len <= text + len);
                cn_delta_unescape(&d.texts[k], &out);
            }
        }
        cn_buf_close(&out);
    }
}

static void what_is_not_json_is_refused(void **state)
{
    static const char *const bad[] = {"",      "[]",       "{}x",       "{\"a\":}", "{\"a\" 1}", "{a:1}",
                                      "{\"a\":tru}", "{\"a\":1,}", "{\"a\":[1,]}", "{\"a\":\"\\\"}", "null"};
    char deep[300];
    cn_delta d;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(cn_delta_parse(bad[i], strlen(bad[i]), &d));
    }
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"a\":", 5);
    assert_false(cn_delta_parse(deep, sizeof deep, &d));       // deeper than any answer
}

static void broken_escapes_become_replacement_characters(void **state)
{
    static const struct {
        const char *escaped, *text;
    } rows[] = {{"a\\x", "a\xef\xbf\xbd"},       {"\\ud800", "\xef\xbf\xbd"},
                {"\\ud800\\u0041", "\xef\xbf\xbd" "A"}, {"\\u12g4", "\xef\xbf\xbd" "12g4"},
                {"\\\\\\/\\t", "\\/\t"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const cn_delta_slice slice = {rows[i].escaped, strlen(rows[i].escaped)};
        cn_buf out;
        cn_buf_init(&out, 256);
        cn_delta_unescape(&slice, &out);
        assert_int_equal(out.len, strlen(rows[i].text));
        assert_memory_equal(out.data, rows[i].text, out.len);
        cn_buf_close(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(token_ids_and_id_are_found),
        cmocka_unit_test(beginnings_are_no_json),
        cmocka_unit_test(a_key_ends_where_it_ends),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(broken_escapes_become_replacement_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
