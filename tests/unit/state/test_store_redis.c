#include "tests/unit/state/store_contract.h"

#include <pthread.h>
#include <stdatomic.h>

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
    const uint64_t end = cn_clock_now_ns(&clock) + 30000000000u;
    do {
        store->ops->poll(store, 10000000);
        store->ops->state(store, &state);
    } while ((state.log_up != log_up || state.pages_up != pages_up) &&
             cn_clock_now_ns(&clock) < end);
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
    // What an operator changes while it runs is noticed, by all connections and without traffic.
    redis_server_cli(&server, "CONFIG SET appendfsync everysec");
    const cn_store_state report = wait_for(store, false, true);
    assert_non_null(strstr(report.text, "appendfsync is everysec; fsync needs always"));
    redis_server_cli(&server, "CONFIG SET appendfsync always");
    wait_for(store, true, true);
    assert_true(cn_metrics_get(&metrics.store_write_ns.all.count) > 100);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_written), 20);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_read), 20);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_absent), 2);
    store->ops->close(store);
    redis_server_close(&server);
}


// ---- faults (each row of the catalogue that one server and one thread can show)

typedef struct fault {
    redis_server server;
    cn_store *store;
    contract c;
} fault;

static void open_fault(fault *f, const cn_store_redis_options *changed)
{
    memset(f, 0, sizeof *f);
    f->server = durable_server();
    cn_store_redis_options options = changed ? *changed : options_for("", "");
    options.log = options.pages = f->server.address;
    f->store = open_store(&options);
    f->c = (contract){f->store, cn_store_port_at(f->store, 0), cn_clock_system(), ""};
    wait_for(f->store, true, true);
}

static void close_fault(fault *f)
{
    f->store->ops->close(f->store);
    redis_server_close(&f->server);
}

static uint64_t now_ms(void)
{
    const cn_clock clock = cn_clock_system();
    return cn_clock_now_ns(&clock) / 1000000;
}

/* One operation with a deadline; its code, and how long it took. */
static cn_code run_until(fault *f, cn_store_op *op, uint64_t deadline_ms, uint64_t *took_ms)
{
    const uint64_t start = now_ms();
    op->deadline_ns = (start + deadline_ms) * 1000000u;
    const cn_code code = contract_run(&f->c, op);
    *took_ms = now_ms() - start;
    cn_buf_close(&op->reply);
    return code;
}

static void assert_put(fault *f, const char *key, uint64_t deadline_ms, cn_code code)
{
    uint64_t took_ms;
    cn_store_op op = contract_op(&f->c, CN_STORE_PUT_NEW, key, "v");
    assert_int_equal(run_until(f, &op, deadline_ms, &took_ms), code);
    // Late is at the deadline: not before, and not much after, whatever the server does.
    if (code == CN_E_STORE) assert_true(took_ms >= deadline_ms - 1 && took_ms < deadline_ms + 1000);
}

static void a_server_that_is_away_is_waited_for(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    redis_server_end(&f.server, SIGKILL);
    assert_put(&f, "a", 300, CN_E_STORE);
    const cn_store_state report = wait_for(f.store, false, false);
    assert_non_null(strstr(report.text, f.server.address));
    cn_store_op get = contract_op(&f.c, CN_STORE_PAGE_GET, "", NULL);
    uint64_t took_ms;
    static char page[CONTRACT_PAGE_BYTES];
    get.page = page;
    assert_int_equal(run_until(&f, &get, 5000, &took_ms), CN_E_STORE);
    assert_true(took_ms < 100);      // pages are not waited for
    // What waits when it comes back is carried out.
    cn_store_op put = contract_op(&f.c, CN_STORE_PUT_NEW, "b", "v");
    assert_true(cn_store_port_submit(f.c.port, &put));
    for (int i = 0; i < 20; i++) f.store->ops->poll(f.store, 5000000);
    redis_server_run(&f.server);
    while (!cn_store_port_next(f.c.port)) f.store->ops->poll(f.store, 5000000);
    assert_int_equal(put.code, CN_OK);
    wait_for(f.store, true, true);
    assert_int_equal(run_until(&f, &get, 5000, &took_ms), CN_E_NOT_FOUND);
    assert_true(cn_metrics_get(&metrics.store_reconnects) > 0);
    close_fault(&f);
}

