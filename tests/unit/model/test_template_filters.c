#include "tests/unit/model/test_template_render.h"

#define PEOPLE                                                                                     \
    "{\"p\": [{\"n\": \"b\", \"a\": 2}, {\"n\": \"A\", \"a\": 1}, {\"n\": \"c\", \"a\": 2}]}"

/* Would catch a filter that differs from Jinja's; random comparison with Jinja is in
 * tests/template. */
static void filters(void **state)
{
    static const test_case cases[] = {
        {"{{ 'hello wORLD-foo'|title }} {{ 'ÄB'|lower }} {{ 'ß'|upper }} {{ 'éA'|capitalize }}",
         "Hello World-Foo äb SS Éa"},
        {"{{ '  x '|trim }}{{ 'xxaxx'|trim('x') }}", "xa"},
        {"{{ 'a\\n\\nb\\n'|indent }}|", "a\n\n    b\n|"},
        {"{{ 'a\\nb'|indent(2, true) }}", "  a\n  b"},
        {"{{ 'a\\n\\nb'|indent('> ', blank=true) }}", "a\n> \n> b"},
        {"{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }}",
         "foo... foo ba..."},
        {"{{ 'abc'|replace('b', 'x') }} {{ 'aaa'|replace('a', 'b', 2) }} {{ 'ab'|replace('', '-') "
         "}}",
         "axc bba -a-b-"},
        {"{{ 'a b_c d'|wordcount }} {{ 'abc'|reverse }} {{ 'x'|center(4) }}|", "3 cba  x  |"},
        {"{{ '<&>\"'|e }} {{ ('<'|e) + '<' }} {{ '<'|e|e }} {{ '<'|e|forceescape }}",
         "&lt;&amp;&gt;&#34; &lt;&lt; &lt; &amp;lt;"},
        {"{{ 'a b/ü?'|urlencode }} {{ {'a b': 'c/d'}|urlencode }}", "a%20b/%C3%BC%3F a+b=c%2Fd"},
        {"{{ '%s-%05.1f-%x' % ('a', 2.25, 255) }} {{ '%s %s'|format(1, 'b') }} {{ '%(k)s' % {'k': "
         "1} }}",
         "a-002.2-ff 1 b 1"},
        {"{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 1234|round(-2) }} {{ "
         "1.1|round(0, 'ceil') }}",
         "2.0 4.0 2.67 1200 2.0"},
        {"{{ '12'|int }} {{ ' -7_0 '|int }} {{ '0x1f'|int(base=16) }} {{ '1e3'|int }} {{ "
         "'q'|int(9) }} {{ 3.9|int }}",
         "12 -70 31 1000 9 3"},
        {"{{ '1.5'|float }} {{ 'inf'|float }} {{ 'x'|float }} {{ '1_0.5'|float }} {{ '0x1p3'|float "
         "}}",
         "1.5 inf 0.0 10.5 0.0"},
        {"{{ 1|filesizeformat }} {{ 1500|filesizeformat }} {{ 1536|filesizeformat(true) }}",
         "1 Byte 1.5 kB 1.5 KiB"},
        {"{{ p|map(attribute='n')|join(', ') }} {{ p|map(attribute='x.y', default='-')|list }}",
         "b, A, c ['-', '-', '-']"},
        {"{{ p|sort(attribute='a,n')|map(attribute='n')|join }} {{ p|sort(attribute='n', "
         "reverse=true)|map(attribute='n')|join }}",
         "Abc cbA"},
        {"{{ p|selectattr('a', 'eq', 2)|list|length }} {{ p|rejectattr('n', 'in', "
         "'bc')|map(attribute='n')|first }}",
         "2 A"},
        {"{% for g in p|groupby('a') %}{{ g.grouper }}:{{ g.list|length }} {{ g[0] }};{% endfor %}",
         "1:1 1;2:2 2;"},
        {"{{ p|sum(attribute='a') }} {{ [1, 2]|sum(start=5) }} {{ p|max(attribute='a') }}",
         "5 8 {'n': 'b', 'a': 2}"},
        {"{{ ['b', 'A', 'a']|unique|list }} {{ ['b', 'A']|sort }} {{ ['b', 'A']|min }} {{ []|max "
         "is defined }}",
         "['b', 'A'] ['A', 'b'] A False"},
        {"{{ [1, 2, 3]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 0)|list }} {{ [1, 2, 3]|slice(2, "
         "0)|list }}",
         "[[1, 2], [3]] [[1, 2], [3, 0]] [[1, 2], [3, 0]]"},
        {"{{ x|default('d') }} {{ ''|d('e', true) }} {{ none|d('f') }} {{ x|items|list }}",
         "d e None []"},
        {"{{ {'b': 2, 'a': 3}|dictsort }} {{ {'b': 2, 'a': 3}|dictsort(by='value') }}",
         "[('a', 3), ('b', 2)] [('b', 2), ('a', 3)]"},
        {"{{ (p|map(attribute='n')) is sequence }} {{ (p|map(attribute='n')) is iterable }}",
         "False True"},
        {"{% set m = p|map(attribute='a') %}{{ m|first }}{{ m|list }}", "2[1, 2]"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, PEOPLE);
}

static void methods(void **state)
{
    static const test_case cases[] = {
        {"{{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a  b '.split() }}",
         "['a', 'b,c'] ['a,b', 'c'] ['a', 'b']"},
        {"{{ 'xxa'.lstrip('x') }} {{ 'axx'.rstrip('x') }} {{ '  a '.strip() }}|", "a a a|"},
        {"{{ 'a\\nb\\r\\nc'.splitlines() }} {{ 'a\\n'.splitlines(true) }}",
         "['a', 'b', 'c'] ['a\\n']"},
        // A start beyond the end finds not even the empty text.
        {"{{ ''.find('', 1) }} {{ 'abc'.find('', 3) }} {{ 'abc'.find('', 4) }} {{ 'abc'.rfind('', "
         "2, 1) }} {{ 'abc'.count('', 4) }} "
         "{{ 'abc'.count('', 3) }} {{ 'abc'.startswith('', 4) }} {{ 'abc'.endswith('', 3) }} {{ "
         "'abc'.find('', -9) }} {{ 'äbc'.find('c', -1) }}",
         "-1 3 -1 -1 0 1 False True 0 2"},
        {"{{ 'äbc'.find('c') }} {{ 'abcb'.rfind('b') }} {{ 'abc'.index('b') }} {{ 'aaa'.count('a') "
         "}} {{ 'ab'.count('') }}",
         "2 3 1 3 3"},
        {"{{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc', 1) }} {{ "
         "'abc'.startswith('b', 1) }}",
         "True True True"},
        {"{{ '{:>5}|{:^5}|{:<5}|{:05d}|{:+.2f}|{!r}|{{}}'.format('a', 'b', 'c', 42, 1.5, 'x') }}",
         "    a|  b  |c    |00042|+1.50|'x'|{}"},
        {"{{ '{a[0]} {b.c} {0}'.format(1, a=[2], b={'c': 3}) }} {{ '{:,}'.format(1234567) }}",
         "2 3 1 1,234,567"},
        {"{{ ','.join(['a', 'b']) }} {{ 'a-b-c'.replace('-', '+', 1) }} {{ 'ab'.zfill(4) }} {{ "
         "'-7'.zfill(4) }}",
         "a,b a+b-c 00ab -007"},
        {"{{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }}",
         "('k', '=', 'v=w') ('k=v', '=', 'w')"},
        {"{{ 'hello world'.title() }} {{ 'aB'.swapcase() }} {{ 'preX'.removeprefix('pre') }} {{ "
         "'Xsuf'.removesuffix('suf') }}",
         "Hello World Ab X X"},
        {"{{ {'a': 1}.get('a') }} {{ {}.get('a') }} {{ {}.get('a', 2) }} {{ {'get': 5}['get'] }}",
         "1 None 2 5"},
        {"{{ [1, 2, 1].count(1) }} {{ [1, 2].index(2) }} {{ (1, 2).index(1) }} {{ [1].copy() }}",
         "2 1 0 [1]"},
        {"{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'äöü'[::-1] }}{{ 'abcdef'[1:5:2] }}{{ [1, 2, 3][::-1] "
         "}}{{ (1, 2, 3)[1:] }}",
         "bcüöäbd[3, 2, 1](2, 3)"},
        {"{{ 'ΑΣ'.lower() }} {{ 'ΣΑ'.lower() }} {{ 'ǆ'.title() }} {{ 'İ'.lower()|length }}",
         "ας σα ǅ 2"},
        {"{{ 'a1'.isalnum() }}{{ '١'.isdigit() }}{{ 'aB'.islower() }}{{ ' '.isspace() }}{{ "
         "''.isalpha() }}",
         "TrueTrueFalseTrueFalse"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

static void tests_of_values(void **state)
{
    static const test_case cases[] = {
        {"{{ 3 is odd }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 1 is sameas 1 }}{{ 1 is sameas "
         "true }}",
         "TrueTrueTrueTrueFalse"},
        {"{{ true is number }}{{ true is integer }}{{ 1.0 is float }}{{ 1 is boolean }}",
         "TrueFalseTrueFalse"},
        {"{{ x is undefined }}{{ x is none }}{{ x is sequence }}{{ x is iterable }}{{ x is "
         "callable }}",
         "TrueFalseTrueTrueTrue"},
        {"{{ 'x' is sequence }}{{ {} is sequence }}{{ {}.keys() is sequence }}{{ range(1) is "
         "sequence }}",
         "TrueTrueFalseTrue"},
        {"{{ 'a' is in 'abc' }}{{ 1 is in [2] }}{{ 2 is gt 1 }}{{ 2 is not eq 2 }}{{ 'A' is upper "
         "}}",
         "TrueFalseTrueFalseTrue"},
        {"{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}{{ '=='is test }}",
         "TrueFalseTrueTrue"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

static void operators(void **state)
{
    static const test_case cases[] = {
        {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 % 2 }} {{ 7.5 // -2 }} {{ 1 "
         "/ 4 }}",
         "3 -4 2 -2 0.5 -4.0 0.25"},
        {"{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** -1 }} {{ -2|abs }} {{ 1 ~ 2 * 3 }}",
         "64 4 0.5 2 16"},
        {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 == true }} {{ 1 in [1] == true }}",
         "True False True False"},
        {"{{ not 1 == 2 }} {{ not not 1 }} {{ 1 and 0 or 5 }} {{ '' or none }} {{ 2 and 3 }}",
         "True True 5 None 3"},
        {"{{ 'a' if 0 else 'b' if 0 else 'c' }} {{ 'x' if 0 }}|", "c |"},
        {"{{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'ab' * 2 }} {{ [0] * 3 }} {{ 1 ~ 'a' ~ none ~ x }}",
         "[1, 2] (1, 2) abab [0, 0, 0] 1aNone"},
        {"{{ [1, 2] < [1, 3] }} {{ [1] == (1,) }} {{ {'a': 1} == {'a': 1.0} }} {{ 'a' not in {'b': "
         "1} }}",
         "True False True True"},
        {"{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 > 9007199254740992.0 }}",
         "False True"},
        {"{{ x == y }} {{ x != 1 }} {{ 1 in x }} {{ x|length }}", "True True False 0"},
        {"{{ -9223372036854775807 - 1 }}", "-9223372036854775808"},
    };
    (void)state;
    test_template_cases(cases, sizeof cases / sizeof *cases, "{}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters),
        cmocka_unit_test(methods),
        cmocka_unit_test(tests_of_values),
        cmocka_unit_test(operators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
