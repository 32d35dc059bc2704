/* bench/compare.h: whether one run was better than another, and how sure that is.
 * The samples are batch means: each run keeps the means of 20 consecutive stretches of its
 * requests. Single requests of a run depend on each other, because they wait in one queue, and
 * would make any difference look certain. What two runs on one machine cannot show is how much the
 * machine itself changes from run to run: compare several pairs, made in alternation, where it
 * matters.
 *
 * Threads: any, nothing is kept.
 * Memory:  appends to the caller's buffer. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "bench/figures.h"
#include "bench/report.h"

enum { CN_COMPARE_METRICS = 4 };

typedef enum cn_compare_verdict {
    CN_COMPARE_SAME,             // no difference shown
    CN_COMPARE_BETTER,           // b is better in something, and worse in nothing
    CN_COMPARE_WORSE,
    CN_COMPARE_MIXED,            // better in something, worse in something else
    CN_COMPARE_NONE              // a run is invalid, or they did not ask the same
} cn_compare_verdict;

typedef struct cn_compare_metric {
    const char *name;
    double a, b;                 // means
    double a_p99, b_p99;         // 0 where there is none
    cn_figures_difference difference;
    int direction;               // 1: b is better, -1: b is worse, 0: not shown
} cn_compare_metric;

typedef struct cn_compare_result {
    cn_compare_verdict verdict;
    const char *why_none;        // NULL, or why there is no verdict
    bool same_digest, has_digest;
    cn_compare_metric metrics[CN_COMPARE_METRICS];
} cn_compare_result;

/* Compares two runs. The probability that equal servers are called different in any metric is at
 * most 5 % (Bonferroni). Errors: CN_E_SYNTAX, CN_E_FORMAT. */
cn_code cn_compare_runs(const cn_report_file *a, const cn_report_file *b, cn_compare_result *out,
                        cn_err *err);

void cn_compare_write_text(const cn_compare_result *result, const char *a, const char *b,
                           cn_buf *out);
void cn_compare_write_json(const cn_compare_result *result, cn_buf *out);
