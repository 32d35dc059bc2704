#include "model/bpe_int.h"

#include <string.h>

#include <xxhash.h>

#include "model/tokenizer_unicode_int.h"

/* How it works. A word becomes symbols (bytes or characters), and the pair of neighbours with the
 * lowest rank is merged, the leftmost of equals first, until no neighbours are a pair.
 *
 * Three ways lead there. A word that is one token is found in a map. A word that the text had before
 * is in a small cache which names the place of its ids in the output. The rest is merged: a short
 * word by looking for the minimum anew after each merge, which beats any structure below some thirty
 * symbols; a long one with a heap and links, so that text without spaces costs n log n.
 *
 * In the heap an entry is rank << 32 | position of the left symbol, so the smallest is the lowest
 * rank and then the leftmost. Entries are not removed when their pair changes: one whose rank is no
 * longer that of its position is skipped. */

enum { SHORT_MAX = 32, CACHE_SLOTS = 1024, CACHE_WORD_MAX = 64 };
#define NO_RANK UINT32_MAX
#define NO_LINK UINT32_MAX

typedef struct cached {
    const char *text;                // borrowed from the text that is being encoded
    uint32_t len;
    uint32_t first, count;           // in work->ids
} cached;

struct cn_bpe_scratch {
    uint32_t capacity;
    int32_t *ids;
    uint32_t *rank;                  // of the pair that begins at a symbol, NO_RANK if it is none
    int32_t *merged;                 // what that pair makes
    uint32_t *previous, *next;
    uint64_t *heap;                  // 3 entries per symbol: one each, and two per merge
    uint32_t heap_count;
    cached cache[CACHE_SLOTS];
};

static cn_code reserve(cn_tokenizer_work *work, size_t count)
{
    if (!work->bpe) {
        work->bpe = cn_arena_take_array(work->arena, 1, sizeof *work->bpe);
        if (!work->bpe) return cn_tokenizer_work_memory(work);
    }
    cn_bpe_scratch *s = work->bpe;
    if (count <= s->capacity) return CN_OK;
    const size_t capacity = count < 128 ? 128 : count + count / 4;
    if (capacity > UINT32_MAX / 4) return cn_tokenizer_work_memory(work);
    s->ids = cn_arena_take(work->arena, capacity * sizeof *s->ids);
    s->rank = cn_arena_take(work->arena, capacity * sizeof *s->rank);
    s->merged = cn_arena_take(work->arena, capacity * sizeof *s->merged);
    s->previous = cn_arena_take(work->arena, capacity * sizeof *s->previous);
    s->next = cn_arena_take(work->arena, capacity * sizeof *s->next);
    s->heap = cn_arena_take(work->arena, capacity * 3 * sizeof *s->heap);
    const bool all = s->ids && s->rank && s->merged && s->previous && s->next && s->heap;
    s->capacity = all ? (uint32_t)capacity : 0;
    return all ? CN_OK : cn_tokenizer_work_memory(work);
}

static int32_t symbol_of(const cn_bpe *bpe, const char *text, size_t step)
{
    uint64_t id;
    if (bpe->byte_level) return bpe->byte_ids[(unsigned char)*text];
    if (step == 1) return bpe->ascii_ids[(unsigned char)*text];
    return cn_map_find(bpe->whole, text, (uint32_t)step, &id) ? (int32_t)id : -1;
}

static bool fall_back(const cn_bpe *bpe, const char *text, size_t step, int32_t *out)
{
    if (!bpe->byte_fallback || bpe->byte_level) return false;
    for (size_t i = 0; i < step; i++) {
        out[i] = bpe->byte_ids[(unsigned char)text[i]];
        if (out[i] < 0) return false;
    }
    return true;
}

/* Symbols of a word, at most one per byte. An unknown character is held until the next known one,
 * to be fused with its neighbours, and bytes that stand for a character overtake it: so does the
 * library. */
