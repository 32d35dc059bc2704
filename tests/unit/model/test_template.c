#include "tests/unit/model/test_template_render.h"

#include <pthread.h>

/* Would catch an error that does not say where and what; the texts are what operators read. */
static void errors_name_template_line_and_fault(void **state)
{
    static const test_case format[] = {
        {"{{ a", "t:1: a tag is not closed with '}}'"},
        {"a\n{% if x %}", "t:2: the template ends; expected {% elif %}"},
        {"{% for x in y %}", "t:1: the template ends; expected {% endfor %}"},
        {"{% endif %}", "t:1: unknown tag 'endif'"},
        {"\n\n{% foo %}", "t:3: unknown tag 'foo'"},
        {"{{ }}", "t:1: found '}}'; expected an expression"},
        {"{{ a b }}", "t:1: found 'b'; expected '}}'"},
        {"{{ 'x }}", "t:1: a string has no end: ''x }}'"},
        {"{{ ] }}", "t:1: a bracket closes what is not open: ']'"},
        {"{{ a ! }}", "t:1: unexpected character '!'"},
        {"{{ x|nope }}", "t:1: no filter named 'nope'"},
        {"{{ x is nope }}", "t:1: no test named 'nope'"},
        {"{% set none = 1 %}", "t:1: cannot assign to 'none'"},
        {"{% for loop in x %}{% endfor %}", "t:1: cannot assign to 'loop'; a for loop sets it"},
        {"{% break %}", "t:1: 'break' outside of a loop"},
        {"{% macro m(a=1, b) %}{% endmacro %}",
         "t:1: parameter 'b' has no default, the one before has"},
        {"{# x", "t:1: a comment {# has no end #}"},
        {"{% raw %} x", "t:1: a raw block has no end {% endraw %}"},
        {"{{ f(a=1, 2) }}",
         "t:1: found 'integer'; expected a keyword argument, as the ones before it"},
        {"{{ 99999999999999999999 }}", "t:1: an integer is beyond 64 bits: '99999999999999999999'"},
        {"{{ '\\ud800' }}", "t:1: not an escape: '\\ud800'"},
        {"\xff", "t:1: the template is not UTF-8"},
    };
    static const test_case unsupported[] = {
        {"{% include 'x' %}", "t:1: the tag 'include' is not supported"},
        {"{% for x in y recursive %}{% endfor %}", "t:1: recursive loops are not supported"},
        {"{{ x|urlize }}", "t:1: the filter 'urlize' is not supported"},
    };
    static const test_case invalid[] = {
        {"{{ raise_exception('Roles must alternate: 100 % §') }}", "Roles must alternate: 100 % §"},
        {"a\n{{ b.c }}", "t:2: 'b' is undefined"},
        {"{{ {}.a.b }}", "t:1: 'dict object' has no attribute 'a'"},
        {"{{ none.a.b }}", "t:1: 'None' has no attribute 'a'"},
        {"{{ [][3].x }}", "t:1: list object has no element 3"},
        {"{{ 1 + 'a' }}", "t:1: unsupported operand types for +: 'int' and 'str'"},
        {"{{ 1 < 'a' }}", "t:1: 'int' and 'str' have no order"},
        {"{% for x in 1 %}{% endfor %}", "t:1: 'int' object is not iterable"},
        {"{{ 1() }}", "t:1: 'int' object is not callable"},
        {"{{ x() }}", "t:1: 'x' is undefined"},
        {"{{ {[]: 1} }}", "t:1: unhashable type: 'list'"},
        {"{{ 9223372036854775807 + 1 }}", "t:1: an integer is beyond 64 bits"},
        {"{{ 1 // 0 }}", "t:1: division by zero"},
        {"{% set a, b = [1] %}", "t:1: 1 values cannot be unpacked to 2 names"},
        {"{% set n = {} %}{% set n.a = 1 %}",
         "t:1: cannot assign attribute on non-namespace object"},
        {"{% macro m() %}{% endmacro %}\n{{ m(1) }}",
         "t:2: macro 'm' takes not more than 0 argument(s)"},
        {"{% macro m() %}{% endmacro %}{{ m(a=1) }}",
         "t:1: macro 'm' takes no keyword argument 'a'"},
        {"{{ 'x'|indent(1, 2, 3, 4) }}", "t:1: indent() takes at most 4 arguments (5 given)"},
        {"{{ 'x'|indent(wide=1) }}", "t:1: indent() got an unexpected keyword argument 'wide'"},
        {"{{ 'x'|indent(1, width=1) }}", "t:1: indent() got two values for 'width'"},
        {"{{ 'x'|replace }}", "t:1: replace() misses its argument 'old'"},
        {"{% if 1 %}{{ x|nope }}{% endif %}", "t:1: no filter named 'nope'"},
        {"{{ [x]|tojson }}", "t:1: Object of type Undefined is not JSON serializable"},
    };
    (void)state;
    test_template_errors(format, sizeof format / sizeof *format, CN_E_FORMAT);
    test_template_errors(unsupported, sizeof unsupported / sizeof *unsupported, CN_E_UNSUPPORTED);
    test_template_errors(invalid, sizeof invalid / sizeof *invalid, CN_E_INVALID);
}

