/* model/template_ops_int.h: operators, attributes, items and slices, with Python's rules.
 * Integers have 64 bits; a result beyond is an error.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_ast_int.h"
#include "model/template_run_int.h"

cn_value cn_template_ops_unary(cn_run *run, cn_op op, cn_value a);
/* Arithmetic: CN_OP_ADD to CN_OP_POWER. */
cn_value cn_template_ops_binary(cn_run *run, cn_op op, cn_value a, cn_value b);
/* One comparison: 1 or 0, -1 if the render has failed. */
int cn_template_ops_compare(cn_run *run, cn_op op, cn_value a, cn_value b);

/* of.name: a method, or else an item. Bit k of `kinds`: values of kind k have such a method. */
cn_value cn_template_ops_attribute(cn_run *run, cn_value of, cn_text name, uint32_t kinds);
/* The same for a name that is not in the tree. */
cn_value cn_template_ops_member_or_item(cn_run *run, cn_value of, cn_text name);
/* A method or property only; MISSING if there is none. */
cn_value cn_template_ops_member(cn_run *run, cn_value of, cn_text name);
/* of[index]: an item, or else a method. */
cn_value cn_template_ops_item(cn_run *run, cn_value of, cn_value index);
/* of[start:stop:step]; a part may be MISSING. */
cn_value cn_template_ops_slice(cn_run *run, cn_value of, cn_value start, cn_value stop,
                               cn_value step);
