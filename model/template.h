/* model/template.h: the Jinja that Hugging Face chat templates are written in.
 * An interpreter of the language (expressions, filters, tests, for/if/set/macro/call/filter blocks,
 * namespaces, loop controls, whitespace control), with the environment that transformers'
 * apply_chat_template gives templates: trim_blocks, lstrip_blocks, tojson, raise_exception,
 * strftime_now, {% generation %}. Not a table of known templates.
 *
 * Templates come from the operator, their input from clients: rendering runs under limits on steps,
 * nesting depth and output bytes, and can reach nothing but the given values.
 *
 * Threads: a template is immutable after open; every thread may render at once.
 * Memory:  rendering works in the caller's arena. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

typedef struct cn_template cn_template;

typedef struct cn_template_limits {
    uint64_t steps_max;      // evaluated nodes and loop rounds
    uint32_t depth_max;      // nested calls and blocks
    int64_t now_s;           // what strftime_now prints, seconds since 1970 UTC
} cn_template_limits;

/* Parses `len` bytes of template text. The caller owns *out until close; `name` (copied) starts
 * error texts, followed by line number. Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_template_open(const char *name, const char *text, size_t len, cn_template **out,
                         cn_err *err);
void cn_template_close(cn_template *tmpl);

/* Renders with the members of `variables` (a JSON object, borrowed) as top-level names, appending to
 * `out` (whose bytes_max is the output limit); after an error `out` is as it was before.
 * Errors: CN_E_INVALID with the template's own sentence for raise_exception and with ours, which
 * starts with name and line, for a type error or undefined name; CN_E_LIMIT, CN_E_MEMORY. */
cn_code cn_template_render(const cn_template *tmpl, const json_t *variables,
                           const cn_template_limits *limits, cn_arena *arena, cn_buf *out,
                           cn_err *err);
