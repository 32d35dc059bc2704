#include "tests/unit/state/store_contract.h"

#include <stdlib.h>

#include "state/store_sim.h"
#include "tests/unit/test_rng.h"

enum { OPS = 64 };

static cn_store *open_sim(cn_clock clock, uint64_t seed)
{
    const cn_store_sim_options options = {
        .port_count = 2, .op_max = OPS, .page_bytes = CONTRACT_PAGE_BYTES, .seed = seed,
        .clock = clock, .durability = CN_DURABILITY_FSYNC,
    };
    cn_store *store = NULL;
    assert_int_equal(cn_store_sim_open(&options, &store, NULL), CN_OK);
    return store;
}

static void keeps_the_contract(void **state)
{
    (void)state;
    cn_store *store = open_sim(cn_clock_system(), 1);
    const contract c = {store, cn_store_port_at(store, 0), cn_clock_system(), "p:"};
    contract_all(&c);
    cn_store_sim_set_faults(store, &(cn_store_sim_faults){.delay_ns_max = 100000});
    const contract d = {store, cn_store_port_at(store, 1), cn_clock_system(), "q:"};
    contract_values(&d);
    contract_chain(&d);
    contract_order(&d);
    store->ops->close(store);
}

static void values_live_as_long_as_they_should(void **state)
{
    (void)state;
    uint64_t now = 1000;
    const cn_clock clock = cn_clock_simulated(&now);
    cn_store *store = open_sim(clock, 1);
    const contract c = {store, cn_store_port_at(store, 0), clock, ""};
    cn_store_op op = contract_op(&c, CN_STORE_PUT_NEW, "k", "v");
    op.life_ms = 10;
    assert_int_equal(contract_run(&c, &op), CN_OK);
    op.kind = CN_STORE_GET;
    now += 9000000;
    op.deadline_ns = UINT64_MAX;
    assert_int_equal(contract_run(&c, &op), CN_OK);           // renews it
    op.life_ms = 0;
    now += 9000000;
    assert_int_equal(contract_run(&c, &op), CN_OK);           // does not
    now += 1000000;
    assert_int_equal(contract_run(&c, &op), CN_E_NOT_FOUND);
    cn_buf_close(&op.reply);
    store->ops->close(store);
}

static cn_code settle(const contract *c, cn_store_op *op, uint64_t *now)
{
    assert_true(cn_store_port_submit(c->port, op));
    for (;;) {
        while (c->store->ops->poll(c->store, 0)) continue;
        if (cn_store_port_next(c->port)) return op->code;
        *now += 1000000;
    }
}

static void faults_are_told_as_the_contract_says(void **state)
{
    (void)state;
    uint64_t now = 1000;
    const cn_clock clock = cn_clock_simulated(&now);
    cn_store *store = open_sim(clock, 3);
    const contract c = {store, cn_store_port_at(store, 0), clock, ""};
    cn_store_op op = contract_op(&c, CN_STORE_PUT_NEW, "k", "v");
    cn_store_state report;

    cn_store_sim_set_faults(store, &(cn_store_sim_faults){.log_full = true});
    assert_int_equal(settle(&c, &op, &now), CN_E_STORE_FULL);
    cn_store_sim_set_faults(store, &(cn_store_sim_faults){.log_down = true});
    store->ops->state(store, &report);
    assert_false(report.log_up);
    op.deadline_ns = now + 50000000;
    const uint64_t start = now;
    assert_int_equal(settle(&c, &op, &now), CN_E_STORE);
    assert_true(now >= start + 50000000 && now < start + 60000000);
    assert_int_equal(report.durability, CN_DURABILITY_FSYNC);

    cn_store_sim_set_faults(store, &(cn_store_sim_faults){.conflict_percent = 100});
    op = contract_op(&c, CN_STORE_SWAP, "k", "v");
    assert_int_equal(settle(&c, &op, &now), CN_E_CONFLICT);
    cn_store_sim_set_faults(store, &(cn_store_sim_faults){0});
    assert_int_equal(settle(&c, &op, &now), CN_OK);
    uint32_t len = 0;
    assert_memory_equal(cn_store_sim_peek(store, "k", &len), "v", 1);
    assert_true(cn_store_sim_poke(store, "k", NULL, 0));
    assert_null(cn_store_sim_peek(store, "k", &len));
    cn_buf_close(&op.reply);

    static char page[CONTRACT_PAGE_BYTES];
    cn_store_op put = {.kind = CN_STORE_PAGE_PUT, .page = page, .deadline_ns = UINT64_MAX};
    assert_int_equal(settle(&c, &put, &now), CN_OK);
    assert_int_equal(cn_store_sim_page_count(store), 1);
    cn_store_sim_set_faults(store, &(cn_store_sim_faults){.absent_percent = 100});
    put.kind = CN_STORE_PAGE_GET;
    assert_int_equal(settle(&c, &put, &now), CN_E_NOT_FOUND);
    assert_int_equal(cn_store_sim_page_count(store), 0);
    store->ops->close(store);
}

