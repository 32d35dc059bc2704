#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "state/host_cache.h"
#include "tests/unit/test_rng.h"

enum { FRAMES = 12, PAGE_BYTES = 96, CHAINS = 4, CHAIN_PAGES = 8 };

static cn_host_cache *open_cache(uint32_t frames, uint32_t tenant_percent)
{
    cn_host_cache *cache;
    assert_int_equal(cn_host_cache_open(frames, PAGE_BYTES, tenant_percent, 1, &cache), CN_OK);
    return cache;
}

// Page `index` of chain `chain`; its parent is page index - 1.
static cn_host_page page_of(uint32_t chain, uint32_t index)
{
    cn_host_page page = {.index = index, .tenant = (uint8_t)chain};
    page.key.bytes[0] = page.parent.bytes[0] = (uint8_t)chain;
    memcpy(page.key.bytes + 4, &(uint32_t){index + 1}, 4);
    memcpy(page.parent.bytes + 4, &index, 4);
    return page;
}

static bool add(cn_host_cache *cache, const cn_host_page *page)
{
    cn_host_frame frame;
    if (!cn_host_cache_take(cache, page, &frame)) return false;
    memset(cn_host_cache_bytes(cache, frame), page->key.bytes[4] + page->key.bytes[0], PAGE_BYTES);
    cn_host_cache_fill(cache, frame);
    cn_host_cache_put(cache, frame);
    cn_host_cache_check(cache);
    return true;
}

static void add_chain(cn_host_cache *cache, uint32_t chain, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        const cn_host_page page = page_of(chain, i);
        assert_true(add(cache, &page));
    }
}

static bool has(const cn_host_cache *cache, uint32_t chain, uint32_t index)
{
    const cn_host_page page = page_of(chain, index);
    return cn_host_cache_has(cache, &page.key);
}

static uint32_t count_of(const cn_host_cache *cache, uint32_t chain, uint32_t first, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = first; i < first + count; i++) n += has(cache, chain, i);
    return n;
}

static void touch(cn_host_cache *cache, uint32_t chain, uint32_t index)
{
    const cn_host_page page = page_of(chain, index);
    cn_host_frame frame;
    assert_true(cn_host_cache_find(cache, &page.key, &frame));
    cn_host_cache_put(cache, frame);
}

// Catches a head that goes before its tail: what is left of the conversation would be of no use.
static void a_chain_goes_from_its_end(void **state)
{
    (void)state;
    cn_host_cache *cache = open_cache(8, 100);
    add_chain(cache, 1, 0, 6);
    add_chain(cache, 2, 0, 2);
    for (uint32_t i = 0; i < 4; i++) {
        add_chain(cache, 3, i, 1);
        assert_true(has(cache, 1, 0) && has(cache, 1, 4 - i));
        assert_false(has(cache, 1, 5 - i));
    }
    cn_host_cache_close(cache);
}

// Catches a chain that is longer than the cache and finds no room behind its own head, or pushes it out.
static void a_long_chain_passes_through(void **state)
{
    (void)state;
    cn_host_cache *cache = open_cache(4, 100);
    add_chain(cache, 1, 0, 40);
    assert_int_equal(count_of(cache, 1, 0, 3), 3);
    assert_true(has(cache, 1, 39));
    cn_host_cache_close(cache);
}

// Catches a cache that forgets what was just used.
static void what_was_used_stays(void **state)
{
    (void)state;
    cn_host_cache *cache = open_cache(4, 100);
    for (uint32_t chain = 1; chain <= 4; chain++) add_chain(cache, chain, 0, 1);
    touch(cache, 1, 0);
    add_chain(cache, 5, 0, 1);
    add_chain(cache, 6, 0, 1);
    assert_true(has(cache, 1, 0) && has(cache, 4, 0));
    assert_false(has(cache, 2, 0) || has(cache, 3, 0));
    cn_host_cache_close(cache);
}

/* Catches a cache to which all pages are the same: one behind 4,096 others costs 32 times a first one,
 * and outlives 16 generations of those; and one that keeps it for ever. */
static void dear_pages_stay_longer(void **state)
{
    (void)state;
    enum { DEAR = 4096 };
    cn_host_cache *cache = open_cache(5, 100);
    cn_host_page dear = page_of(1, DEAR);
    dear.parent = page_of(1, 0).key;
    add_chain(cache, 1, 0, 1);
    assert_true(add(cache, &dear));
    uint32_t survived = 0;
    while (has(cache, 1, DEAR) && survived < 1000) {
        cn_host_page cheap = page_of(2, 0);
        memcpy(cheap.key.bytes + 8, &survived, sizeof survived);
        assert_true(add(cache, &cheap));
        survived++;
    }
    assert_in_range(survived, 3 * 16, 3 * 64);
    cn_host_cache_close(cache);
}

