#include "base/histogram.h"

#include <string.h>

// Values below 64 have a bucket each; above, the top six bits choose one of 32 in their power of two.
static uint32_t bucket_of(uint64_t value)
{
    if (value < 2 * CN_HISTOGRAM_SUB) return (uint32_t)value;
    const uint32_t shift = (uint32_t)(58 - __builtin_clzll(value));
    return (shift + 1) * CN_HISTOGRAM_SUB + (uint32_t)(value >> shift) - CN_HISTOGRAM_SUB;
}

uint64_t cn_histogram_bucket_max(uint32_t bucket)
{
    if (bucket < 2 * CN_HISTOGRAM_SUB) return bucket;
    const uint32_t shift = bucket / CN_HISTOGRAM_SUB - 1;
    const uint64_t start = (uint64_t)(bucket % CN_HISTOGRAM_SUB + CN_HISTOGRAM_SUB) << shift;
    return start + ((UINT64_C(1) << shift) - 1);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

// One writer: a load and a store are enough, and cheaper than an atomic addition.
static void add(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, get(counter) + value, memory_order_relaxed);
}

void cn_histogram_init(cn_histogram *histogram) { memset(histogram, 0, sizeof *histogram); }

void cn_histogram_add(cn_histogram *histogram, uint64_t value)
{
    add(&histogram->buckets[bucket_of(value)], 1);
    add(&histogram->sum, value);
    add(&histogram->count, 1);
}

uint64_t cn_histogram_quantile(const cn_histogram *histogram, double q)
{
    uint64_t total = 0, seen = 0;
    for (uint32_t i = 0; i < CN_HISTOGRAM_BUCKETS; i++) total += get(&histogram->buckets[i]);
    if (total == 0) return 0;
    const double wanted = q * (double)total;
    for (uint32_t i = 0; i < CN_HISTOGRAM_BUCKETS; i++) {
        seen += get(&histogram->buckets[i]);
        if (seen > 0 && (double)seen >= wanted) return cn_histogram_bucket_max(i);
    }
    return cn_histogram_bucket_max(CN_HISTOGRAM_BUCKETS - 1);
}

uint64_t cn_histogram_count_at_most(const cn_histogram *histogram, uint64_t limit)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < CN_HISTOGRAM_BUCKETS && cn_histogram_bucket_max(i) <= limit; i++) {
        count += get(&histogram->buckets[i]);
    }
    return count;
}
