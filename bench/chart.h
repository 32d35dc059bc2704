/* bench/chart.h: line charts and bar charts as inline SVG that can be read without colour, without
 * script and by a screen reader: a title, a description with the figures, dashes beside colours.
 *
 * Threads: any, nothing is kept.
 * Memory:  appends to the caller's buffer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

typedef struct cn_chart_line {
    const char *name;
    const double *y;             // one per x of the chart
} cn_chart_line;

typedef struct cn_chart {
    const char *id;              // unique on the page: letters and digits
    const char *title, *x_name, *y_name;
    const double *x;             // ascending; of bars: the upper edges, evenly drawn
    uint32_t count;
    const cn_chart_line *lines;
    uint32_t line_count;         // at most 3
    bool nines; // x is a percentile, drawn so that 90, 99 and 99.9 have equal distances
} cn_chart;

void cn_chart_write_lines(const cn_chart *chart, cn_buf *out);
/* Bars of the first line's values; the texts under them are those of `labels`. */
void cn_chart_write_bars(const cn_chart *chart, const char *const *labels, cn_buf *out);

/* Text with what HTML would read as markup escaped. */
void cn_chart_add_text(const char *text, cn_buf *out);