static void a_server_that_hangs_is_given_up(void **state)
{
    (void)state;
    fault f;
    cn_store_redis_options options = options_for("", "");
    options.log_timeout_ns = options.page_timeout_ns = 200000000;
    open_fault(&f, &options);
    kill(f.server.pid, SIGSTOP);
    static char page[CONTRACT_PAGE_BYTES];
    cn_store_op get = contract_op(&f.c, CN_STORE_PAGE_GET, "", NULL);
    uint64_t took_ms;
    get.page = page;
    assert_int_equal(run_until(&f, &get, 5000, &took_ms), CN_E_STORE);
    assert_true(took_ms >= 200 && took_ms < 1500);
    assert_put(&f, "a", 700, CN_E_STORE);
    wait_for(f.store, false, false);
    kill(f.server.pid, SIGCONT);
    wait_for(f.store, true, true);
    assert_put(&f, "a", 5000, CN_OK); // the first attempts may have been carried out: the same
    close_fault(&f);
}

// A late answer to a page that nobody waits for any more must not touch its memory, nor the next
// one.
static void late_pages_are_thrown_away(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    static char page[CONTRACT_PAGE_BYTES], untouched[CONTRACT_PAGE_BYTES];
    cn_store_op put = contract_op(&f.c, CN_STORE_PAGE_PUT, "", NULL);
    uint64_t took_ms;
    put.page = page;
    for (uint8_t n = 0; n < 4; n++) {
        memset(page, n + 1, sizeof page);
        put.page_key.bytes[0] = n;
        assert_int_equal(run_until(&f, &put, 5000, &took_ms), CN_OK);
    }
    kill(f.server.pid, SIGSTOP);
    cn_store_op late[3];
    memset(page, 77, sizeof page);
    memset(untouched, 77, sizeof untouched);
    for (uint8_t n = 0; n < 3; n++) {
        late[n] = contract_op(&f.c, CN_STORE_PAGE_GET, "", NULL);
        late[n].page = page;
        late[n].page_key.bytes[0] = n;
        late[n].deadline_ns = (now_ms() + 50) * 1000000u;
        assert_true(cn_store_port_submit(f.c.port, &late[n]));
    }
    for (int back = 0; back < 3;) {
        if (cn_store_port_next(f.c.port)) back++;
        else f.store->ops->poll(f.store, 5000000);
    }
    for (int n = 0; n < 3; n++) assert_int_equal(late[n].code, CN_E_STORE);
    kill(f.server.pid, SIGCONT);
    put.kind = CN_STORE_PAGE_GET;
    static char fourth[CONTRACT_PAGE_BYTES];
    put.page = fourth;
    put.page_key.bytes[0] = 3;
    assert_int_equal(run_until(&f, &put, 5000, &took_ms), CN_OK);
    assert_int_equal(fourth[0], 4);
    assert_int_equal(fourth[CONTRACT_PAGE_BYTES - 1], 4);
    assert_memory_equal(page, untouched, sizeof page);
    close_fault(&f);
}

