#include "model/template_rest.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* Where the rest is possible it must be what rendering all of it ends with: that is compared for random
 * conversations. Where a template looks at other messages it must not be possible: each of the templates
 * below would write something else. */

#define LOOP(body) "{% for m in messages %}" body "{% endfor %}"

static const char *const possible[] = {
    LOOP("<{{ m.role }}>{{ m.content | trim }}"),
    "{{ bos }}" LOOP("{% if loop.first %}!{% endif %}{{ loop.index }}{{ m.content }}")
        "{% if add_generation_prompt %}<a>{% endif %}",
    "{% if not messages or messages[0].role != 'system' %}default{% endif %}" LOOP("{{ m.content }};"),
    "{% if messages and messages[0]['role'] == 'system' %}{% set s = messages[0].content | upper %}"
    "{% endif %}" LOOP("{{ s }}/{{ m.content }}") "{{ s if s }}",
    "{% set ns = namespace(mark='#') %}{% set marks = {'user': 'U', 'system': 'S', 'assistant': 'A'} %}"
        LOOP("{{ ns.mark ~ marks[m.role] }}{% set t = m.content %}{{ t }}"),
    "{% for t in tools %}{{ loop.index }}{{ t }}{{ ', ' if not loop.last }}{% endfor %}"
        LOOP("{% for c in m.content %}{{ c }}{% if loop.last %}.{% endif %}{% if loop.index == 3 %}"
             "{% break %}{% endif %}{% endfor %}{{ m.content | list | map('upper') | join }}"),
    LOOP("{% if m.role == 'system' %}{% continue %}{% endif %}{% generation %}{{ m.content }}"
         "{% endgeneration %}") "{% for t in tools %}{{ t }}{% endfor %}",
};

static const char *const impossible[] = {
    "no loop over anything",
    LOOP("{{ m.content }}{% if loop.last %}!{% endif %}"),
    LOOP("{{ loop.length }}"),
    LOOP("{{ loop['index'] }}"),
    LOOP("{{ loop.previtem.content if not loop.first }}"),
    LOOP("{{ loop.changed(m.role) }}"),
    LOOP("{{ loop.cycle('a', 'b') }}"),
    LOOP("{% set l = loop %}{{ l.last }}"),
    LOOP("{{ messages[loop.index0 - 1].content }}"),
    LOOP("{{ messages | length }}"),
    LOOP("{{ messages[0].content }}"),
    LOOP("{{ m.content }}") "{{ messages[-1].role }}",
    LOOP("{{ m.content }}") LOOP("{{ m.role }}"),
    "{{ messages[-1].role }}" LOOP("{{ m.content }}"),
    "{{ messages | length }}" LOOP("{{ m.content }}"),
    "{{ messages or 'none' }}" LOOP("{{ m.content }}"),
    "{% set messages = messages[1:] %}" LOOP("{{ m.content }}"),
    "{% set rest = messages[1:] %}{% for m in rest %}{{ m.content }}{% endfor %}",
    "{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
    "{% for m in messages if m.content %}{{ loop.index }}{% endfor %}",
    LOOP("{{ m.content }}{% if m.role == 'assistant' %}{% break %}{% endif %}"),
    "{% set ns = namespace(n=0) %}" LOOP("{% set ns.n = ns.n + 1 %}{{ ns.n }}"),
    "{% set c = cycler('a', 'b') %}" LOOP("{{ c.next() }}"),
    "{% set j = joiner() %}" LOOP("{{ j() }}{{ m.content }}"),
    "{% set once = tools | map('upper') %}" LOOP("{{ once | list | length }}"),
    "{% macro w(x) %}{{ x }}{% endmacro %}" LOOP("{{ w(m.content) }}"),
    "{% block b %}" LOOP("{{ m.content }}") "{% endblock %}",
    "{% if true %}" LOOP("{{ m.content }}") "{% endif %}",
    "{{ strftime_now('%H') }}" LOOP("{{ m.content }}"),
};

static const cn_template_limits limits = {.steps_max = 100000, .depth_max = 50};

static cn_template *open_template(const char *text)
{
    cn_template *tmpl;
    cn_err err;
    if (cn_template_open("t", text, strlen(text), &tmpl, &err) != CN_OK) fail_msg("%s", err.text);
    return tmpl;
}

// Catches a template whose rounds know more than themselves.
static void what_looks_elsewhere_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        cn_template *tmpl = open_template(impossible[i]);
        if (cn_template_rest_is_possible(tmpl)) fail_msg("%s", impossible[i]);
        cn_template_close(tmpl);
    }
}

