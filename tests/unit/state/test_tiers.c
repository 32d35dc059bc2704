#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "state/store_sim.h"
#include "state/tiers.h"
#include "tests/unit/scheduler/fake_backend.h"

enum { PAGES = 32, CHAIN = 20, MS = 1000000, PAGE_BYTES = sizeof(int32_t) * CN_PAGE_TOKENS };

typedef struct fixture {
    fake_backend backend;
    cn_metrics metrics;
    uint64_t now_ns;
    cn_page_pool *pool;
    cn_store *store;             // stays when the rest is opened again
    cn_tiers *tiers;
} fixture;

static const cn_page_key root = {{7, 1}};

static cn_page_key key_of(uint32_t index)
{
    cn_page_key key = {{9, 9}};
    memcpy(key.bytes + 4, &index, sizeof index);
    return key;
}

static void open_store(fixture *f)
{
    const cn_store_sim_options options = {
        .port_count = 1, .op_max = 64, .page_bytes = PAGE_BYTES, .seed = 1,
        .clock = cn_clock_simulated(&f->now_ns),
    };
    assert_int_equal(cn_store_sim_open(&options, &f->store, NULL), CN_OK);
}

static void open_tiers(fixture *f, uint64_t host_pages, uint32_t queue_max)
{
    const cn_kv_options kv = {.page_count = PAGES, .slot_count = 1, .step_tokens_max = 16};
    fake_backend_init(&f->backend);
    cn_metrics_init(&f->metrics);
    f->backend.base.ops->kv_create(&f->backend.base, &kv, NULL);
    assert_int_equal(cn_page_pool_open(PAGES, 1, &f->pool), CN_OK);
    const cn_tiers_options options = {
        .backend = &f->backend.base, .pool = f->pool, .page_bytes = PAGE_BYTES,
        .store = f->store ? cn_store_port_at(f->store, 0) : NULL,
        .host_bytes = host_pages * PAGE_BYTES, .tenant_percent = 50, .chain_max = CHAIN,
        .queue_max = queue_max, .seed = 1, .clock = cn_clock_simulated(&f->now_ns),
        .metrics = &f->metrics,
    };
    assert_int_equal(cn_tiers_open(&options, &f->tiers, NULL), CN_OK);
}

// The process ends and starts again: pool, device and host memory are gone.
static void close_tiers(fixture *f)
{
    cn_tiers_close(f->tiers);
    cn_page_pool_close(f->pool);
}

static void close_all(fixture *f)
{
    if (f->store) f->store->ops->close(f->store);
    close_tiers(f);
    f->store = NULL;
}

static bool round_of(fixture *f, uint64_t pass_ns)
{
    f->now_ns += pass_ns;
    bool worked = f->store && f->store->ops->poll(f->store, 0);
    worked |= cn_tiers_poll(f->tiers, 0);
    cn_tiers_check(f->tiers);
    cn_page_pool_check(f->pool);
    return worked;
}

static void settle(fixture *f)
{
    for (int still = 0; still < 5;) still = round_of(f, MS) ? 0 : still + 1;
}

static void fill_page(fixture *f, cn_page_id page, uint32_t index)
{
    for (uint32_t i = 0; i < CN_PAGE_TOKENS; i++) f->backend.pages[page.v][i] = (int32_t)(index * 100 + i);
}

// As a sequence does it that computes these pages and ends: they stay as idle pages.
static void seal(fixture *f, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        cn_page_id page;
        const cn_page_key key = key_of(i);
        assert_int_equal(cn_page_pool_take(f->pool, &page), CN_OK);
        fill_page(f, page, i);
        cn_page_pool_seal(f->pool, &page, &key);
        cn_tiers_sealed(f->tiers, &(cn_host_page){.key = key, .parent = i ? key_of(i - 1) : root,
                                                  .index = i, .tenant = root.bytes[0]});
        cn_page_pool_put(f->pool, page);
    }
}

// All pages of the device are wanted for something else.
static void clear_device(fixture *f)
{
    cn_page_id pages[PAGES];
    for (uint32_t i = 0; i < PAGES; i++) assert_int_equal(cn_page_pool_take(f->pool, &pages[i]), CN_OK);
    for (uint32_t i = 0; i < PAGES; i++) cn_page_pool_put(f->pool, pages[i]);
    memset(f->backend.pages, 0x77, sizeof f->backend.pages);
}

