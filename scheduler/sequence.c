#include "scheduler/sequence_int.h"

#include <string.h>

#include "base/assert.h"

static void page_tokens(const cn_sequence *s, uint32_t index, int32_t tokens[CN_PAGE_TOKENS])
{
    for (uint32_t i = 0; i < CN_PAGE_TOKENS; i++) {
        tokens[i] = cn_sequence_token(s, index * CN_PAGE_TOKENS + i);
    }
}

cn_page_key cn_sequence_key(const cn_sequence *s, uint32_t index, const cn_page_key *before)
{
    int32_t tokens[CN_PAGE_TOKENS];
    page_tokens(s, index, tokens);
    return cn_page_key_next(before, tokens);
}

void cn_sequence_find_prefix(cn_sequence *s, cn_page_pool *pool)
{
    const uint32_t full_pages = (cn_sequence_length(s) - 1) / CN_PAGE_TOKENS;
    while (s->page_count < full_pages) {
        const cn_page_key key = cn_sequence_key(s, s->page_count, &s->chain);
        if (!cn_page_pool_find(pool, &key, &s->pages[s->page_count])) break;
        s->chain = key;
        s->page_count++;
    }
    s->sealed_count = s->page_count;
    s->submitted_count = s->done_count = s->page_count * CN_PAGE_TOKENS;
}

cn_code cn_sequence_grow(cn_sequence *s, cn_page_pool *pool, uint32_t token_count)
{
    const uint32_t wanted = (token_count + CN_PAGE_TOKENS - 1) / CN_PAGE_TOKENS;
    while (s->page_count < wanted) {
        if (cn_page_pool_take(pool, &s->pages[s->page_count]) != CN_OK) return CN_E_PAGES;
        s->page_count++;
    }
    return CN_OK;
}

bool cn_sequence_seal_next(cn_sequence *s, cn_page_pool *pool)
{
    const uint32_t index = s->sealed_count;
    CN_ASSERT(index < s->page_count && (index + 1) * CN_PAGE_TOKENS <= s->done_count);
    s->chain = cn_sequence_key(s, index, &s->chain);
    const cn_page_id before = s->pages[index];
    cn_page_pool_seal(pool, &s->pages[index], &s->chain);
    s->sealed_count++;
    return s->pages[index].v != before.v;
}

void cn_sequence_release(cn_sequence *s, cn_page_pool *pool)
{
    while (s->page_count > 0) cn_page_pool_put(pool, s->pages[--s->page_count]);
    s->sealed_count = s->submitted_count = s->done_count = s->sample_count = 0;
    s->epoch++;
}

uint32_t cn_sequence_common_pages(const cn_sequence *a, const cn_sequence *b)
{
    if (memcmp(a->generation->salt, b->generation->salt, CN_KEY_BYTES) != 0) return 0;
    const uint32_t a_count = cn_sequence_length(a) - 1, b_count = b->generation->prompt_count;
    const uint32_t limit = a_count < b_count ? a_count : b_count;
    uint32_t same = 0;
    while (same < limit && cn_sequence_token(a, same) == b->generation->prompt[same]) same++;
    return same / CN_PAGE_TOKENS;
}

void cn_sequence_list_append(cn_sequence_list *list, cn_sequence *s)
{
    s->older = list->newest;
    s->newer = NULL;
    if (list->newest) list->newest->newer = s;
    else list->oldest = s;
    list->newest = s;
    list->count++;
}

void cn_sequence_list_prepend(cn_sequence_list *list, cn_sequence *s)
{
    s->older = NULL;
    s->newer = list->oldest;
    if (list->oldest) list->oldest->older = s;
    else list->newest = s;
    list->oldest = s;
    list->count++;
}

void cn_sequence_list_remove(cn_sequence_list *list, cn_sequence *s)
{
    if (s->older) s->older->newer = s->newer;
    else list->oldest = s->newer;
    if (s->newer) s->newer->older = s->older;
    else list->newest = s->older;
    list->count--;
}