static json_t *random_messages(test_rng *rng, uint32_t count)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    json_t *messages = json_array();
    for (uint32_t i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%sm%u ", test_rng_below(rng, 2) ? " " : "", i);
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", roles[test_rng_below(rng, 3)],
                                                  "content", text));
    }
    return messages;
}

// Renders into `out`; the messages' bytes.
static size_t render(const cn_template *tmpl, json_t *messages, uint32_t place, cn_buf *out)
{
    cn_arena arena;
    cn_err err;
    size_t messages_bytes = SIZE_MAX;
    json_t *variables = json_pack("{s:O, s:b, s:s, s:[s, s]}", "messages", messages,
                                  "add_generation_prompt", 1, "bos", "<b>", "tools", "x", "y");
    cn_arena_init(&arena, 1 << 20);
    cn_buf_clear(out);
    const cn_code code =
        cn_template_rest_render(tmpl, variables, &limits, place, &arena, out, &messages_bytes, &err);
    if (code != CN_OK) fail_msg("%s", err.text);
    cn_arena_close(&arena);
    json_decref(variables);
    return messages_bytes;
}

/* A conversation grows by a few messages: what the earlier ones wrote stays, and the rest follows it. */
static void compare(const cn_template *tmpl, test_rng *rng, const char *text)
{
    const uint32_t place = 1 + test_rng_below(rng, 6), count = place + test_rng_below(rng, 4);
    json_t *messages = random_messages(rng, count), *rest = json_array(), *before = json_array();
    cn_buf whole, part;
    cn_buf_init(&whole, 1 << 16);
    cn_buf_init(&part, 1 << 16);
    if (cn_template_rest_asks_first(tmpl)) json_array_append(rest, json_array_get(messages, 0));
    else json_array_append_new(rest, json_pack("{s:s, s:s}", "role", "user", "content", "another"));
    for (uint32_t i = place; i < count; i++) json_array_append(rest, json_array_get(messages, i));
    for (uint32_t i = 0; i < place; i++) json_array_append(before, json_array_get(messages, i));
    const size_t kept = render(tmpl, before, 0, &part);
    const size_t end = render(tmpl, messages, 0, &whole);
    if (memcmp(part.data ? part.data : "", whole.data ? whole.data : "", kept)) fail_msg("begin: %s", text);
    const size_t rest_end = render(tmpl, rest, place, &part);
    if (kept + part.len != whole.len || kept + rest_end != end ||
        (part.len && memcmp(part.data, whole.data + kept, part.len))) {
        fail_msg("%s: from %u of %u", text, place, count);
    }
    cn_buf_close(&whole);
    cn_buf_close(&part);
    json_decref(messages);
    json_decref(rest);
    json_decref(before);
}

static void the_rest_is_what_the_whole_ends_with(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("template_rest");
    for (size_t i = 0; i < sizeof possible / sizeof *possible; i++) {
        cn_template *tmpl = open_template(possible[i]);
        if (!cn_template_rest_is_possible(tmpl)) fail_msg("%s", possible[i]);
        assert_int_equal(cn_template_rest_asks_first(tmpl), strstr(possible[i], "messages[0]") != NULL);
        for (int round = 0; round < 200; round++) compare(tmpl, &rng, possible[i]);
        cn_template_close(tmpl);
    }
}

// Catches a rest that costs what the whole would: the budget is enough for a few messages.
static void the_rest_costs_the_rest(void **state)
{
    (void)state;
    test_rng rng = test_rng_open("template_rest");
    cn_template *tmpl = open_template(possible[0]);
    const cn_template_limits few = {.steps_max = 60, .depth_max = 50};
    json_t *all = random_messages(&rng, 100), *rest = json_array();
    json_array_append(rest, json_array_get(all, 0));
    json_array_append(rest, json_array_get(all, 99));
    for (uint32_t place = 0; place < 100; place += 99) {
        cn_arena arena;
        cn_buf out;
        cn_err err;
        size_t bytes;
        json_t *variables = json_pack("{s:O}", "messages", place ? rest : all);
        cn_arena_init(&arena, 1 << 20);
        cn_buf_init(&out, 1 << 16);
        const cn_code want = place ? CN_OK : CN_E_LIMIT;
        assert_int_equal(cn_template_rest_render(tmpl, variables, &few, place, &arena, &out, &bytes, &err),
                         want);
        assert_int_equal(bytes, out.len);
        cn_buf_close(&out);
        cn_arena_close(&arena);
        json_decref(variables);
    }
    json_decref(all);
    json_decref(rest);
    cn_template_close(tmpl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_looks_elsewhere_is_refused),
        cmocka_unit_test(the_rest_is_what_the_whole_ends_with),
        cmocka_unit_test(the_rest_costs_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
