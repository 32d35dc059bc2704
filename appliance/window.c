#include "appliance/window.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* How it works. A track is a ring of steps, each with what came in its time, and the sum of all.
 * What comes joins the newest step and the sum; when the time of a step is over, the oldest leaves
 * the sum and becomes the newest. Both tracks are fed with the same differences between the
 * histogram and its last copy. After a gap longer than the ring (a machine that slept) it is empty.
 */

enum { STEPS_MAX = 60 };

typedef struct track {
    uint64_t step_ns, end_ns;    // of the newest step
    uint32_t step_count, at;     // `at` is the newest
    uint32_t steps[STEPS_MAX][CN_HISTOGRAM_BUCKETS];
    cn_histogram sum;
} track;

struct cn_window {
    const cn_histogram *source;
    uint64_t last[CN_HISTOGRAM_BUCKETS];
    track tracks[CN_WINDOW_SPAN_COUNT];
};

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void change(_Atomic uint64_t *counter, uint64_t more, uint64_t less)
{
    atomic_store_explicit(counter, get(counter) + more - less, memory_order_relaxed);
}

cn_code cn_window_open(const cn_histogram *source, uint64_t now_ns, cn_window **out)
{
    static const struct { uint64_t step_ns; uint32_t count; } shapes[] = {
        [CN_WINDOW_MINUTE] = {2000000000, 31}, [CN_WINDOW_HOUR] = {60000000000, 60}};
    cn_window *w = calloc(1, sizeof *w);
    *out = w;
    if (!w) return CN_E_MEMORY;
    w->source = source;
    for (uint32_t i = 0; i < CN_HISTOGRAM_BUCKETS; i++) w->last[i] = get(&source->buckets[i]);
    for (int i = 0; i < CN_WINDOW_SPAN_COUNT; i++) {
        w->tracks[i].step_ns = shapes[i].step_ns;
        w->tracks[i].step_count = shapes[i].count;
        w->tracks[i].end_ns = now_ns + shapes[i].step_ns;
    }
    return CN_OK;
}

void cn_window_close(cn_window *window) { free(window); }

// The oldest step becomes the newest.
static void turn(track *t)
{
    t->at = (t->at + 1) % t->step_count;
    uint32_t *oldest = t->steps[t->at];
    for (uint32_t i = 0; i < CN_HISTOGRAM_BUCKETS; i++) {
        if (!oldest[i]) continue;
        change(&t->sum.buckets[i], 0, oldest[i]);
        change(&t->sum.count, 0, oldest[i]);
        oldest[i] = 0;
    }
    t->end_ns += t->step_ns;
}

static void advance(track *t, uint64_t now_ns)
{
    for (uint32_t i = 0; i < t->step_count && now_ns >= t->end_ns; i++) turn(t);
    if (now_ns >= t->end_ns) t->end_ns = now_ns + t->step_ns;
}

void cn_window_sample(cn_window *w, uint64_t now_ns)
{
    for (int i = 0; i < CN_WINDOW_SPAN_COUNT; i++) advance(&w->tracks[i], now_ns);
    if (get(&w->source->count) == 0) return;
    for (uint32_t i = 0; i < CN_HISTOGRAM_BUCKETS; i++) {
        const uint64_t now = get(&w->source->buckets[i]), more = now - w->last[i];
        if (!more) continue;
        w->last[i] = now;
        for (int k = 0; k < CN_WINDOW_SPAN_COUNT; k++) {
            track *t = &w->tracks[k];
            t->steps[t->at][i] += (uint32_t)more;
            change(&t->sum.buckets[i], more, 0);
            change(&t->sum.count, more, 0);
        }
    }
}

uint64_t cn_window_count(const cn_window *w, cn_window_span span)
{
    return get(&w->tracks[span].sum.count);
}

uint64_t cn_window_quantile(const cn_window *w, cn_window_span span, double q)
{
    return cn_histogram_quantile(&w->tracks[span].sum, q);
}
