/* model/template_parse_int.h: template text to its tree.
 *
 * Threads: any, each with its own template.
 * Memory:  the template's arena. */
#pragma once

#include "model/template.h"
#include "model/template_ast_int.h"

/* Parses `text` into tmpl->body and tmpl->names; tmpl->name starts error texts.
 * Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_template_parse(cn_template *tmpl, cn_text text, cn_err *err);