/* Would catch a bound that is not enforced, or that is one off. */
static void every_limit_holds(void **state)
{
    const cn_template_limits wide = {.steps_max = 1000000, .depth_max = 64};
    cn_template_limits limits = wide;
    (void)state;
    limits.steps_max = 100;
    test_render result = test_template_limited("{% for x in range(99) %}{% endfor %}", "{}", limits,
                                               100, 1 << 20);
    assert_string_equal(result.text, "t:1: the template takes more than 100 steps");
    limits = wide;
    limits.depth_max = 3;
    result = test_template_limited("{% if 1 %}{% if 1 %}x{% endif %}{% endif %}", "{}", limits, 100,
                                   1 << 20);
    assert_string_equal(result.text, "x");
    result =
        test_template_limited("{% if 1 %}{% if 1 %}{% if 1 %}x{% endif %}{% endif %}{% endif %}",
                              "{}", limits, 100, 1 << 20);
    assert_string_equal(result.text, "t:1: calls and blocks are nested more than 3 deep");
    assert_int_equal(result.code, CN_E_LIMIT);
    result = test_template_limited("{{ 'x' * 100 }}", "{}", wide, 100, 1 << 20);
    assert_int_equal(result.code, CN_OK);
    result = test_template_limited("{{ 'x' * 101 }}", "{}", wide, 100, 1 << 20);
    assert_string_equal(result.text, "t:1: the template writes more than 100 bytes");
    assert_int_equal(result.code, CN_E_LIMIT);
    result = test_template_limited("{{ ('x' * 70000)|length }}", "{}", wide, 100, 1 << 16);
    assert_string_equal(result.text, "t:1: the template needs more than 65536 bytes of memory");
    assert_int_equal(result.code, CN_E_LIMIT);
}

/* Would catch output of a failed render that stays behind what the caller had. */
static void a_failed_render_leaves_the_buffer_as_it_was(void **state)
{
    const cn_template_limits limits = {.steps_max = 1000, .depth_max = 8};
    const char *text = "written {{ raise_exception('no') }}";
    cn_template *tmpl;
    cn_arena arena;
    cn_buf out;
    json_t *variables = json_object();
    (void)state;
    cn_arena_init(&arena, 1 << 20);
    cn_buf_init(&out, 1000);
    cn_buf_add_text(&out, "before");
    assert_int_equal(cn_template_open("t", text, strlen(text), &tmpl, NULL), CN_OK);
    // A caller may have no use for the text of the error.
    assert_int_equal(cn_template_render(tmpl, variables, &limits, &arena, &out, NULL),
                     CN_E_INVALID);
    assert_int_equal(out.len, strlen("before"));
    cn_template_close(tmpl);
    cn_template_close(NULL);
    cn_buf_close(&out);
    cn_arena_close(&arena);
    json_decref(variables);
}

