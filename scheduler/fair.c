#include "scheduler/fair_int.h"

#include <stdlib.h>

#include "base/assert.h"

/* How it works. Deficit round robin (Shreedhar, Varghese 1995), with the deficits kept as times: each
 * tenant has a count of the tokens that it has had, divided by its weight, and `now` is the count of
 * one that always wanted its share. What a tenant is below `now` is its deficit, and whoever has the
 * largest goes first, for prompts and for places in the batch.
 *
 *        credit
 *      ◀────────▶
 *   ───┼────x────┼──x──▶ tokens / weight        x  a tenant: the left one goes before the right one
 *               now
 *
 * In the textbook a queue that runs empty loses its deficit, so one that sends little but steadily
 * competes as an equal with one that sends ten times its share, and waits twice as long for its prompt
 * as without it. Here an idle tenant keeps up to `credit` tokens: as long as it stays within its
 * share, it finds the device as if the others were within theirs. The credit bounds what one that comes
 * back from a pause may take at once.
 *
 * `now` moves with those that were given less than they wanted; if nobody was, all are even. */

cn_code cn_fair_open(cn_fair *fair, uint32_t tenant_count, uint32_t credit_tokens)
{
    *fair = (cn_fair){.tenant_count = tenant_count, .credit = credit_tokens};
    fair->tenants = calloc(tenant_count, sizeof *fair->tenants);
    fair->active = calloc(tenant_count, sizeof *fair->active);
    return fair->tenants && fair->active ? CN_OK : CN_E_MEMORY;
}

void cn_fair_close(cn_fair *fair)
{
    free(fair->tenants);
    free(fair->active);
}

// ---- who is there

static void become_active(cn_fair *f, cn_fair_tenant *t, uint32_t weight)
{
    t->is_active = true;
    t->weight = weight;
    t->place = f->active_count;
    f->active[f->active_count++] = (uint32_t)(t - f->tenants);
    f->weight_sum += weight;
    if (t->had < f->now - f->credit / weight) t->had = f->now - f->credit / weight;
}

static void become_idle(cn_fair *f, cn_fair_tenant *t)
{
    const uint32_t last = f->active[--f->active_count];
    f->active[t->place] = last;
    f->tenants[last].place = t->place;
    f->weight_sum -= t->weight;
    t->is_active = false;
}

void cn_fair_enter(cn_fair *f, cn_sequence *s, bool at_the_head)
{
    cn_fair_tenant *t = cn_fair_of(f, s);
    if (!t->is_active) become_active(f, t, s->weight);
    switch (s->state) {
    case CN_SEQUENCE_FORKING: t->forking++; break;
    case CN_SEQUENCE_RUNNING: t->running++; break;
    case CN_SEQUENCE_WAITING:
        if (at_the_head) cn_sequence_list_prepend(&t->waiting, s);
        else cn_sequence_list_append(&t->waiting, s);
        f->waiting_count++;
        break;
    case CN_SEQUENCE_FREE: CN_ASSERT(false);
    }
}

void cn_fair_leave(cn_fair *f, cn_sequence *s)
{
    cn_fair_tenant *t = cn_fair_of(f, s);
    switch (s->state) {
    case CN_SEQUENCE_FORKING: t->forking--; break;
    case CN_SEQUENCE_RUNNING: t->running--; break;
    case CN_SEQUENCE_WAITING:
        if (t->cursor == s) t->cursor = s->newer;
        cn_sequence_list_remove(&t->waiting, s);
        f->waiting_count--;
        break;
    case CN_SEQUENCE_FREE: CN_ASSERT(false);
    }
    if (t->waiting.count + t->running + t->forking == 0) become_idle(f, t);
}

// ---- a step

void cn_fair_begin(cn_fair *f)
{
    for (uint32_t i = 0; i < f->active_count; i++) {
        cn_fair_tenant *t = &f->tenants[f->active[i]];
        t->cursor = t->waiting.oldest;
        t->had_before = t->had;
        t->passed = false;
    }
}

cn_fair_tenant *cn_fair_next(const cn_fair *f)
{
    cn_fair_tenant *least = NULL;
    for (uint32_t i = 0; i < f->active_count; i++) {
        cn_fair_tenant *t = &f->tenants[f->active[i]];
        if (!t->passed && (!least || t->had < least->had)) least = t;
    }
    return least;
}

void cn_fair_end(cn_fair *f, bool (*wants)(const cn_fair_tenant *tenant, void *self), void *self)
{
    double given = 0, weights = 0, most = f->now;
    for (uint32_t i = 0; i < f->active_count; i++) {
        const cn_fair_tenant *t = &f->tenants[f->active[i]];
        if (t->had > most) most = t->had;
        if (!wants(t, self)) continue;
        given += (t->had - t->had_before) * t->weight;
        weights += t->weight;
    }
    f->now = weights > 0 ? f->now + given / weights : most;
    for (uint32_t i = 0; i < f->active_count; i++) {
        cn_fair_tenant *t = &f->tenants[f->active[i]];
        const double least = f->now - f->credit / t->weight;
        if (t->had < least) t->had = least;
    }
}

double cn_fair_share(const cn_fair *f, const cn_fair_tenant *tenant, uint32_t whole)
{
    return (double)whole * tenant->weight / f->weight_sum;
}