static cn_restore *start(fixture *f, uint32_t count)
{
    cn_restore *restore = cn_tiers_restore_take(f->tiers, &root);
    assert_non_null(restore);
    for (uint32_t i = 0; i < count; i++) {
        const cn_page_key key = key_of(i);
        cn_tiers_restore_add(restore, &key);
    }
    return cn_tiers_restore_start(f->tiers, restore) ? restore : NULL;
}

static void wait_for(fixture *f, const cn_restore *restore)
{
    for (int i = 0; i < 10000 && !cn_tiers_restore_ended(restore); i++) round_of(f, MS / 10);
    assert_true(cn_tiers_restore_ended(restore));
}

// Collects and compares the bytes; returns how many came.
static uint32_t collect(fixture *f, cn_restore *restore, uint32_t from[CN_TIER_COUNT])
{
    cn_page_id pages[CHAIN];
    cn_page_key last = root;
    const uint32_t count = cn_tiers_restore_collect(f->tiers, restore, pages, &last, from);
    const cn_page_key want = count > 0 ? key_of(count - 1) : root;
    assert_memory_equal(&last, &want, sizeof last);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < CN_PAGE_TOKENS; j++) {
            assert_int_equal(f->backend.pages[pages[i].v][j], i * 100 + j);
        }
        cn_page_pool_put(f->pool, pages[i]);
    }
    return count;
}

static void assert_all_given_back(const fixture *f)
{
    cn_page_counts counts;
    cn_page_pool_counts(f->pool, &counts);
    assert_int_equal(counts.refs, 0);
    assert_int_equal(cn_tiers_held(f->tiers), 0);
}

// Catches pages that are not copied down, or come back with other bytes, in another order or twice.
static void pages_come_back_from_host_memory(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    open_tiers(&f, 64, 64);
    seal(&f, 0, 12);
    settle(&f);
    assert_int_equal(cn_metrics_get(&f.metrics.host_written_bytes), 12 * PAGE_BYTES);
    assert_null(start(&f, 12));          // all is on the device
    clear_device(&f);
    seal(&f, 0, 3);                      // computed again meanwhile; known below
    settle(&f);
    assert_int_equal(cn_metrics_get(&f.metrics.host_written_bytes), 12 * PAGE_BYTES);
    cn_restore *restore = start(&f, 12);
    assert_non_null(restore);
    wait_for(&f, restore);
    assert_int_equal(collect(&f, restore, from), 12);
    assert_int_equal(from[CN_TIER_DEVICE], 3);
    assert_int_equal(from[CN_TIER_HOST], 9);
    assert_int_equal(from[CN_TIER_STORE], 0);
    assert_int_equal(cn_metrics_get(&f.metrics.restores_whole), 1);
    assert_all_given_back(&f);
    close_all(&f);
}

// Catches pages that do not survive the process, and a restart that is told too early that all is safe.
static void pages_come_back_from_the_store(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    open_store(&f);
    cn_store_sim_set_faults(f.store, &(cn_store_sim_faults){.delay_ns_min = MS, .delay_ns_max = 3 * MS});
    open_tiers(&f, 0, 64);
    seal(&f, 0, CHAIN);
    cn_tiers_poll(f.tiers, 0);
    assert_int_equal(cn_tiers_unsaved(f.tiers), CHAIN);
    settle(&f);
    assert_int_equal(cn_tiers_unsaved(f.tiers), 0);
    assert_int_equal(cn_store_sim_page_count(f.store), CHAIN);
    close_tiers(&f);
    open_tiers(&f, 0, 64);
    cn_restore *restore = start(&f, CHAIN);
    assert_non_null(restore);
    wait_for(&f, restore);
    assert_int_equal(collect(&f, restore, from), CHAIN);
    assert_int_equal(from[CN_TIER_STORE], CHAIN);
    clear_device(&f);                    // now they are in host memory as well
    restore = start(&f, CHAIN);
    wait_for(&f, restore);
    assert_int_equal(collect(&f, restore, from), CHAIN);
    assert_int_equal(from[CN_TIER_HOST], CHAIN);
    assert_int_equal(cn_metrics_get(&f.metrics.store_read_bytes), CHAIN * PAGE_BYTES);
    assert_all_given_back(&f);
    close_all(&f);
}

