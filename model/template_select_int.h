/* model/template_select_int.h: filters that look into the items of a sequence: attribute paths, map
 * and select, sort and group.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_native_int.h"

/* The part of the table of filters that is in template_select.c. */
extern const cn_native cn_template_select_filters[];
