#include "tests/unit/state/store_contract.h"

#include "state/store_redis.h"
#include "tests/unit/state/redis_server.h"

enum { OPS = 256 };

static cn_metrics metrics;

static cn_store_redis_options options_for(const char *log, const char *pages)
{
    return (cn_store_redis_options){
        .log = log, .pages = pages, .user = "", .password = "", .durability = CN_DURABILITY_FSYNC,
        .page_bytes = CONTRACT_PAGE_BYTES, .port_count = 2, .op_max = OPS, .connection_count = 8,
        .log_timeout_ns = 1000000000, .page_timeout_ns = 1000000000, .clock = cn_clock_system(),
        .random = cn_random_system(), .metrics = &metrics,
    };
}

static cn_store *open_store(const cn_store_redis_options *options)
{
    cn_store *store = NULL;
    cn_err err = {0};
    cn_metrics_init(&metrics);
    if (cn_store_redis_open(options, &store, &err) != CN_OK) fail_msg("%s", err.text);
    return store;
}

static cn_store_state wait_for(cn_store *store, bool log_up, bool pages_up)
{
    cn_store_state state;
    const cn_clock clock = cn_clock_system();
    const uint64_t end = cn_clock_now_ns(&clock) + 10000000000u;
    do {
        store->ops->poll(store, 10000000);
        store->ops->state(store, &state);
    } while ((state.log_up != log_up || state.pages_up != pages_up) && cn_clock_now_ns(&clock) < end);
    if (state.log_up != log_up || state.pages_up != pages_up)
        fail_msg("log %d, pages %d: %s", state.log_up, state.pages_up, state.text);
    return state;
}

static redis_server durable_server(void)
{
    redis_server s = {.flags = {"--appendonly", "yes", "--appendfsync", "always"}};
    redis_server_open(&s);
    return s;
}

static void keeps_the_contract(void **state)
{
    (void)state;
    redis_server server = durable_server();
    const cn_store_redis_options options = options_for(server.address, server.address);
    cn_store *store = open_store(&options);
    wait_for(store, true, true);
    const contract c = {store, cn_store_port_at(store, 0), cn_clock_system(), "p:"};
    contract_all(&c);
    assert_true(cn_metrics_get(&metrics.store_write_ns.count) > 100);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_written), 20);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_read), 20);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_absent), 2);
    store->ops->close(store);
    redis_server_close(&server);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