static void paused_writes_hold_back_writes_alone(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    assert_put(&f, "a", 5000, CN_OK);
    redis_server_cli(&f.server, "CLIENT PAUSE 600 WRITE");
    static char page[CONTRACT_PAGE_BYTES];
    cn_store_op put = contract_op(&f.c, CN_STORE_PAGE_PUT, "", NULL);
    put.page = page;
    assert_true(cn_store_port_submit(f.c.port, &put));
    uint64_t took_ms;
    cn_store_op get = contract_op(&f.c, CN_STORE_PAGE_GET, "", NULL);
    get.page = page;
    get.page_key.bytes[0] = 9;
    const uint64_t start = now_ms();
    cn_store_op read = contract_op(&f.c, CN_STORE_GET, "a", NULL);
    cn_store_port *other = cn_store_port_at(f.store, 1);
    assert_true(cn_store_port_submit(other, &get));
    assert_true(cn_store_port_submit(other, &read));
    for (int back = 0; back < 2;) {
        if (cn_store_port_next(other)) back++;
        else f.store->ops->poll(f.store, 5000000);
    }
    assert_true(now_ms() - start < 300);
    assert_int_equal(get.code, CN_E_NOT_FOUND);
    assert_int_equal(read.code, CN_OK);
    cn_buf_close(&read.reply);
    while (!cn_store_port_next(f.c.port)) f.store->ops->poll(f.store, 5000000);
    assert_int_equal(put.code, CN_OK);
    cn_store_op write = contract_op(&f.c, CN_STORE_PUT_NEW, "b", "v");
    assert_int_equal(run_until(&f, &write, 5000, &took_ms), CN_OK);
    close_fault(&f);
}

// Answers are lost between sending and reading; each commit is done exactly once all the same.
static void lost_answers_are_asked_for_again(void **state)
{
    (void)state;
    enum { PAIRS = 60, ROUNDS = 20 };
    fault f;
    open_fault(&f, NULL);
    static cn_store_op turns[PAIRS], heads[PAIRS];
    static char values[ROUNDS + 1][16];
    for (int r = 0; r <= ROUNDS; r++) snprintf(values[r], sizeof values[r], "%d", r);
    for (int r = 1; r <= ROUNDS; r++) {
        for (int i = 0; i < PAIRS; i++) {
            char key[32];
            snprintf(key, sizeof key, "turn:%d:%d", i, r);
            turns[i] = contract_op(&f.c, CN_STORE_PUT_NEW, key, values[r]);
            snprintf(key, sizeof key, "head:%d", i);
            heads[i] = contract_op(&f.c, CN_STORE_SWAP, key, values[r]);
            if (r > 1) contract_expect(&heads[i], values[r - 1]);
            turns[i].then = &heads[i];
            assert_true(cn_store_port_submit(f.c.port, &turns[i]));
        }
        f.store->ops->poll(f.store, 0);
        redis_server_cli(&f.server, "CLIENT KILL TYPE normal SKIPME yes");
        for (int back = 0; back < 2 * PAIRS;) {
            cn_store_op *op = cn_store_port_next(f.c.port);
            if (!op) {
                f.store->ops->poll(f.store, 5000000);
                continue;
            }
            assert_int_equal(op->code, CN_OK);
            back++;
        }
    }
    assert_true(cn_metrics_get(&metrics.store_reconnects) > ROUNDS);
    close_fault(&f);
}

static void scripts_that_are_gone_or_endless_pass(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    redis_server_cli(&f.server, "SCRIPT FLUSH");
    contract_chain(&f.c);
    redis_server_cli(&f.server, "CONFIG SET busy-reply-threshold 50");
    char command[256];
    snprintf(command, sizeof command,
             "redis-cli -s '%.74s' EVAL 'while true do end' 0 > /dev/null 2>&1 &",
             f.server.address + 5);
    assert_int_equal(system(command), 0);
    poll(NULL, 0, 200);
    assert_put(&f, "busy", 400, CN_E_STORE);
    redis_server_cli(&f.server, "SCRIPT KILL");
    assert_put(&f, "busy", 5000, CN_OK);
    close_fault(&f);
}

