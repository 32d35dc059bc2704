/* model/template_text_int.h: values as text: Python's str() and repr().
 * All write to the run's output; put begin and end of template_run_int.h around to get a string.
 *
 * Threads: as the run.
 * Memory:  none of its own. */
#pragma once

#include "model/template_run_int.h"

/* str(v) and repr(v); false if the render has failed. */
bool cn_template_text_str(cn_run *run, cn_value v);
bool cn_template_text_repr(cn_run *run, cn_value v);
/* str(v) as a string value (v itself if it is one). */
cn_value cn_template_text_string(cn_run *run, cn_value v);

/* `text` with & < > " ' as HTML entities. */
bool cn_template_text_escape(cn_run *run, cn_text text);

/* repr(real) to `out`, at least 32 bytes; its length. */
size_t cn_template_text_float(double real, char *out);
