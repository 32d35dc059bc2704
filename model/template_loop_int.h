/* model/template_loop_int.h: the rounds of a for loop, and the variable `loop`.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_ast_int.h"
#include "model/template_run_int.h"

typedef struct cn_loop {
    cn_walk walk;
    const cn_for *def;
    cn_scope *outer;             // where the loop stands
    cn_scope *test_scope;        // for `if` of the loop; NULL if it has none
    int64_t index0;
    int64_t length;              // -1: not known yet
    cn_value current, before;
    cn_value after;              // the item that was looked at ahead, MISSING if none was
    cn_value changed;            // last arguments of loop.changed, MISSING before
} cn_loop;

/* Starts a loop over `source`; NULL if the render has failed. */
cn_loop *cn_template_loop_open(cn_run *run, const cn_for *def, cn_value source);
/* The first item has had its round, as have all that stood between it and the next one, whose place is
 * `place`. */
void cn_template_loop_skip(cn_run *run, cn_loop *loop, uint32_t place);
/* Goes to the next round and gives its item; false after the last, and when the render failed. */
bool cn_template_loop_next(cn_run *run, cn_loop *loop, cn_value *item);
/* loop.name; MISSING if there is no such attribute. */
cn_value cn_template_loop_attribute(cn_run *run, cn_loop *loop, cn_text name);
/* Whether `values` (a tuple) differ from those of the last call: 1 or 0, -1 on failure. */
int cn_template_loop_changed(cn_run *run, cn_loop *loop, cn_value values);
