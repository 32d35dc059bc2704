/* model/template_exec_int.h: statements.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_ast_int.h"
#include "model/template_eval_int.h"

typedef enum cn_flow {
    CN_FLOW_NEXT,
    CN_FLOW_BREAK,
    CN_FLOW_CONTINUE,
    CN_FLOW_FAILED,
} cn_flow;

cn_flow cn_template_exec_body(cn_run *run, const cn_nodes *body);
/* Binds what a target names to `value`; false if the render has failed. */
bool cn_template_exec_assign(cn_run *run, const cn_node *target, cn_value value);
/* What a macro writes, as a string. */
cn_value cn_template_exec_macro(cn_run *run, const cn_macro *macro, const cn_args *args);
