#include "model/template_sort_int.h"

/* How it works. Merge sort from the bottom up on pairs of key and item: it is stable, asks only
 * "less", and stops at the first pair that has no order. For `reverse` equal items stay in their
 * order, as in Python. */

typedef struct keyed {
    cn_value key;
    cn_value item;
} keyed;

// Whether `b` must come before `a`, which stands before it now.
static bool goes_first(cn_run *run, const keyed *b, const keyed *a, bool reverse)
{
    int order = 0;
    if (!cn_template_run_charge(run, 1)) return false;
    if (!cn_template_value_order(run, b->key, a->key, &order)) return false;
    return reverse ? order == 1 : order == -1;
}

static void merge(cn_run *run, const keyed *from, keyed *to, size_t count, size_t width,
                  bool reverse)
{
    for (size_t start = 0; start < count && !run->code; start += 2 * width) {
        const size_t middle = start + width < count ? start + width : count;
        const size_t end = middle + width < count ? middle + width : count;
        size_t left = start, right = middle;
        for (size_t at = start; at < end; at++) {
            const bool take_right =
                left == middle ||
                (right < end && goes_first(run, &from[right], &from[left], reverse));
            to[at] = from[take_right ? right++ : left++];
        }
    }
}

static cn_value items_of(cn_run *run, const keyed *sorted, size_t count)
{
    cn_value *items = cn_template_run_take(run, count, sizeof *items);
    if (!items) return make_bad();
    for (size_t i = 0; i < count; i++) items[i] = sorted[i].item;
    return make_items(CN_LIST, items, count);
}

cn_value cn_template_sort_items(cn_run *run, cn_value v, bool reverse, cn_sort_key *key,
                                const void *context)
{
    const cn_value list = cn_template_value_list(run, v);
    if (is_bad(list)) return list;
    keyed *from = cn_template_run_take(run, list.len, sizeof *from);
    keyed *to = cn_template_run_take(run, list.len, sizeof *to);
    if (!from || !to) return make_bad();
    for (uint32_t i = 0; i < list.len; i++) {
        from[i].item = list.as.items[i];
        from[i].key = key ? key(run, from[i].item, context) : from[i].item;
        if (is_bad(from[i].key)) return make_bad();
    }
    for (size_t width = 1; width < list.len; width *= 2) {
        merge(run, from, to, list.len, width, reverse);
        if (run->code) return make_bad();
        keyed *swap = from;
        from = to;
        to = swap;
    }
    return items_of(run, from, list.len);
}
