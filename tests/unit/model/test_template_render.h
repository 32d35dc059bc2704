/* tests/unit/model/test_template_render.h: renders a template in one call.
 *
 * Threads: one.
 * Memory:  render frees what it takes; the text stays in a static buffer until the next call. */
#pragma once

#include <stdio.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

#include "model/template.h"

typedef struct test_render {
    cn_code code;
    char text[4096];         // what was rendered, or the error
} test_render;

typedef struct test_case {
    const char *template;
    const char *want;        // what is rendered, or the error
} test_case;

/* Renders with the JSON object `variables` under `limits`, within `output_bytes`. */
static inline test_render test_template_limited(const char *text, const char *variables,
                                                cn_template_limits limits, size_t output_bytes,
                                                uint64_t memory_bytes)
{
    static test_render result;
    cn_template *tmpl = NULL;
    cn_err err = {0};
    cn_arena arena;
    cn_buf out;
    json_t *json = json_loads(variables, 0, NULL);
    assert_non_null(json);
    cn_arena_init(&arena, memory_bytes);
    cn_buf_init(&out, output_bytes);
    result.code = cn_template_open("t", text, strlen(text), &tmpl, &err);
    if (!result.code) result.code = cn_template_render(tmpl, json, &limits, &arena, &out, &err);
    if (result.code) {
        assert_int_equal(err.code, result.code);
        assert_int_equal(out.len, 0);
        snprintf(result.text, sizeof result.text, "%s", err.text);
    } else {
        assert_true(out.len < sizeof result.text);
        if (out.len) memcpy(result.text, out.data, out.len);
        result.text[out.len] = '\0';
    }
    cn_template_close(tmpl);
    cn_buf_close(&out);
    cn_arena_close(&arena);
    json_decref(json);
    return result;
}

static inline test_render test_template(const char *text, const char *variables)
{
    const cn_template_limits limits = {.steps_max = 1000000, .depth_max = 64, .now_s = 0};
    return test_template_limited(text, variables, limits, 1 << 20, 1 << 24);
}

/* Every case renders to what it wants. */
static inline void test_template_cases(const test_case *cases, size_t count, const char *variables)
{
    for (size_t i = 0; i < count; i++) {
        const test_render result = test_template(cases[i].template, variables);
        if (result.code) print_error("%s: %s\n", cases[i].template, result.text);
        assert_int_equal(result.code, CN_OK);
        assert_string_equal(result.text, cases[i].want);
    }
}

/* Every case ends with `code` and the sentence that it wants. */
static inline void test_template_errors(const test_case *cases, size_t count, cn_code code)
{
    for (size_t i = 0; i < count; i++) {
        const test_render result = test_template(cases[i].template, "{}");
        assert_string_equal(result.text, cases[i].want);
        assert_int_equal(result.code, code);
    }
}