// Catches a tenant that fills the memory and pushes out what others keep within their share.
static void a_share_is_kept(void **state)
{
    (void)state;
    cn_host_cache *cache = open_cache(20, 30);
    add_chain(cache, 1, 0, 6);           // its share
    for (uint32_t i = 0; i < 100; i++) {
        const cn_host_page flood = page_of(2, i * 2);    // no parents: each could go
        assert_true(add(cache, &flood));
    }
    assert_int_equal(count_of(cache, 1, 0, 6), 6);
    assert_int_equal(count_of(cache, 2, 0, 200), 14);    // what nobody else wants, it may use
    add_chain(cache, 3, 0, 6);
    assert_int_equal(count_of(cache, 1, 0, 6), 6);
    assert_int_equal(count_of(cache, 3, 0, 6), 6);
    assert_int_equal(count_of(cache, 2, 0, 200), 8);
    cn_host_cache_close(cache);
}

// Catches a pinned or empty frame that is given to somebody else, and a refusal that changes something.
static void pinned_frames_stay(void **state)
{
    (void)state;
    cn_host_cache *cache = open_cache(3, 100);
    cn_host_frame frames[3], other;
    const cn_host_page extra = page_of(1, 9);
    for (uint32_t i = 0; i < 3; i++) {
        const cn_host_page page = page_of(1, i);
        assert_true(cn_host_cache_take(cache, &page, &frames[i]));
        cn_host_cache_check(cache);
    }
    assert_false(cn_host_cache_take(cache, &extra, &other));
    cn_host_cache_fill(cache, frames[2]);
    assert_false(cn_host_cache_take(cache, &extra, &other));
    cn_host_cache_put(cache, frames[2]);
    assert_true(cn_host_cache_take(cache, &extra, &other));
    assert_int_equal(other.v, frames[2].v);
    cn_host_cache_check(cache);
    cn_host_cache_drop(cache, other);
    assert_false(cn_host_cache_has(cache, &extra.key));
    assert_true(cn_host_cache_is_dropped(cache, other));
    cn_host_cache_put(cache, other);
    assert_true(add(cache, &extra));
    cn_host_cache_close(cache);
}

typedef struct model {
    cn_host_frame frame;
    uint32_t pins;
    bool full, known;            // known: it was added and may have gone only if it has no pins
} model;

static void check_content(const cn_host_cache *cache, cn_host_frame frame, uint32_t chain, uint32_t index)
{
    const cn_host_page page = page_of(chain, index);
    const unsigned char *bytes = cn_host_cache_bytes(cache, frame);
    for (int i = 0; i < PAGE_BYTES; i++) {
        assert_int_equal(bytes[i], (unsigned char)(page.key.bytes[4] + page.key.bytes[0]));
    }
}

/* Random use of few frames, so that everything is taken away all the time. Catches a frame with another
 * page's bytes, one that is lost, and broken links between chains. */
static void agrees_with_model(void **state)
{
    (void)state;
    static model pages[CHAINS][CHAIN_PAGES];
    test_rng rng = test_rng_open("host_cache");
    cn_host_cache *cache = open_cache(FRAMES, 50);
    cn_host_counts counts;
    uint32_t pins = 0, refused = 0;
    memset(pages, 0, sizeof pages);
    for (int step = 0; step < 200000; step++) {
        const uint32_t chain = test_rng_below(&rng, CHAINS), index = test_rng_below(&rng, CHAIN_PAGES);
        const cn_host_page page = page_of(chain, index);
        model *m = &pages[chain][index];
        cn_host_frame frame;
        if (test_rng_below(&rng, 3) > 0 && m->pins > 0) {
            if (!m->full && test_rng_below(&rng, 4) == 0) {
                cn_host_cache_drop(cache, m->frame);
                for (; m->pins > 0; m->pins--, pins--) cn_host_cache_put(cache, m->frame);
                assert_false(cn_host_cache_has(cache, &page.key));
                *m = (model){0};
                continue;
            }
            if (!m->full) {
                memset(cn_host_cache_bytes(cache, m->frame), page.key.bytes[4] + page.key.bytes[0],
                       PAGE_BYTES);
                cn_host_cache_fill(cache, m->frame);
                m->full = true;
            }
            cn_host_cache_put(cache, m->frame);
            m->pins--;
            pins--;
        } else if (cn_host_cache_find(cache, &page.key, &frame)) {
            assert_true(m->known);
            if (m->pins > 0) assert_int_equal(frame.v, m->frame.v);
            assert_int_equal(cn_host_cache_is_full(cache, frame), m->full);
            if (m->full) check_content(cache, frame, chain, index);
            m->frame = frame;
            m->pins++;
            pins++;
        } else if (cn_host_cache_take(cache, &page, &frame)) {
            assert_int_equal(m->pins, 0);
            *m = (model){.frame = frame, .pins = 1, .known = true};
            pins++;
        } else {
            refused++;
        }
        cn_host_cache_check(cache);
        cn_host_cache_counts(cache, &counts);
        assert_int_equal(counts.pins, pins);
        assert_int_equal(counts.free + counts.pinned + counts.idle, FRAMES);
    }
    assert_true(refused > 100 && counts.evictions > 1000);
    cn_host_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_goes_from_its_end),
        cmocka_unit_test(a_long_chain_passes_through),
        cmocka_unit_test(what_was_used_stays),
        cmocka_unit_test(dear_pages_stay_longer),
        cmocka_unit_test(a_share_is_kept),
        cmocka_unit_test(pinned_frames_stay),
        cmocka_unit_test(agrees_with_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
