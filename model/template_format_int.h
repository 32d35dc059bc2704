/* model/template_format_int.h: text % values and text.format(values).
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_native_int.h"
#include "model/template_run_int.h"

enum { CN_FORMAT_WIDTH_MAX = 10000 };

/* printf's way: `values` is a tuple, a dict for %(name)s, or the one value. */
cn_value cn_template_format_percent(cn_run *run, cn_value text, cn_value values);
/* str.format: the first positional argument is the text itself. */
cn_value cn_template_format_braces(cn_run *run, cn_text text, const cn_args *args);
