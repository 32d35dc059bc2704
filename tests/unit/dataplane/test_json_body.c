#include "dataplane/json_body.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"

static cn_code parse(const char *text, uint64_t depth_max, json_t **out, cn_err *err)
{
    return cn_json_body_parse(text, strlen(text), depth_max, out, err);
}

static void depth_counts_nesting_outside_of_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t depth;
    } rows[] = {
        {"", 0}, {"1", 0}, {"{}", 1}, {"[[]]", 2}, {"[{\"a\":[1]}]", 3}, {"{}{}[]", 1},
        {"\"[[[\"", 0}, {"[\"\\\"[[\"]", 1}, {"[\"\\\\\",[]]", 2}, {"]]][", 1}, {"\"\\", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(cn_json_body_depth(rows[i].text, strlen(rows[i].text)), rows[i].depth);
    }
}

static void a_body_is_parsed_up_to_the_depth(void **state)
{
    (void)state;
    json_t *root;
    cn_err err;
    assert_int_equal(parse("{\"a\":[[1]]}", 3, &root, &err), CN_OK);
    json_decref(root);
    assert_int_equal(parse("{\"a\":[[1]]}", 2, &root, &err), CN_E_LIMIT);
    assert_string_equal(err.text, "body: nested 3 deep; must be at most 2 (limit json_depth)");
    assert_null(root);
}

// A million brackets must not reach a parser that recurses.
static void deep_nesting_is_refused_before_parsing(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    char *text = malloc(DEPTH);
    json_t *root;
    memset(text, '[', DEPTH);
    assert_int_equal(cn_json_body_parse(text, DEPTH, 64, &root, NULL), CN_E_LIMIT);
    free(text);
}

static void what_is_no_object_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        cn_code code;
    } rows[] = {
        {"", CN_E_SYNTAX},
        {"{", CN_E_SYNTAX},
        {"{}x", CN_E_SYNTAX},
        {"{'a':1}", CN_E_SYNTAX},
        {"{\"a\":NaN}", CN_E_SYNTAX},
        {"{\"a\":Infinity}", CN_E_SYNTAX},
        {"{\"a\":1e999}", CN_E_SYNTAX},
        {"{\"a\":\"\xFF\"}", CN_E_SYNTAX},
        {"{\"a\":\"\xED\xA0\x80\"}", CN_E_SYNTAX},
        {"{\"a\":\"\\ud800\"}", CN_E_SYNTAX},
        {"{\"a\":01}", CN_E_SYNTAX},
        {"{\"a\":1,}", CN_E_SYNTAX},
        {"[]", CN_E_INVALID},
        {"null", CN_E_INVALID},
        {"\"a\"", CN_E_INVALID},
        {"1", CN_E_INVALID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *root;
        cn_err err;
        assert_int_equal(parse(rows[i].text, 64, &root, &err), rows[i].code);
        assert_null(root);
        assert_non_null(strstr(err.text, "must be a JSON object"));
    }
}

static void the_last_of_equal_names_wins_and_null_is_absent(void **state)
{
    (void)state;
    json_t *root;
    assert_int_equal(parse("{\"a\":1,\"a\":2,\"b\":null,\"c\":\"x\\u0000y\"}", 8, &root, NULL),
                     CN_OK);
    assert_int_equal(json_integer_value(cn_json_body_get(root, "a")), 2);
    assert_null(cn_json_body_get(root, "b"));
    assert_null(cn_json_body_get(root, "nothing"));
    assert_int_equal(json_string_length(cn_json_body_get(root, "c")), 3);
    json_decref(root);
}

static void integers_may_be_written_as_reals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } rows[] = {
        {"{\"a\":5}", true, 5}, {"{\"a\":5.0}", true, 5}, {"{\"a\":-3e2}", true, -300},
        {"{\"a\":9223372036854775807}", true, INT64_MAX}, {"{\"a\":5.5}", false, 0},
        {"{\"a\":1e300}", false, 0}, {"{\"a\":\"5\"}", false, 0}, {"{\"a\":true}", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *root;
        int64_t value = 0;
        assert_int_equal(parse(rows[i].text, 8, &root, NULL), CN_OK);
        assert_int_equal(cn_json_body_integer(json_object_get(root, "a"), &value), rows[i].ok);
        assert_int_equal(value, rows[i].value);
        json_decref(root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depth_counts_nesting_outside_of_strings),
        cmocka_unit_test(a_body_is_parsed_up_to_the_depth),
        cmocka_unit_test(deep_nesting_is_refused_before_parsing),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(the_last_of_equal_names_wins_and_null_is_absent),
        cmocka_unit_test(integers_may_be_written_as_reals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
