/* model/template_json_int.h: values as JSON, byte for byte as Python's json.dumps.
 *
 * Threads: as the run.
 * Memory:  none of its own. */
#pragma once

#include "model/template_run_int.h"

typedef struct cn_json_style {
    cn_text indent;              // of one level
    cn_text item_separator;
    cn_text key_separator;
    bool lines;                  // an item per line, indented
    bool ascii_only;
    bool sorted;
} cn_json_style;

/* Writes to the run's output; false if the render has failed. */
bool cn_template_json_write(cn_run *run, cn_value v, const cn_json_style *style);