static void a_server_that_loads_its_file_is_waited_for(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    redis_server_cli(&f.server, "EVAL 'for i=1,2000 do redis.call(\"SET\", \"k\" .. i, i) end' 0");
    redis_server_end(&f.server, SIGKILL);
    const char *slow[] = {"--key-load-delay", "300", "--loading-process-events-interval-bytes",
                          "1024"};
    for (int i = 0; i < 4; i++) f.server.flags[4 + i] = slow[i];
    redis_server_run(&f.server);
    assert_put(&f, "a", 8000, CN_OK);
    close_fault(&f);
}

static void a_replica_is_no_log(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    redis_server_cli(&f.server, "REPLICAOF 127.0.0.1 1");
    assert_put(&f, "a", 500, CN_E_STORE);
    const cn_store_state report = wait_for(f.store, false, true);
    assert_non_null(strstr(report.text, "must be the primary"));
    redis_server_cli(&f.server, "REPLICAOF NO ONE");
    assert_put(&f, "a", 5000, CN_OK);
    redis_server_cli(&f.server, "CONFIG SET min-replicas-to-write 1");
    assert_put(&f, "b", 300, CN_E_STORE);
    redis_server_cli(&f.server, "CONFIG SET min-replicas-to-write 0");
    assert_put(&f, "b", 5000, CN_OK);
    close_fault(&f);
}

static void a_full_log_refuses_at_once_and_still_reads(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    contract_check(&f.c, CN_STORE_PUT_NEW, "a", NULL, "v", CN_OK, "");
    contract_check(&f.c, CN_STORE_SWAP, "head", NULL, "h", CN_OK, "");
    redis_server_cli(&f.server, "CONFIG SET maxmemory 100kb");
    uint64_t took_ms;
    cn_store_op turn = contract_op(&f.c, CN_STORE_PUT_NEW, "b", "v");
    cn_store_op head = contract_op(&f.c, CN_STORE_SWAP, "head", "h2");
    contract_expect(&head, "h");
    turn.then = &head;
    assert_int_equal(run_until(&f, &turn, 5000, &took_ms), CN_E_STORE_FULL);
    assert_int_equal(head.code, CN_E_STORE_FULL);
    assert_true(took_ms < 1000);
    assert_true(cn_metrics_get(&metrics.store_full) > 0);
    contract_check(&f.c, CN_STORE_GET, "a", NULL, NULL, CN_OK, "v");
    contract_check(&f.c, CN_STORE_GET, "head", NULL, NULL, CN_OK, "h");
    contract_check(&f.c, CN_STORE_DELETE, "a", NULL, NULL, CN_OK, "");
    redis_server_cli(&f.server, "CONFIG SET maxmemory 0");
    contract_check(&f.c, CN_STORE_PUT_NEW, "b", NULL, "v", CN_OK, "");
    close_fault(&f);
}

static void what_is_no_value_of_ours_is_corrupt(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    redis_server_cli(&f.server, "LPUSH list x");
    contract_check(&f.c, CN_STORE_GET, "list", NULL, NULL, CN_E_CORRUPT, "");
    contract_check(&f.c, CN_STORE_PUT_NEW, "list", NULL, "v", CN_E_CORRUPT, "");
    contract_check(&f.c, CN_STORE_SWAP, "list", NULL, "v", CN_E_CORRUPT, "");
    redis_server_cli(&f.server, "LINDEX list 0 | grep x");   // it was left alone
    close_fault(&f);
}

