/* base/histogram.h: log-linear histogram of non-negative integers (after HdrHistogram).
 * 32 linear buckets per power of two: a reported value is at most 1/32 above the true one, over the
 * whole range of uint64_t, in a fixed 15 KiB.
 *
 * Threads: one writer; readers on any thread see counts that are each right and together nearly so.
 * Memory:  plain memory of the caller, cleared by init. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum { CN_HISTOGRAM_SUB = 32, CN_HISTOGRAM_BUCKETS = (64 - 5 + 1) * CN_HISTOGRAM_SUB };

typedef struct cn_histogram {
    // Relaxed: each counter is a figure of its own and orders nothing.
    _Atomic uint64_t count, sum;
    _Atomic uint64_t buckets[CN_HISTOGRAM_BUCKETS];
} cn_histogram;

void cn_histogram_init(cn_histogram *histogram);
void cn_histogram_add(cn_histogram *histogram, uint64_t value);

/* The largest value that is counted in a bucket. */
uint64_t cn_histogram_bucket_max(uint32_t bucket);

/* The largest value of the bucket that holds quantile `q` (0 to 1); 0 if empty. */
uint64_t cn_histogram_quantile(const cn_histogram *histogram, double q);

/* How many values are surely at most `limit`: those in buckets that end at or below it. */
uint64_t cn_histogram_count_at_most(const cn_histogram *histogram, uint64_t limit);
