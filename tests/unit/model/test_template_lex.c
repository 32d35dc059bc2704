#include "tests/unit/model/test_template_render.h"

#include "model/template_lex_int.h"

/* Would catch white space that a tag takes or leaves wrongly: a prompt that differs by one newline
 * from what a model was trained on. The wanted texts are Jinja's. */
static void white_space_around_tags(void **state)
{
    static const test_case cases[] = {
        {"a\n", "a"},
        {"a\n\n", "a\n"},
        {"a\r\nb\rc", "a\nb\nc"},
        {"  {% if 1 %}\n  x\n  {% endif %}\n", "  x\n"},
        {"  {%+ if 1 %}x{% endif %}", "  x"},
        {"a {% if 1 %} x {% endif %} b", "a  x  b"},
        {"a \n {%- if 1 -%} \n x {%- endif -%} \n b", "axb"},
        {"{% if 1 +%}\nx{% endif %}", "\nx"},
        {"a\n  {# c #}\nb", "a\nb"},
        {"a\n  {#- c -#}\nb", "ab"},
        {"a  {#+ c #} b", "a   b"},
        {"a\n  {{ 1 }}\nb", "a\n  1\nb"},
        {"a\n  {{- 1 -}}\nb", "a1b"},
        {"a\n  {{+ 1 }}\nb", "a\n  1\nb"},
        {"{% raw %}\n {{ x }} {% endraw %}\nb", "\n {{ x }} b"},
        {"{% raw -%}\n {{ x }} {%- endraw %}\nb", "{{ x }}b"},
        {"a\n  {% raw %}x\n  {% endraw %}b", "a\nx\nb"},
        {"{% if 1 %}\n  {% if 1 %}\nx\n  {% endif %}\n{% endif %}\ny", "x\ny"},
        {"{{ 1 }}  {% if 1 %}x{% endif %}", "1  x"},
        {"\xC2\xA0{%- if 1 %}\xE3\x80\x80{%- endif %}x", "x"},
        {"{# #}", ""},
        {"{#", ""},
        {"x{", "x{"},
        {"{ {x} }", "{ {x} }"},
        {"{{ {'a': {'b': 1}} }}", "{'a': {'b': 1}}"},
        {"{{ '}}' }}{{ \"%}\" }}", "}}%}"},
        {"", ""},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

static void literals(void **state)
{
    static const test_case cases[] = {
        {"{{ 'a\\n\\t\\\\\\'\\x41\\u00e9\\101\\q\\\nz' }}", "a\n\t\\'A\xC3\xA9" "A\\qz"},
        {"{{ '\\U0001F600' }}", "\xF0\x9F\x98\x80"},
        {"{{ \"a\" 'b' }}", "ab"},
        {"{{ 1_000 }} {{ 0x_ff }} {{ 0b11 }} {{ 0o17 }} {{ 00 }}", "1000 255 3 15 0"},
        {"{{ 1.5 }} {{ 1e3 }} {{ 1.5E-3 }} {{ 1_0.2_5 }}", "1.5 1000.0 0.0015 10.25"},
        {"{{ [1, 2,] }} {{ (1,) }} {{ () }} {{ {'a': 1,} }} {{ 1, 2 }}",
         "[1, 2] (1,) () {'a': 1} (1, 2)"},
        {"{{ [[1, 2], 3].0.1 }}", "2"},
        {"{{ true }} {{ True }} {{ none }} {{ None }} {{ false }}", "True True None None False"},
        {"{{ größe is defined }}", "False"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

/* Would catch lines that are counted wrongly across what a tag swallows. */
static void tokens_know_their_lines(void **state)
{
    const char *text = "a\n{# \n #}\n{%- if x\n -%}\n\n{{ y }}";
    static const uint32_t lines[] = {1, 4, 4, 4, 5, 7, 7, 7, 7};
    cn_arena arena;
    cn_tokens tokens;
    (void)state;
    cn_arena_init(&arena, 1 << 20);
    assert_int_equal(cn_template_lex_split("t", text_from(text), &arena, &tokens, NULL), CN_OK);
    assert_int_equal(tokens.count, 9);
    for (uint32_t i = 0; i < tokens.count; i++) assert_int_equal(tokens.at[i].line, lines[i]);
    assert_int_equal(tokens.at[0].kind, CN_TOKEN_DATA);
    assert_int_equal(tokens.at[8].kind, CN_TOKEN_END);
    cn_arena_close(&arena);
}

/* Would catch a lexer that gives up its memory limit. */
static void memory_is_bounded(void **state)
{
    cn_arena arena;
    cn_tokens tokens;
    cn_err err;
    (void)state;
    cn_arena_init(&arena, 4096);
    const cn_text text =
        text_from("{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}"
                  "{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}"
                  "{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}");
    assert_int_equal(cn_template_lex_split("t", text, &arena, &tokens, &err), CN_E_MEMORY);
    assert_string_equal(err.text, "t: no memory for the parsed template");
    cn_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space_around_tags),
        cmocka_unit_test(literals),
        cmocka_unit_test(tokens_know_their_lines),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