// Every way in which a blob can differ from what was written is a page that is not there, and goes.
static void damaged_pages_are_absent(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "SETRANGE %s 0 X",       // magic
        "SETRANGE %s 4 X",       // version
        "SETRANGE %s 9 X",       // page bytes
        "SETRANGE %s 20 XX",     // key
        "SETRANGE %s 48 XX",     // first bytes of the page
        "SETRANGE %s 35000 XX",  // middle
        "SETRANGE %s 70046 XX",  // its end
        "SETRANGE %s 70050 XX",  // checksum
        "APPEND %s X",           // one byte more
        "SET %s short", "SET %s ''",
        "RENAME %s other",       // evicted
    };
    enum { DAMAGES = sizeof damages / sizeof *damages };
    fault f;
    open_fault(&f, NULL);
    static char page[CONTRACT_PAGE_BYTES], back[CONTRACT_PAGE_BYTES];
    char key[80] = "cairn:page:", command[256];
    memset(key + 11, '0', 64);
    for (int i = 0; i < CONTRACT_PAGE_BYTES; i++) page[i] = (char)(i * 31 + i / 127);
    uint64_t took_ms;
    for (int i = 0; i < DAMAGES; i++) {
        cn_store_op op = contract_op(&f.c, CN_STORE_PAGE_PUT, "", NULL);
        op.page = page;
        assert_int_equal(run_until(&f, &op, 5000, &took_ms), CN_OK);
        snprintf(command, sizeof command, damages[i], key);
        redis_server_cli(&f.server, command);
        op.kind = CN_STORE_PAGE_GET;
        op.page = back;
        assert_int_equal(run_until(&f, &op, 5000, &took_ms), CN_E_NOT_FOUND);
        for (int k = 0; k < 4; k++) f.store->ops->poll(f.store, 2000000);    // the UNLINK leaves
        snprintf(command, sizeof command, "EXISTS %s | grep -x 0", key);
        redis_server_cli(&f.server, command);
    }
    assert_int_equal(cn_metrics_get(&metrics.store_pages_corrupt), DAMAGES - 1);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_absent), 1);
    snprintf(command, sizeof command, "LPUSH %s x", key);
    redis_server_cli(&f.server, command);
    cn_store_op op = contract_op(&f.c, CN_STORE_PAGE_GET, "", NULL);
    op.page = back;
    assert_int_equal(run_until(&f, &op, 5000, &took_ms), CN_E_NOT_FOUND);
    assert_int_equal(cn_metrics_get(&metrics.store_pages_corrupt), DAMAGES);
    close_fault(&f);
}

static void values_live_as_long_as_they_should(void **state)
{
    (void)state;
    fault f;
    open_fault(&f, NULL);
    uint64_t took_ms;
    cn_store_op op = contract_op(&f.c, CN_STORE_PUT_NEW, "a", "v");
    op.life_ms = 400;
    assert_int_equal(run_until(&f, &op, 5000, &took_ms), CN_OK);
    cn_store_op swap = contract_op(&f.c, CN_STORE_SWAP, "b", "v");
    swap.life_ms = 400;
    assert_int_equal(run_until(&f, &swap, 5000, &took_ms), CN_OK);
    op.kind = CN_STORE_GET;
    op.life_ms = 60000;
    assert_int_equal(run_until(&f, &op, 5000, &took_ms), CN_OK);     // lives on
    poll(NULL, 0, 450);
    contract_check(&f.c, CN_STORE_GET, "a", NULL, NULL, CN_OK, "v");
    contract_check(&f.c, CN_STORE_GET, "b", NULL, NULL, CN_E_NOT_FOUND, "");
    close_fault(&f);
}

static void passwords_users_and_databases(void **state)
{
    (void)state;
    redis_server server = durable_server();
    cn_store_redis_options options = options_for(server.address, server.address);
    cn_store *store = open_store(&options);
    wait_for(store, true, true);
    redis_server_cli(&server, "CONFIG SET requirepass secret");
    redis_server_cli(&server, "-a secret CLIENT KILL TYPE normal SKIPME yes 2> /dev/null");
    cn_store_state report;
    do report = wait_for(store, false, false);
    while (!strstr(report.text, "NOAUTH"));
    store->ops->close(store);

    options.password = "wrong";
    store = open_store(&options);
    do report = wait_for(store, false, false);
    while (!strstr(report.text, "WRONGPASS"));
    store->ops->close(store);

    options.password = "secret";
    options.database = 3;
    store = open_store(&options);
    wait_for(store, true, true);
    const contract c = {store, cn_store_port_at(store, 0), cn_clock_system(), ""};
    contract_values(&c);
    contract_pages(&c);
    redis_server_cli(&server, "-a secret -n 3 GET a 2> /dev/null | grep one");
    store->ops->close(store);

    redis_server_cli(&server,
                     "-a secret ACL SETUSER cairn on '>pw' '~*' +@all -config 2> /dev/null");
    options.user = "cairn";
    options.password = "pw";
    store = open_store(&options);
    do report = wait_for(store, false, true);
    while (!strstr(report.text, "durability is unknown: NOPERM"));
    redis_server_cli(&server, "-a secret ACL SETUSER cairn '+config|get' 2> /dev/null");
    wait_for(store, true, true);
    store->ops->close(store);
    redis_server_close(&server);
}

