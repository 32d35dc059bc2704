#include "tests/unit/model/test_template_render.h"

#include <math.h>
#include <stdlib.h>

#include "model/template_text_int.h"
#include "tests/unit/test_rng.h"

/* The wanted texts are Python's. */
static void floats_look_as_in_python(void **state)
{
    static const struct {
        double real;
        const char *want;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {123456789012345680.0, "1.2345678901234568e+17"},
        {1e-4, "0.0001"},
        {1e-5, "1e-05"},
        {-1.5e-7, "-1.5e-07"},
        {1e100, "1e+100"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
        {NAN, "nan"},
        {100.0, "100.0"},
        {2.5, "2.5"},
        {1234.5678, "1234.5678"},
    };
    char text[40];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text[cn_template_text_float(cases[i].real, text)] = '\0';
        assert_string_equal(text, cases[i].want);
    }
}

/* Would catch a text that does not read back, or that has digits to spare. */
static void floats_are_shortest_and_exact(void **state)
{
    test_rng rng = test_rng_open("template_text");
    (void)state;
    for (int i = 0; i < 20000; i++) {
        const uint64_t bits = test_rng_u64(&rng);
        double real;
        char text[40], shorter[40];
        memcpy(&real, &bits, sizeof real);
        if (!isfinite(real)) continue;
        text[cn_template_text_float(real, text)] = '\0';
        assert_true(strtod(text, NULL) == real);
        size_t digits = 0;
        for (const char *at = text; *at && *at != 'e'; at++) digits += *at >= '0' && *at <= '9';
        if (digits < 2 || strchr(text, 'e') == NULL) continue;
        snprintf(shorter, sizeof shorter, "%.*e", (int)digits - 2, real);
        assert_true(strtod(shorter, NULL) != real);
    }
}

static void texts_look_as_in_python(void **state)
{
    static const test_case cases[] = {
        {"{{ [\"it's\", 'say \"x\"', \"both ' and \\\"\"] }}",
         "[\"it's\", 'say \"x\"', 'both \\' and \"']"},
        {"{{ ['\\n\\r\\t\\\\\\x00\\x7f\\x9f\\u200b\\U000e0001é🙂'] }}",
         "['\\n\\r\\t\\\\\\x00\\x7f\\x9f\\u200b\\U000e0001é🙂']"},
        {"{{ [none, true, 1, -2.0, (), (1,), {}, x, {'a': [1]}] }}",
         "[None, True, 1, -2.0, (), (1,), {}, Undefined, {'a': [1]}]"},
        {"{{ {1: 2, 1.0: 3, true: 4} }}", "{1: 4}"},
        {"{{ namespace(a='b') }}", "<Namespace {'a': 'b'}>"},
        {"{% macro m() %}{% endmacro %}{{ m }}", "<Macro 'm'>"},
        {"{{ range(1, 9, 2) }}{{ range(3)[::-1] }}", "range(1, 9, 2)range(2, -1, -1)"},
        {"{{ {'a': 1}.items() }}{{ {'a': 1}.values() }}", "dict_items([('a', 1)])dict_values([1])"},
        {"{{ ['<'|e] }}", "[Markup('&lt;')]"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

static void json_is_that_of_python(void **state)
{
    static const test_case cases[] = {
        {"{{ '\\x00\\x1f\\x7f\"\\\\/é🙂'|tojson }}", "\"\\u0000\\u001f\x7f\\\"\\\\/é🙂\""},
        {"{{ '\\x7fé🙂'|tojson(true) }}", "\"\\u007f\\u00e9\\ud83d\\ude42\""},
        {"{{ {none: 1, true: 2, 3: 4, 2.5: 5}|tojson }}",
         "{\"null\": 1, \"true\": 2, \"3\": 4, \"2.5\": 5}"},
        {"{{ {'b': [], 'a': {}, 'c': [1, [2]]}|tojson(indent=1, sort_keys=true) }}",
         "{\n \"a\": {},\n \"b\": [],\n \"c\": [\n  1,\n  [\n   2\n  ]\n ]\n}"},
        {"{{ [1, {'a': 2}]|tojson(separators=(',', ':')) }}", "[1,{\"a\":2}]"},
        {"{{ [1]|tojson(indent='--') }}", "[\n--1\n]"},
        {"{{ [1e999, -1e999, 1e999 - 1e999]|tojson }}", "[Infinity, -Infinity, NaN]"},
        {"{{ (1, 'x')|tojson }}", "[1, \"x\"]"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_look_as_in_python),
        cmocka_unit_test(floats_are_shortest_and_exact),
        cmocka_unit_test(texts_look_as_in_python),
        cmocka_unit_test(json_is_that_of_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
