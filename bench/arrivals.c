#include "bench/arrivals.h"

#include <math.h>
#include <string.h>

#include "bench/draw.h"

static const char *const names[] = {"poisson", "gamma", "constant",
                                    "onoff",   "ramp",  "ramp-exponential"};

cn_code cn_arrivals_parse(const char *name, cn_arrivals_kind *out, cn_err *err)
{
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = (cn_arrivals_kind)i;
        return CN_OK;
    }
    return cn_err_set(err, CN_E_INVALID,
                      "--arrivals: %.40s; must be poisson, gamma, constant, onoff, ramp or "
                      "ramp-exponential",
                      name);
}

const char *cn_arrivals_name(cn_arrivals_kind kind) { return names[kind]; }

/* How the times come about. A Poisson process with any rate is a Poisson process of rate 1 seen
 * through a clock that runs as fast as the rate: the sum of unit exponentials is taken as the
 * expected count so far, and the inverse of the expected count gives the time. */
static double ramp_time(const cn_arrivals *a, double expected, double duration_s)
{
    const double from = a->rate_per_s, to = a->rate_end_per_s, change = to - from;
    if (fabs(change) < 1e-12 * from) return expected / from;
    if (a->kind == CN_ARRIVALS_RAMP_EXPONENTIAL) {
        const double k = log(to / from) / duration_s;
        return log1p(expected * k / from) / k;
    }
    // from t + change t^2 / (2 T) = expected, in the form that does not cancel for small changes.
    const double root = from * from + 2 * change * expected / duration_s;
    return root < 0 ? INFINITY : 2 * expected / (from + sqrt(root));
}

typedef struct phases {
    double end_s;                // of the current phase
    bool on;
} phases;

// `work` seconds of being on after `now_s`, with the phases that lie between.
static double on_off_time(const cn_arrivals *a, const cn_random *random, phases *p, double now_s,
                          double work)
{
    for (;;) {
        if (p->on && now_s + work < p->end_s) return now_s + work;
        if (p->on) work -= p->end_s - now_s;
        now_s = p->end_s;
        p->on = !p->on;
        p->end_s += cn_draw_exponential(random) * (p->on ? a->on_s : a->off_s);
    }
}

uint32_t cn_arrivals_draw(const cn_arrivals *a, const cn_random *random, uint64_t duration_ns,
                          uint32_t count_max, uint64_t *due_ns)
{
    const double duration_s = duration_ns == UINT64_MAX ? INFINITY : (double)duration_ns / 1e9;
    const double on_share = a->on_s / (a->on_s + a->off_s);
    phases p = {.on = true};
    double now_s = 0, expected = 0;
    uint32_t count = 0;
    if (a->kind == CN_ARRIVALS_ON_OFF) p.end_s = cn_draw_exponential(random) * a->on_s;
    while (count < count_max) {
        switch (a->kind) {
        case CN_ARRIVALS_POISSON: now_s += cn_draw_exponential(random) / a->rate_per_s; break;
        case CN_ARRIVALS_GAMMA:
            now_s += cn_draw_gamma(a->shape, random) / (a->shape * a->rate_per_s);
            break;
        case CN_ARRIVALS_CONSTANT: now_s = count / a->rate_per_s; break;
        case CN_ARRIVALS_ON_OFF:
            now_s = on_off_time(a, random, &p, now_s,
                                cn_draw_exponential(random) * on_share / a->rate_per_s);
            break;
        case CN_ARRIVALS_RAMP:
        case CN_ARRIVALS_RAMP_EXPONENTIAL:
            expected += cn_draw_exponential(random);
            now_s = ramp_time(a, expected, duration_s);
            break;
        }
        if (!(now_s < duration_s)) break;    // also where it is not a number: the ramp is over
        due_ns[count++] = (uint64_t)(now_s * 1e9);
    }
    return count;
}