static uint32_t symbols_of(const cn_bpe *bpe, const char *text, size_t len, int32_t *out)
{
    uint32_t count = 0;
    bool unk_held = false;
    for (size_t at = 0, step; at < len; at += step) {
        step = bpe->byte_level ? 1 : cn_tokenizer_unicode_step(text + at);
        const int32_t id = symbol_of(bpe, text + at, step);
        if (id >= 0) {
            if (unk_held) out[count++] = bpe->unk;
            unk_held = false;
            out[count++] = id;
        } else if (fall_back(bpe, text + at, step, out + count)) {
            count += (uint32_t)step;
        } else if (bpe->unk >= 0) {
            if (unk_held && !bpe->fuse_unk) out[count++] = bpe->unk;
            unk_held = true;
        }
    }
    if (unk_held) out[count++] = bpe->unk;
    return count;
}

static void rate(const cn_bpe *bpe, cn_bpe_scratch *s, uint32_t left, uint32_t right)
{
    const cn_bpe_pair *pair = cn_bpe_pair_seek(bpe, s->ids[left], s->ids[right]);
    s->rank[left] = pair->merged >= 0 ? pair->rank : NO_RANK;
    s->merged[left] = pair->merged;
}

static uint32_t merge_short(const cn_bpe *bpe, cn_bpe_scratch *s, uint32_t count)
{
    for (uint32_t i = 0; i + 1 < count; i++) rate(bpe, s, i, i + 1);
    while (count > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < count; i++) {
            if (s->rank[i] < s->rank[best]) best = i;
        }
        if (s->rank[best] == NO_RANK) break;
        s->ids[best] = s->merged[best];
        count--;
        for (uint32_t i = best + 1; i < count; i++) {
            s->ids[i] = s->ids[i + 1];
            s->rank[i] = s->rank[i + 1];
            s->merged[i] = s->merged[i + 1];
        }
        if (best + 1 < count) rate(bpe, s, best, best + 1);
        if (best > 0) rate(bpe, s, best - 1, best);
    }
    return count;
}