// A server that promises less than what is configured is not used, and it is said what is missing.
static void durability_is_what_the_server_gives(void **state)
{
    (void)state;
    static const struct {
        cn_durability wanted;
        const char *setting, *says;              // NULL: good enough
    } cases[] = {
        {CN_DURABILITY_MEMORY, "appendonly no", NULL},
        {CN_DURABILITY_PROCESS, "appendonly no", "appendonly is no; process needs yes"},
        {CN_DURABILITY_PROCESS, "appendfsync everysec",
         "appendfsync is everysec; process needs no or always"},
        {CN_DURABILITY_PROCESS, "appendfsync no", NULL},
        {CN_DURABILITY_FSYNC, "appendfsync no", "appendfsync is no; fsync needs always"},
        {CN_DURABILITY_FSYNC, "appendfsync everysec",
         "appendfsync is everysec; fsync needs always"},
        {CN_DURABILITY_FSYNC, "no-appendfsync-on-rewrite yes",
         "no-appendfsync-on-rewrite is yes; fsync needs no"},
        {CN_DURABILITY_FSYNC, "maxmemory 1gb", NULL},
        {CN_DURABILITY_FSYNC, "maxmemory-policy allkeys-lru maxmemory 1gb",
         "maxmemory-policy is allkeys-lru; the log needs noeviction"},
        {CN_DURABILITY_FSYNC_REPLICA, "appendfsync everysec",
         "appendfsync is everysec; fsync+replica needs always"},
    };
    redis_server server = durable_server();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char command[160];
        cn_store_redis_options options = options_for(server.address, "");
        options.durability = cases[i].wanted;
        snprintf(command, sizeof command, "CONFIG SET %s", cases[i].setting);
        if (i == 0)
            for (int k = 0; k < 500 && access(server.address + 5, F_OK) != 0; k++)
                poll(NULL, 0, 10);
        redis_server_cli(
            &server, "CONFIG SET appendonly yes appendfsync always no-appendfsync-on-rewrite no "
                     "maxmemory-policy noeviction maxmemory 0");
        redis_server_cli(&server, command);
        cn_store *store = open_store(&options);
        cn_store_state report;
        do report = wait_for(store, cases[i].says == NULL, false);
        while (cases[i].says && !strstr(report.text, cases[i].says));
        assert_int_equal(report.durability, cases[i].wanted);
        store->ops->close(store);
    }
    redis_server_close(&server);
}

static void a_replica_must_have_it_where_one_is_promised(void **state)
{
    (void)state;
    fault f;
    cn_store_redis_options options = options_for("", "");
    options.durability = CN_DURABILITY_FSYNC_REPLICA;
    open_fault(&f, &options);
    assert_put(&f, "a", 700, CN_E_STORE);        // nobody follows
    redis_server_cli(&f.server, "CONFIG SET repl-diskless-sync-delay 0");
    // A replica reaches a primary by TCP only.
    char port[8], command[64];
    snprintf(port, sizeof port, "%d", 20000 + (int)getpid() % 20000);
    snprintf(command, sizeof command, "CONFIG SET port %s", port);
    redis_server_cli(&f.server, command);
    char primary[32];
    snprintf(primary, sizeof primary, "127.0.0.1 %s", port);
    redis_server replica = {.flags = {"--replicaof", primary}};
    redis_server_open(&replica);
    assert_put(&f, "a", 30000, CN_OK);
    const contract c = {f.store, f.c.port, f.c.clock, "r:"};
    contract_values(&c);
    contract_chain(&c);
    kill(replica.pid, SIGSTOP);
    assert_put(&f, "b", 1500, CN_E_STORE);       // written, but in one place only
    kill(replica.pid, SIGCONT);
    assert_put(&f, "b", 30000, CN_OK);
    redis_server_close(&replica);
    close_fault(&f);
}

