#include "model/template.h"

#include <stdlib.h>
#include <string.h>

#include "model/template_ast_int.h"
#include "model/template_exec_int.h"
#include "model/template_parse_int.h"
#include "model/template_rest.h"
#include "model/template_rest_int.h"

/* How it works. A template is parsed once into a tree (template_lex, template_expression,
 * template_parse) and walked at every render (template_exec for statements, template_eval for
 * expressions). The tree is read-only and shared; everything that changes is in one cn_run on
 * render's stack (template_run), and whatever a run makes is in the caller's arena.
 *
 *    text ──lex──▶ tokens ──parse──▶ tree ──exec, eval──▶ output
 *                                             │
 *                        natives: filters, tests, methods, globals (tables of C functions)
 *
 * Faithful to Python where templates can tell the difference: str() and repr(), order and equality,
 * code points, generators that are walked once. The one known difference is that integers have 64
 * bits; beyond is an error. */

enum { TREE_BYTES_MAX = 256 << 20, TEXT_BYTES_MAX = 4 << 20 };

cn_code cn_template_open(const char *name, const char *text, size_t len, cn_template **out,
                         cn_err *err)
{
    if (len > TEXT_BYTES_MAX) {
        return cn_err_set(err, CN_E_FORMAT, "%s: %zu bytes; a template has at most %d", name, len,
                          TEXT_BYTES_MAX);
    }
    cn_template *tmpl = calloc(1, sizeof *tmpl);
    if (!tmpl) return cn_err_set(err, CN_E_MEMORY, "%s: no memory for the template", name);
    cn_arena_init(&tmpl->arena, TREE_BYTES_MAX);
    tmpl->name = cn_arena_copy(&tmpl->arena, name, strlen(name));
    const cn_code code = tmpl->name ? cn_template_parse(tmpl, (cn_text){text, len}, err)
                                    : cn_err_set(err, CN_E_MEMORY, "%s: no memory", name);
    if (code != CN_OK) {
        cn_template_close(tmpl);
        return code;
    }
    tmpl->messages_at = cn_template_rest_find(tmpl, &tmpl->asks_first);
    *out = tmpl;
    return CN_OK;
}

void cn_template_close(cn_template *tmpl)
{
    if (!tmpl) return;
    cn_arena_close(&tmpl->arena);
    free(tmpl);
}

/* What is before the loop over messages, the loop, and what is behind it; only what follows the first
 * message is kept if others are left out. */
static void run_parts(cn_run *run)
{
    const cn_nodes body = run->tmpl->body;
    const uint32_t at = run->tmpl->messages_at;
    const size_t mark = run->place > 0 ? cn_template_run_begin(run) : 0;
    cn_template_exec_body(run, &(cn_nodes){body.at, at});
    if (run->place > 0) cn_template_run_end(run, mark);
    if (!run->code) cn_template_exec_body(run, &(cn_nodes){body.at + at, 1});
    run->messages_end = run->out->len;
    if (!run->code) cn_template_exec_body(run, &(cn_nodes){body.at + at + 1, body.count - at - 1});
}

cn_code cn_template_rest_render(const cn_template *tmpl, const json_t *variables,
                                const cn_template_limits *limits, uint32_t place, cn_arena *arena,
                                cn_buf *out, size_t *messages_bytes, cn_err *err)
{
    const size_t start = out->len;
    cn_run run = {
        .tmpl = tmpl,
        .variables = variables,
        .arena = arena,
        .out = out,
        .steps_left = limits->steps_max,
        .steps_max = limits->steps_max,
        .depth_max = limits->depth_max,
        .now_s = limits->now_s,
        .place = place,
        .messages_end = start,
        .line = 1,
        .err = err,
    };
    run.globals = cn_template_run_take(&run, tmpl->name_count, sizeof *run.globals);
    if (!run.globals) return run.code;
    for (uint32_t i = 0; i < tmpl->name_count; i++) run.globals[i] = make_missing();
    if (cn_template_rest_is_possible(tmpl)) run_parts(&run);
    else cn_template_exec_body(&run, &tmpl->body);
    if (run.code) out->len = start;
    *messages_bytes = run.messages_end - start;
    return run.code;
}

cn_code cn_template_render(const cn_template *tmpl, const json_t *variables,
                           const cn_template_limits *limits, cn_arena *arena, cn_buf *out,
                           cn_err *err)
{
    size_t ignored;
    return cn_template_rest_render(tmpl, variables, limits, 0, arena, out, &ignored, err);
}
