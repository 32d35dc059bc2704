/* model/template_rest_int.h: the loop over messages that the rest of a conversation goes through.
 *
 * Threads: any, a tree is immutable.
 * Memory:  none of its own. */
#pragma once

#include "model/template_ast_int.h"

/* The place of that loop among the template's outermost statements; UINT32_MAX: the rest is not possible.
 * *asks_first: whether what is before it looks at the first message. */
uint32_t cn_template_rest_find(const cn_template *tmpl, bool *asks_first);