// Each page has its server, and one that is away takes only its own pages along.
static void pages_are_spread_over_servers(void **state)
{
    (void)state;
    enum { PAGES = 60 };
    redis_server servers[3];
    char list[256] = "";
    for (int i = 0; i < 3; i++) {
        servers[i] = (redis_server){.flags = {"--appendonly", "no"}};
        redis_server_open(&servers[i]);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? "," : "",
                 servers[i].address);
    }
    const cn_store_redis_options options = options_for("", list);
    cn_store *store = open_store(&options);
    wait_for(store, false, true);
    fault f = {.store = store, .c = {store, cn_store_port_at(store, 0), cn_clock_system(), ""}};
    static char page[CONTRACT_PAGE_BYTES];
    uint64_t took_ms;
    for (uint8_t n = 0; n < PAGES; n++) {
        cn_store_op op = contract_op(&f.c, CN_STORE_PAGE_PUT, "", NULL);
        op.page = page;
        op.page_key.bytes[0] = n;
        page[0] = (char)n;
        assert_int_equal(run_until(&f, &op, 5000, &took_ms), CN_OK);
    }
    redis_server_end(&servers[1], SIGKILL);
    wait_for(store, false, false);
    int there = 0, away = 0;
    for (uint8_t n = 0; n < PAGES; n++) {
        cn_store_op op = contract_op(&f.c, CN_STORE_PAGE_GET, "", NULL);
        op.page = page;
        op.page_key.bytes[0] = n;
        const cn_code code = run_until(&f, &op, 5000, &took_ms);
        assert_true(code == CN_E_STORE || (code == CN_OK && page[0] == (char)n));
        there += code == CN_OK;
        away += code == CN_E_STORE;
    }
    assert_true(there > PAGES / 3 && away > PAGES / 10);
    // No log is configured: its operations end at their deadlines, and nothing else does.
    cn_store_op op = contract_op(&f.c, CN_STORE_GET, "a", NULL);
    assert_int_equal(run_until(&f, &op, 100, &took_ms), CN_E_STORE);
    store->ops->close(store);
    for (int i = 0; i < 3; i++) redis_server_close(&servers[i]);
}

typedef struct keeper {
    cn_store *store;
    _Atomic bool stop;
} keeper;

static void *keep(void *argument)
{
    keeper *k = argument;
    while (!atomic_load(&k->stop)) k->store->ops->poll(k->store, UINT64_MAX);
    return NULL;
}

typedef struct user {
    pthread_t thread;
    cn_store *store;
    cn_store_port *port;
    cn_wake wake;
    uint32_t index, done;
} user;

// Swaps a counter up, one at a time, sleeping in between: a wake-up that is lost hangs it.
static void *use(void *argument)
{
    enum { SWAPS = 300 };
    user *u = argument;
    const contract c = {u->store, u->port, cn_clock_system(), ""};
    char key[32], from[16] = "", to[16];
    cn_store_state report;
    snprintf(key, sizeof key, "user:%u", u->index);
    for (int i = 1; i <= SWAPS; i++) {
        snprintf(to, sizeof to, "%d", i);
        cn_store_op op = contract_op(&c, CN_STORE_SWAP, key, to), *back = NULL;
        if (from[0]) contract_expect(&op, from);
        if (!cn_store_port_submit(u->port, &op)) return NULL;
        while (!back) {
            cn_wake_prepare(&u->wake);
            back = cn_store_port_next(u->port);
            if (back) cn_wake_cancel(&u->wake);
            else cn_wake_wait(&u->wake, UINT64_MAX);
        }
        u->store->ops->state(u->store, &report);
        u->done += back == &op && op.code == CN_OK;
        cn_buf_close(&op.reply);
        memcpy(from, to, sizeof from);
    }
    return NULL;
}

