#include "bench/capacity.h"

#include <math.h>

void cn_capacity_init(cn_capacity *s, double min_per_s, double max_per_s, double start_per_s,
                      double precision)
{
    *s = (cn_capacity){.state = CN_CAPACITY_GROWING,
                       .next_per_s = start_per_s,
                       .min_per_s = min_per_s,
                       .max_per_s = max_per_s,
                       .precision = precision};
}

bool cn_capacity_is_over(const cn_capacity *s) { return s->state >= CN_CAPACITY_FOUND; }

// Rates are compared by their ratio, so the middle is the geometric one.
static void choose_next(cn_capacity *s)
{
    if (s->good_per_s > 0 && s->bad_per_s > 0) {
        s->state = s->bad_per_s <= s->good_per_s * (1 + s->precision) ? CN_CAPACITY_FOUND
                                                                      : CN_CAPACITY_BISECTING;
        s->next_per_s = sqrt(s->good_per_s * s->bad_per_s);
    } else if (s->good_per_s > 0) {
        if (s->good_per_s >= s->max_per_s) s->state = CN_CAPACITY_ABOVE;
        s->next_per_s = fmin(s->max_per_s, s->good_per_s * 2);
    } else {
        if (s->bad_per_s <= s->min_per_s) s->state = CN_CAPACITY_BELOW;
        s->next_per_s = fmax(s->min_per_s, s->bad_per_s / 2);
    }
}

void cn_capacity_note(cn_capacity *s, bool passed)
{
    *(passed ? &s->good_per_s : &s->bad_per_s) = s->next_per_s;
    choose_next(s);
}

cn_capacity_estimate cn_capacity_estimate_of(const double *knees, uint32_t count)
{
    cn_capacity_estimate e = {0, 0};
    double squares = 0;
    for (uint32_t i = 0; i < count; i++) e.mean_per_s += knees[i] / count;
    if (count < 2) return e;
    for (uint32_t i = 0; i < count; i++) {
        squares += (knees[i] - e.mean_per_s) * (knees[i] - e.mean_per_s);
    }
    e.margin_per_s = cn_figures_t_95(count - 1) * sqrt(squares / (count - 1) / count);
    return e;
}

bool cn_capacity_falls_behind(const double *in_flight, uint32_t count)
{
    const uint32_t half = count / 2;
    double mean = 0;
    if (count < 20) return false;
    for (uint32_t i = half; i < count; i++) mean += in_flight[i] / (count - half);
    const cn_figures_slope s = cn_figures_slope_of(in_flight + half, count - half);
    return s.slope - s.margin > 0 && s.slope * (count - half) > 0.5 * mean && mean > 2;
}
