#include "scheduler/restore_int.h"

#include "base/assert.h"

static void ask_ahead(cn_engine *e, const cn_sequence_list *waiting)
{
    for (cn_sequence *s = waiting->oldest; s; s = s->newer) {
        if (s->asked) continue;
        // What is brought for one that cannot be admitted yet would only be in the way.
        const uint32_t pages = (cn_sequence_length(s) + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
        if (cn_page_pool_available(e->pool) < pages + e->running.count) return;
        cn_restore_ask(e, s);
        if (!s->asked) return;
    }
}

void cn_restore_ahead(cn_engine *e)
{
    for (uint32_t i = 0; i < e->fair.active_count && e->tiers; i++) {
        ask_ahead(e, &e->fair.tenants[e->fair.active[i]].waiting);
    }
}

bool cn_restore_ask(cn_engine *e, cn_sequence *s)
{
    if (!e->tiers || s->asked) return false;
    const uint32_t full_pages = (cn_sequence_length(s) - 1) / CN_PAGE_TOKENS;
    cn_page_key key = s->root;
    if (full_pages > 0 && !cn_sequence_reports(s)) {
        cn_restore *restore = cn_tiers_restore_take(e->tiers, &key);
        if (!restore) return false;
        for (uint32_t i = 0; i < full_pages; i++) {
            key = cn_sequence_key(s, i, &key);
            cn_tiers_restore_add(restore, &key);
        }
        if (cn_tiers_restore_start(e->tiers, restore)) s->restore = restore;
        e->asked |= s->restore != NULL;
    }
    s->asked = true;
    return cn_restore_pending(s);
}

bool cn_restore_pending(const cn_sequence *s)
{
    return s->restore && !cn_tiers_restore_ended(s->restore);
}

void cn_restore_adopt(cn_engine *e, cn_sequence *s)
{
    CN_ASSERT(s->page_count == 0);
    if (!s->restore) return;
    s->restore_ns = cn_tiers_restore_ns(s->restore);
    s->page_count =
        cn_tiers_restore_collect(e->tiers, s->restore, s->pages, &s->chain, s->pages_from);
    s->restore = NULL;
}

void cn_restore_drop(cn_engine *e, cn_sequence *s)
{
    if (s->restore) cn_tiers_restore_drop(e->tiers, s->restore);
    s->restore = NULL;
}

bool cn_restore_yield(cn_engine *e, const cn_sequence *except)
{
    return e->tiers && cn_tiers_yield(e->tiers, except ? except->restore : NULL);
}