// As in a server: the store on its own thread, which sleeps, and two users on theirs.
static void threads_wake_each_other(void **state)
{
    (void)state;
    redis_server server = durable_server();
    cn_wake wake;
    pthread_t thread;
    assert_int_equal(cn_wake_open(&wake, NULL), CN_OK);
    cn_store_redis_options options = options_for(server.address, server.address);
    options.wake = &wake;
    keeper k = {.store = open_store(&options)};
    static user users[2];
    for (uint32_t i = 0; i < 2; i++) {
        users[i] = (user){.store = k.store, .port = cn_store_port_at(k.store, i), .index = i};
        assert_int_equal(cn_wake_open(&users[i].wake, NULL), CN_OK);
        cn_store_port_attach(users[i].port, &users[i].wake);
    }
    assert_int_equal(pthread_create(&thread, NULL, keep, &k), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(users[i].thread, NULL);
        assert_int_equal(users[i].done, 300);
        cn_wake_close(&users[i].wake);
    }
    atomic_store(&k.stop, true);
    while (pthread_tryjoin_np(thread, NULL) != 0) {
        cn_wake_signal(&wake);
        poll(NULL, 0, 1);
    }
    k.store->ops->close(k.store);
    cn_wake_close(&wake);
    redis_server_close(&server);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *log, *pages;
        uint32_t database;
        const char *says;
    } cases[] = {
        {"127.0.0.1", "", 0, "state.log: \"127.0.0.1\" is no server"},
        {"127.0.0.1:1,127.0.0.1:2", "", 0, "state.log: 2 servers; must be one"},
        {"", "cluster:127.0.0.1:1", 0,
         "state.pages: \"cluster:127.0.0.1:1\"; must be plain servers"},
        {"cluster:127.0.0.1:1", "", 2, "state.database: 2; a cluster has 0 only"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cn_store_redis_options options = options_for(cases[i].log, cases[i].pages);
        cn_store *store;
        cn_err err = {0};
        options.database = cases[i].database;
        assert_int_equal(cn_store_redis_open(&options, &store, &err), CN_E_INVALID);
        assert_null(store);
        assert_non_null(strstr(err.text, cases[i].says));
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_contract),
        cmocka_unit_test(a_server_that_is_away_is_waited_for),
        cmocka_unit_test(a_server_that_hangs_is_given_up),
        cmocka_unit_test(late_pages_are_thrown_away),
        cmocka_unit_test(paused_writes_hold_back_writes_alone),
        cmocka_unit_test(lost_answers_are_asked_for_again),
        cmocka_unit_test(scripts_that_are_gone_or_endless_pass),
        cmocka_unit_test(a_server_that_loads_its_file_is_waited_for),
        cmocka_unit_test(a_replica_is_no_log),
        cmocka_unit_test(a_full_log_refuses_at_once_and_still_reads),
        cmocka_unit_test(what_is_no_value_of_ours_is_corrupt),
        cmocka_unit_test(damaged_pages_are_absent),
        cmocka_unit_test(values_live_as_long_as_they_should),
        cmocka_unit_test(passwords_users_and_databases),
        cmocka_unit_test(durability_is_what_the_server_gives),
        cmocka_unit_test(a_replica_must_have_it_where_one_is_promised),
        cmocka_unit_test(pages_are_spread_over_servers),
        cmocka_unit_test(threads_wake_each_other),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