/* Would catch names that leak out of loops, macros and blocks, or that cannot be seen inside. */
static void names_have_the_scopes_of_jinja(void **state)
{
    static const test_case cases[] = {
        {"{% set a = 1 %}{% for x in [2] %}{{ a }}{% set a = x %}{{ a }}{% endfor %}{{ a }}",
         "121"},
        {"{% set a = 1 %}{% if true %}{% set a = 2 %}{% endif %}{{ a }}", "2"},
        {"{% for x in [1] %}{% set b = 1 %}{% endfor %}{{ b is defined }}", "False"},
        {"{% macro m() %}{{ a }}{% set a = 3 %}{{ a }}{% endmacro %}{% set a = 1 %}{{ m() }}{{ a "
         "}}",
         "131"},
        {"{% set n = namespace(v=0) %}{% for x in [1, 2] %}{% set n.v = n.v + x %}{% endfor %}{{ "
         "n.v }}",
         "3"},
        {"{% for x in [1, 2] %}{% for x in [3] %}{{ x }}{% endfor %}{{ x }}{% endfor %}{{ x is "
         "defined }}",
         "3132False"},
        {"{% set a = 1 %}{% set b %}{% set a = 2 %}{{ a }}{% endset %}{{ a }}{{ b }}", "12"},
        {"{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "211"},
        {"{% for x in [1, 2] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "12"},
        {"{% macro m(x) %}{{ caller(x) }}{% endmacro %}{% set y = 5 %}{% call(z) m(1) %}{{ z }}{{ "
         "y }}{% endcall %}",
         "15"},
        {"{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}", "12"},
        {"{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
         "3210"},
        {"{% for x in [1] %}{% for y in [1, 2] if loop.length == 1 %}{{ y }}{% endfor %}{% endfor "
         "%}",
         "12"},
        {"{% set n = namespace(go=true) %}{% for x in [1, 2, 3] if n.go %}{{ x }}{% set n.go = x < "
         "2 %}{% endfor %}",
         "12"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

/* Would catch a value of the variables that templates see differently than Python does. */
static void variables_are_what_json_says(void **state)
{
    static const test_case cases[] = {
        {"{{ v }}", "{'i': 12, 'f': 1.0, 't': True, 'n': None, 'l': [1, 'ü\\n'], 's': \"it's\"}"},
        {"{{ v|tojson }}", "{\"i\": 12, \"f\": 1.0, \"t\": true, \"n\": null, \"l\": [1, "
                           "\"ü\\n\"], \"s\": \"it's\"}"},
        {"{{ v.items()|list|length }}{{ v.l[1] }}{{ v['i'] + 1 }}{{ v.missing }}{{ w is defined }}",
         "6ü\n13False"},
        {"{{ items }}", "mine"},
        {"{{ v.keys() }}{{ range(3) }}", "dict_keys(['i', 'f', 't', 'n', 'l', 's'])range(0, 3)"},
    };
    (void)state;
    test_template_cases(
        cases, sizeof cases / sizeof *cases,
        "{\"v\": {\"i\": 12, \"f\": 1.0, \"t\": true, \"n\": null, \"l\": [1, \"ü\\n\"], "
        "\"s\": \"it's\"}, \"items\": \"mine\"}");
}

static void time_is_what_the_limits_say(void **state)
{
    const cn_template_limits limits = {.steps_max = 1000, .depth_max = 8, .now_s = 1750000000};
    (void)state;
    test_render result = test_template_limited("{{ strftime_now('%d %b %Y %H:%M:%S %-d %j%%') }}",
                                               "{}", limits, 100, 1 << 20);
    assert_string_equal(result.text, "15 Jun 2025 15:06:40 15 166%");
    result = test_template_limited("{{ strftime_now('%9999d') }}", "{}", limits, 100, 1 << 20);
    assert_string_equal(result.text, "t:1: strftime_now() does not know '%9'");
}

enum { THREADS = 4, RENDERS = 200 };

static void *render_often(void *argument)
{
    const cn_template *tmpl = argument;
    const cn_template_limits limits = {.steps_max = 100000, .depth_max = 8};
    json_t *variables = json_object();
    cn_arena arena;
    cn_buf out;
    bool same = true;
    cn_arena_init(&arena, 1 << 20);
    cn_buf_init(&out, 1000);
    for (int i = 0; i < RENDERS; i++) {
        cn_arena_reset(&arena);
        cn_buf_clear(&out);
        same = same && !cn_template_render(tmpl, variables, &limits, &arena, &out, NULL) &&
               out.len == 20 && memcmp(out.data, "00112233445566778899", 20) == 0;
    }
    cn_buf_close(&out);
    cn_arena_close(&arena);
    json_decref(variables);
    return same ? argument : NULL;
}

/* Would catch a template that is written to while it renders (under ThreadSanitizer also a race).
 */
static void threads_render_one_template(void **state)
{
    const char *text =
        "{% macro m(x) %}{{ x ~ x }}{% endmacro %}{% for i in range(10) %}{{ m(i) }}{% endfor %}";
    cn_template *tmpl;
    pthread_t threads[THREADS];
    (void)state;
    assert_int_equal(cn_template_open("t", text, strlen(text), &tmpl, NULL), CN_OK);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, tmpl), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, tmpl);
    }
    cn_template_close(tmpl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_template_line_and_fault),
        cmocka_unit_test(every_limit_holds),
        cmocka_unit_test(a_failed_render_leaves_the_buffer_as_it_was),
        cmocka_unit_test(names_have_the_scopes_of_jinja),
        cmocka_unit_test(variables_are_what_json_says),
        cmocka_unit_test(time_is_what_the_limits_say),
        cmocka_unit_test(threads_render_one_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
