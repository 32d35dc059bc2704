/* bench/figures.h: the arithmetic of reports, on arrays of doubles: percentiles as numpy computes
 * them (linear interpolation), means and deviations, the slope of a line, Welch's test.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own; sort works in place. */
#pragma once

#include <stdint.h>

/* What is said of one metric; all 0 if there are no values. */
typedef struct cn_figures {
    uint64_t count;
    double mean, std, median, p90, p95, p99, p999, max;
} cn_figures;

void cn_figures_sort(double *values, uint64_t count);
/* Of sorted values; `p` from 0 to 100. 0 if there are none. */
double cn_figures_percentile(const double *sorted, uint64_t count, double p);
/* Sorts the values. */
cn_figures cn_figures_of(double *values, uint64_t count);

/* Least squares y = a + slope * x over x = 0, 1, 2, ...: the slope and half the width of its 95 %
 * confidence interval (Student's t); both 0 below 3 values. */
typedef struct cn_figures_slope {
    double slope, margin;
} cn_figures_slope;
cn_figures_slope cn_figures_slope_of(const double *y, uint32_t count);

/* Whether the means of two samples differ (Welch 1947): the difference b - a, its 95 % confidence
 * interval, and the probability of one at least as large if there were none. */
typedef struct cn_figures_difference {
    double difference, low, high, p_value;
} cn_figures_difference;
cn_figures_difference cn_figures_compare(const double *a, uint32_t a_count, const double *b,
                                         uint32_t b_count);

/* Student's t: the probability of |T| >= t, and the t that is exceeded with 5 % in both tails. */
double cn_figures_t_tails(double t, double degrees);
double cn_figures_t_95(double degrees);
