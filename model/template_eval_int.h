/* model/template_eval_int.h: expressions and calls.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_ast_int.h"
#include "model/template_run_int.h"

/* A macro, or the body of a call block, with the names that were visible where it stands. */
typedef struct cn_macro {
    const cn_macro_def *def;
    cn_scope *scope;
} cn_macro;

/* The value of an expression, BAD if the render has failed. */
cn_value cn_template_eval(cn_run *run, const cn_node *node);
/* The value of a call node, with the caller of a call block (MISSING if there is none). */
cn_value cn_template_eval_call(cn_run *run, const cn_node *node, cn_value caller);
/* Calls a value. */
cn_value cn_template_eval_apply(cn_run *run, cn_value callee, const cn_args *args);