static uint64_t counter_of(cn_store *store, uint32_t i)
{
    char key[16];
    uint32_t len = 0;
    snprintf(key, sizeof key, "k%u", i);
    const char *there = cn_store_sim_peek(store, key, &len);
    return there ? strtoull(there, NULL, 10) : 0;
}

/* Counters that are moved by compare-and-set under every fault, with crashes. `sure` is what was
 * acknowledged; what a crash leaves lies between it and what was tried, and a value that went back
 * below it is an acknowledged write that was lost. */
static void crashes_keep_what_was_acknowledged(void **state)
{
    (void)state;
    enum { KEYS = 4, STEPS = 20000 };
    test_rng rng = test_rng_open("store_sim");
    uint64_t now = 1000;
    const cn_clock clock = cn_clock_simulated(&now);
    cn_store *store = open_sim(clock, test_rng_u64(&rng));
    const contract c = {store, cn_store_port_at(store, 0), clock, ""};
    uint64_t seen[KEYS] = {0}, tried[KEYS] = {0}, sure[KEYS] = {0};
    char from[KEYS][24] = {{0}}, to[KEYS][24] = {{0}};
    cn_store_op ops[KEYS];
    bool busy[KEYS] = {0};
    uint32_t kept = 0, lost = 0, unknown = 0;
    const cn_store_sim_faults faults = {.delay_ns_min = 1000, .delay_ns_max = 900000,
                                        .lose_percent = 5, .fail_percent = 5};
    cn_store_sim_set_faults(store, &faults);
    for (int step = 0; step < STEPS; step++) {
        const uint32_t i = test_rng_below(&rng, KEYS);
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        if (test_rng_below(&rng, 100) == 0) {
            uint64_t before[KEYS];
            for (uint32_t k = 0; k < KEYS; k++) before[k] = counter_of(store, k);
            cn_store_sim_crash(store);
            for (uint32_t k = 0; k < KEYS; k++) lost += counter_of(store, k) < before[k];
        } else if (!busy[i]) {
            // What is there now may be what an unknown operation left: the next one begins from it.
            uint32_t len = 0;
            const char *there = cn_store_sim_peek(store, key, &len);
            seen[i] = there ? strtoull(there, NULL, 10) : 0;
            assert_true(seen[i] >= sure[i]);
            assert_true(seen[i] <= tried[i]);
            tried[i] = seen[i] + 1 > tried[i] ? seen[i] + 1 : tried[i];
            snprintf(from[i], sizeof from[i], "%llu", (unsigned long long)seen[i]);
            snprintf(to[i], sizeof to[i], "%llu", (unsigned long long)(seen[i] + 1));
            ops[i] = contract_op(&c, CN_STORE_SWAP, key, to[i]);
            ops[i].value_len++;                               // with its 0, for strtoull
            ops[i].deadline_ns = now + 3000000;
            if (there) contract_expect(&ops[i], from[i]);
            if (there) ops[i].expected_len++;
            ops[i].user = &busy[i];
            busy[i] = cn_store_port_submit(c.port, &ops[i]);
        }
        now += test_rng_below(&rng, 400000);
        store->ops->poll(store, 0);
        for (cn_store_op *back; (back = cn_store_port_next(c.port));) {
            const size_t k = (size_t)(back - ops);
            busy[k] = false;
            cn_buf_close(&back->reply);
            if (back->code == CN_OK) sure[k] = strtoull(to[k], NULL, 10);
            if (back->code == CN_E_STORE) unknown++;
        }
        for (uint32_t k = 0; k < KEYS; k++) {
            assert_true(counter_of(store, k) >= sure[k]);
            kept += counter_of(store, k) > sure[k];
        }
    }
    assert_true(kept > 0 && lost > 0 && unknown > 0);         // each kind of outcome was met
    store->ops->close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_contract),
        cmocka_unit_test(values_live_as_long_as_they_should),
        cmocka_unit_test(faults_are_told_as_the_contract_says),
        cmocka_unit_test(crashes_keep_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
