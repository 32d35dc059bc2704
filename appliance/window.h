/* appliance/window.h: what a histogram had in the last minute and the last hour.
 * Histograms only grow; a window remembers what came when, in steps of 2 s for the minute and of
 * 60 s for the hour, so that it reaches at most one step further back.
 *
 * Threads: one; the histogram has its own writer.
 * Memory:  about 950 KiB, allocated in open. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"

typedef struct cn_window cn_window;

typedef enum cn_window_span {
    CN_WINDOW_MINUTE,
    CN_WINDOW_HOUR,
    CN_WINDOW_SPAN_COUNT
} cn_window_span;

/* `source` is borrowed until close; what it has by now counts as older. Errors: CN_E_MEMORY. */
cn_code cn_window_open(const cn_histogram *source, uint64_t now_ns, cn_window **out);
/* NULL is fine. */
void cn_window_close(cn_window *window);

/* Takes over what has come; to be called at least about every second. */
void cn_window_sample(cn_window *window, uint64_t now_ns);

/* How many values there are, and quantile `q` of them; 0 if there are none. */
uint64_t cn_window_count(const cn_window *window, cn_window_span span);
uint64_t cn_window_quantile(const cn_window *window, cn_window_span span, double q);