// Catches a restore that goes on behind a gap, or waits for what nobody has.
static void a_gap_ends_it(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    open_store(&f);
    open_tiers(&f, 0, 64);
    seal(&f, 0, 5);
    seal(&f, 6, 5);
    settle(&f);
    close_tiers(&f);
    open_tiers(&f, 0, 64);
    cn_restore *restore = start(&f, 11);
    wait_for(&f, restore);
    assert_int_equal(collect(&f, restore, from), 5);
    assert_int_equal(cn_metrics_get(&f.metrics.restores_short), 1);
    settle(&f);
    assert_all_given_back(&f);
    close_all(&f);
}

// Catches a page that is computed while it is sent for, taken for one that the store has, and then lost.
static void what_was_sent_for_in_vain_is_written(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    open_store(&f);
    cn_store_sim_set_faults(f.store, &(cn_store_sim_faults){.delay_ns_min = 3 * MS, .delay_ns_max = 3 * MS});
    open_tiers(&f, 0, 64);
    cn_restore *restore = start(&f, 6);
    assert_non_null(restore);            // nothing is there, and two pages were asked for
    seal(&f, 0, 6);
    round_of(&f, MS);
    wait_for(&f, restore);
    collect(&f, restore, from);
    settle(&f);
    assert_int_equal(cn_store_sim_page_count(f.store), 6);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_lost), 0);
    assert_all_given_back(&f);
    close_all(&f);
}

// Catches a sequence that waits for a store which is slower than computing.
static void it_does_not_wait_for_ever(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    open_store(&f);
    open_tiers(&f, 0, 64);
    seal(&f, 0, CHAIN);
    settle(&f);
    close_tiers(&f);
    open_tiers(&f, 0, 64);
    cn_tiers_prefilled(f.tiers, CHAIN * CN_PAGE_TOKENS, 300 * MS);       // all of it in 300 ms
    cn_store_sim_set_faults(f.store, &(cn_store_sim_faults){.delay_ns_min = 80 * MS, .delay_ns_max = 80 * MS});
    const uint64_t start_ns = f.now_ns;
    cn_restore *restore = start(&f, CHAIN);
    assert_true(cn_tiers_sleep_ns(f.tiers) <= 300 * MS);
    wait_for(&f, restore);
    assert_in_range(f.now_ns - start_ns, 290 * MS, 310 * MS);
    assert_in_range(collect(&f, restore, from), 2, CHAIN - 1);           // what came is used
    assert_int_equal(cn_metrics_get(&f.metrics.restores_late), 1);
    settle(&f);
    assert_all_given_back(&f);
    close_all(&f);
}

// A restore of four pages from host memory that takes `copy_ns`; false if computing was chosen.
static bool restores_in(fixture *f, uint64_t copy_ns)
{
    clear_device(f);
    cn_restore *restore = start(f, 4);
    if (!restore) return false;
    f->backend.io_stuck = true;
    cn_tiers_poll(f->tiers, 0);
    f->now_ns += copy_ns;
    f->backend.io_stuck = false;
    cn_tiers_poll(f->tiers, 0);
    assert_true(cn_tiers_restore_ended(restore));
    cn_tiers_restore_drop(f->tiers, restore);
    return true;
}

// Catches restores that are slower than what they save, and a tier that is never tried again.
static void the_faster_way_is_taken(void **state)
{
    (void)state;
    static fixture f;
    int tried = 0, row = 0;
    open_tiers(&f, 64, 64);
    seal(&f, 0, 4);
    settle(&f);
    cn_tiers_prefilled(f.tiers, 1600, 100 * MS);         // a page in 1 ms
    assert_true(restores_in(&f, 40 * MS));               // nobody could know
    for (int i = 0; i < 32; i++) tried += restores_in(&f, 40 * MS);
    assert_int_equal(tried, 2);
    assert_int_equal(cn_metrics_get(&f.metrics.restores_computed), 30);
    for (int i = 0; i < 2000 && row < 20; i++) row = restores_in(&f, MS / 10) ? row + 1 : 0;
    assert_int_equal(row, 20);
    assert_all_given_back(&f);
    close_all(&f);
}

