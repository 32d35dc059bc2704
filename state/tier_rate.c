#include "state/tier_rate.h"

#include "base/assert.h"

enum { WINDOW_NS = 500000000, TRY_EVERY = 16 };

void cn_tier_rate_add(cn_tier_rate *rate, uint64_t amount, uint64_t busy_ns)
{
    rate->amount += (double)amount;
    rate->busy_ns += (double)busy_ns;
    while (rate->busy_ns > 2.0 * WINDOW_NS) {
        rate->amount /= 2;
        rate->busy_ns /= 2;
    }
}

void cn_tier_rate_begin(cn_tier_rate *rate, uint64_t now_ns)
{
    if (rate->in_flight++ == 0) rate->since_ns = now_ns;
}

void cn_tier_rate_end(cn_tier_rate *rate, uint64_t amount, uint64_t now_ns)
{
    CN_ASSERT(rate->in_flight > 0);
    rate->in_flight--;
    cn_tier_rate_add(rate, amount, now_ns - rate->since_ns);
    rate->since_ns = now_ns;
}

void cn_tier_rate_cancel(cn_tier_rate *rate, uint64_t now_ns)
{
    CN_ASSERT(rate->in_flight > 0);
    rate->in_flight--;
    rate->since_ns = now_ns;
}

double cn_tier_rate_ns(const cn_tier_rate *rate, double amount)
{
    return rate->amount > 0 ? amount * rate->busy_ns / rate->amount : 0;
}

double cn_tier_rate_per_s(const cn_tier_rate *rate)
{
    return rate->busy_ns > 0 ? rate->amount / rate->busy_ns * 1e9 : 0;
}

bool cn_tier_choice_restores(cn_tier_choice *choice, double restore_ns, double compute_ns)
{
    if (restore_ns > 0 && compute_ns > 0) {
        if (restore_ns > compute_ns * 1.25) choice->computes = true;
        else if (restore_ns * 1.25 < compute_ns) choice->computes = false;
    }
    if (choice->computes && ++choice->passed < TRY_EVERY) return false;
    choice->passed = 0;
    return true;
}