static void sift_down(uint64_t *heap, uint32_t count, uint32_t at)
{
    const uint64_t value = heap[at];
    for (uint32_t child; (child = at * 2 + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (value <= heap[child]) break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

static void push(cn_bpe_scratch *s, uint32_t left)
{
    if (s->rank[left] == NO_RANK) return;
    const uint64_t value = (uint64_t)s->rank[left] << 32 | left;
    uint32_t at = s->heap_count++;
    while (at > 0 && s->heap[(at - 1) / 2] > value) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = value;
}

static uint64_t pop(cn_bpe_scratch *s)
{
    const uint64_t top = s->heap[0];
    s->heap[0] = s->heap[--s->heap_count];
    if (s->heap_count) sift_down(s->heap, s->heap_count, 0);
    return top;
}

static void link_all(const cn_bpe *bpe, cn_bpe_scratch *s, uint32_t count)
{
    s->heap_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        s->previous[i] = i ? i - 1 : NO_LINK;
        s->next[i] = i + 1 < count ? i + 1 : NO_LINK;
        s->rank[i] = NO_RANK;
        if (i + 1 == count) break;
        rate(bpe, s, i, i + 1);
        if (s->rank[i] != NO_RANK) s->heap[s->heap_count++] = (uint64_t)s->rank[i] << 32 | i;
    }
    for (uint32_t i = s->heap_count / 2; i > 0; i--) sift_down(s->heap, s->heap_count, i - 1);
}

static void merge_at(const cn_bpe *bpe, cn_bpe_scratch *s, uint32_t left)
{
    const uint32_t gone = s->next[left], after = s->next[gone], before = s->previous[left];
    s->ids[left] = s->merged[left];
    s->next[left] = after;
    s->rank[gone] = s->rank[left] = NO_RANK;
    if (after != NO_LINK) {
        s->previous[after] = left;
        rate(bpe, s, left, after);
        push(s, left);
    }
    if (before != NO_LINK) {
        rate(bpe, s, before, left);
        push(s, before);
    }
}

static uint32_t merge_long(const cn_bpe *bpe, cn_bpe_scratch *s, uint32_t count)
{
    link_all(bpe, s, count);
    while (s->heap_count) {
        const uint64_t top = pop(s);
        const uint32_t left = (uint32_t)top;
        if (s->rank[left] == (uint32_t)(top >> 32)) merge_at(bpe, s, left);
    }
    uint32_t kept = 0;
    for (uint32_t at = 0; at != NO_LINK; at = s->next[at]) s->ids[kept++] = s->ids[at];
    return kept;
}

// Fills the scratch with the ids of a word.
static cn_code merge_word(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text, size_t len,
                          uint32_t *count)
{
    const cn_code code = reserve(work, len);
    if (code != CN_OK) return code;
    cn_bpe_scratch *s = work->bpe;
    *count = symbols_of(bpe, text, len, s->ids);
    if (*count > SHORT_MAX) *count = merge_long(bpe, s, *count);
    else if (*count > 1) *count = merge_short(bpe, s, *count);
    return CN_OK;
}

cn_code cn_bpe_is_whole(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text, size_t len,
                        int32_t id, bool *whole)
{
    uint32_t count;
    const cn_code code = merge_word(bpe, work, text, len, &count);
    if (code != CN_OK) return code;
    *whole = count == 1 && work->bpe->ids[0] == id;
    return CN_OK;
}

static cn_code encode_merged(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text,
                             size_t len)
{
    uint32_t count;
    const uint32_t first = work->count;
    cn_code code = merge_word(bpe, work, text, len, &count);
    if (code == CN_OK && count) code = cn_tokenizer_work_add(work, work->bpe->ids, count);
    if (code != CN_OK || len > CACHE_WORD_MAX) return code;
    cached *slot = &work->bpe->cache[XXH3_64bits(text, len) % CACHE_SLOTS];
    *slot = (cached){text, (uint32_t)len, first, count};
    return CN_OK;
}

static const cached *find_cached(const cn_tokenizer_work *work, const char *text, size_t len)
{
    if (!work->bpe || len > CACHE_WORD_MAX) return NULL;
    const cached *slot = &work->bpe->cache[XXH3_64bits(text, len) % CACHE_SLOTS];
    return slot->text && slot->len == len && memcmp(slot->text, text, len) == 0 ? slot : NULL;
}

static cn_code encode_cached(cn_tokenizer_work *work, const cached *slot)
{
    int32_t ids[CACHE_WORD_MAX];     // a copy, for adding may move the list
    if (slot->count == 0) return CN_OK;
    memcpy(ids, work->ids + slot->first, slot->count * sizeof *ids);
    return cn_tokenizer_work_add(work, ids, slot->count);
}

static cn_code encode_word(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text, size_t len)
{
    uint64_t id;
    if (len <= bpe->whole_len_max && cn_map_find(bpe->whole, text, (uint32_t)len, &id)) {
        const int32_t one = (int32_t)id;
        return cn_tokenizer_work_add(work, &one, 1);
    }
    const cached *slot = find_cached(work, text, len);
    return slot ? encode_cached(work, slot) : encode_merged(bpe, work, text, len);
}

/* End of the word at `text`: before the next space mark that stands behind another character. */
static size_t word_len(const char *text, size_t len)
{
    size_t at = 0;
    while (at + 3 <= len && memcmp(text + at, "\xE2\x96\x81", 3) == 0) at += 3;
    const char *mark = memmem(text + at, len - at, "\xE2\x96\x81", 3);
    return mark ? (size_t)(mark - text) : len;
}

cn_code cn_bpe_encode(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text, size_t len)
{
    if (!bpe->breaks) return encode_word(bpe, work, text, len);
    cn_code code = CN_OK;
    for (size_t at = 0, step; at < len && code == CN_OK; at += step) {
        step = word_len(text + at, len - at);
        code = encode_word(bpe, work, text + at, step);
    }
    return code;
}