// Catches a store that is asked over and over while it is away, pages that are then lost though there is
// room for them, and draining that waits for it.
static void a_store_that_is_away_is_left_alone(void **state)
{
    (void)state;
    static fixture f;
    open_store(&f);
    open_tiers(&f, 64, 64);
    cn_store_sim_set_faults(f.store, &(cn_store_sim_faults){.pages_down = true});
    round_of(&f, MS);
    const uint64_t sealed_ns = f.now_ns;
    seal(&f, 0, CHAIN);
    cn_tiers_poll(f.tiers, 0);
    for (int i = 0; i < 5000 && cn_tiers_unsaved(f.tiers) > 0; i++) {
        assert_int_equal(cn_metrics_get(&f.metrics.write_behind_oldest_ns), f.now_ns - sealed_ns);
        round_of(&f, MS);
    }
    assert_int_equal(cn_tiers_unsaved(f.tiers), 0);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_pages), CHAIN);
    cn_restore *restore = cn_tiers_restore_take(f.tiers, &root);
    const cn_page_key strange = {{1}};
    cn_tiers_restore_add(restore, &strange);
    assert_false(cn_tiers_restore_start(f.tiers, restore));      // not even asked
    assert_in_range(cn_tiers_sleep_ns(f.tiers), 1, 100 * MS);
    cn_store_sim_set_faults(f.store, &(cn_store_sim_faults){0});
    for (int i = 0; i < 200; i++) round_of(&f, MS);      // nobody asks for anything meanwhile
    assert_int_equal(cn_store_sim_page_count(f.store), CHAIN);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_pages), 0);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_oldest_ns), 0);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_lost), 0);
    close_all(&f);
}

/* Catches host memory that stays full of pages which the store does not take, and of a chain that is
 * longer than it. */
static void answers_go_on_while_the_store_is_away(void **state)
{
    (void)state;
    static fixture f;
    open_store(&f);
    open_tiers(&f, 16, 64);
    cn_store_sim_set_faults(f.store, &(cn_store_sim_faults){.pages_down = true});
    for (uint32_t i = 0; i < 200; i++) {
        seal(&f, i, 1);
        for (int j = 0; j < 100; j++) round_of(&f, 10 * MS);
    }
    assert_int_equal(cn_metrics_get(&f.metrics.host_written_bytes), 200 * PAGE_BYTES);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_lost), 200 - 16);
    assert_int_equal(cn_store_sim_page_count(f.store), 0);
    assert_all_given_back(&f);
    close_all(&f);
}

// Catches a lag without bound, and a queue that keeps pages from those who need them.
static void the_lag_is_bounded(void **state)
{
    (void)state;
    static fixture f;
    open_tiers(&f, 64, 8);
    f.backend.io_stuck = true;
    seal(&f, 0, 1);
    cn_tiers_poll(f.tiers, 0);       // one is being copied, for a long time
    seal(&f, 1, 10);                     // eight wait, two are not written
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_lost), 2);
    cn_page_id page;
    for (uint32_t i = 0; i < PAGES - 1; i++) assert_int_equal(cn_page_pool_take(f.pool, &page), CN_OK);
    assert_int_equal(cn_page_pool_take(f.pool, &page), CN_E_PAGES);      // that one
    f.backend.io_stuck = false;
    settle(&f);
    assert_int_equal(cn_metrics_get(&f.metrics.host_written_bytes), PAGE_BYTES);
    assert_int_equal(cn_metrics_get(&f.metrics.write_behind_lost), 10);  // they were gone by then
    assert_int_equal(cn_page_pool_take(f.pool, &page), CN_OK);
    close_all(&f);
}

// Catches batches that running answers wait for: a 32nd part of a step's time, at least one page.
static void copies_leave_time_for_steps(void **state)
{
    (void)state;
    static fixture f;
    open_tiers(&f, 64, 64);
    seal(&f, 0, CHAIN);
    f.backend.io_stuck = true;
    cn_tiers_poll(f.tiers, 1000);        // 62 bytes at 2 GB/s
    assert_int_equal(f.backend.io_count, 1);
    f.backend.io_stuck = false;
    cn_tiers_poll(f.tiers, 5300);        // 331 bytes: five pages
    assert_int_equal(f.backend.io_count, 5);
    cn_tiers_poll(f.tiers, 0);           // nobody waits
    assert_int_equal(f.backend.io_count, CHAIN - 6);
    settle(&f);
    close_all(&f);
}

