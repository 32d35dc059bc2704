/* model/template_sort_int.h: sorted() with a key function.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_run_int.h"

/* Makes the key of an item; BAD if the render has failed. */
typedef cn_value cn_sort_key(cn_run *run, cn_value item, const void *context);

/* The items of `v` in stable order of their keys (of themselves if `key` is NULL), as a LIST. */
cn_value cn_template_sort_items(cn_run *run, cn_value v, bool reverse, cn_sort_key *key,
                                const void *context);