// Catches pages that stay held for a sequence that is gone, or while running ones have none.
static void what_is_not_needed_is_given_back(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    open_tiers(&f, 64, 64);
    seal(&f, 0, CHAIN);
    settle(&f);
    clear_device(&f);
    cn_restore *gone = start(&f, 5), *kept = start(&f, CHAIN), *other = start(&f, 10);
    f.backend.io_stuck = true;
    cn_tiers_poll(f.tiers, 0);       // copies of all three are under way
    cn_tiers_restore_drop(f.tiers, gone);
    assert_false(cn_tiers_yield(f.tiers, kept));     // nothing has arrived
    f.backend.io_stuck = false;
    settle(&f);
    assert_true(cn_tiers_restore_ended(other) && cn_tiers_restore_yielded(other));
    assert_int_equal(cn_tiers_restore_count(other), 0);
    assert_int_equal(cn_tiers_held(f.tiers), cn_tiers_restore_count(kept));
    cn_tiers_restore_drop(f.tiers, other);
    assert_int_equal(collect(&f, kept, from), CHAIN);
    assert_all_given_back(&f);
    clear_device(&f);
    kept = start(&f, CHAIN);
    settle(&f);
    assert_true(cn_tiers_yield(f.tiers, NULL));
    assert_false(cn_tiers_yield(f.tiers, NULL));
    assert_all_given_back(&f);
    cn_tiers_restore_drop(f.tiers, kept);
    close_all(&f);
}

// Catches restores without bound, and one that is lost from the count.
static void restores_are_bounded(void **state)
{
    (void)state;
    static fixture f;
    cn_restore *all[64];
    uint32_t count = 0;
    open_tiers(&f, 64, 64);
    for (int life = 0; life < 3; life++) {
        for (count = 0; count < 64 && (all[count] = cn_tiers_restore_take(f.tiers, &root)); count++) continue;
        assert_int_equal(count, 16);
        for (uint32_t i = 0; i < count; i++) assert_false(cn_tiers_restore_start(f.tiers, all[i]));
    }
    close_all(&f);
}

// Catches a device that has no page left for what is restored: the sequence computes with what came.
static void a_full_device_ends_it(void **state)
{
    (void)state;
    static fixture f;
    uint32_t from[CN_TIER_COUNT];
    cn_page_id page;
    open_tiers(&f, 64, 64);
    seal(&f, 0, CHAIN);
    settle(&f);
    clear_device(&f);
    for (uint32_t i = 0; i < PAGES - 6; i++) assert_int_equal(cn_page_pool_take(f.pool, &page), CN_OK);
    cn_restore *restore = start(&f, CHAIN);
    wait_for(&f, restore);
    assert_int_equal(collect(&f, restore, from), 6);
    close_all(&f);
}

static void refuses_room_for_nothing(void **state)
{
    (void)state;
    static fixture f;
    cn_tiers *tiers;
    cn_err err;
    const cn_tiers_options options = {.page_bytes = PAGE_BYTES, .host_bytes = PAGE_BYTES - 1,
                                      .metrics = &f.metrics};
    assert_int_equal(cn_tiers_open(&options, &tiers, &err), CN_E_INVALID);
    assert_string_equal(err.text, "kv.host_bytes: 63; must be 0 or at least one page of this model (64)");
    assert_null(tiers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_back_from_host_memory),
        cmocka_unit_test(pages_come_back_from_the_store),
        cmocka_unit_test(a_gap_ends_it),
        cmocka_unit_test(what_was_sent_for_in_vain_is_written),
        cmocka_unit_test(it_does_not_wait_for_ever),
        cmocka_unit_test(the_faster_way_is_taken),
        cmocka_unit_test(a_store_that_is_away_is_left_alone),
        cmocka_unit_test(answers_go_on_while_the_store_is_away),
        cmocka_unit_test(the_lag_is_bounded),
        cmocka_unit_test(copies_leave_time_for_steps),
        cmocka_unit_test(what_is_not_needed_is_given_back),
        cmocka_unit_test(restores_are_bounded),
        cmocka_unit_test(a_full_device_ends_it),
        cmocka_unit_test(refuses_room_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
