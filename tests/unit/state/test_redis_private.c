#include "tests/unit/state/store_contract.h"

#include "state/redis_private.h"
#include "state/store_redis.h"
#include "tests/unit/state/redis_server.h"

typedef struct fixture {
    char directory[64];
    cn_redis_private *servers;
    cn_store *store;
    cn_wake wake;
    contract contract;
} fixture;

static cn_redis_private_options options_for(const char *directory)
{
    return (cn_redis_private_options){
        .directory = directory, .durability = CN_DURABILITY_FSYNC, .log_bytes = 64 << 20,
        .page_bytes = 64 << 20, .clock = cn_clock_system(),
    };
}

static void open_servers(fixture *f)
{
    cn_err err = {0};
    const cn_redis_private_options options = options_for(f->directory);
    if (cn_redis_private_open(&options, &f->servers, &err) != CN_OK) fail_msg("%s", err.text);
    const cn_store_redis_options store = {
        .log = cn_redis_private_log_address(f->servers),
        .pages = cn_redis_private_pages_address(f->servers),
        .user = "",
        .password = "",
        .durability = CN_DURABILITY_FSYNC,
        .page_bytes = CONTRACT_PAGE_BYTES,
        .port_count = 1,
        .op_max = 16,
        .connection_count = 2,
        .log_timeout_ns = 2000000000,
        .page_timeout_ns = 2000000000,
        .clock = cn_clock_system(),
        .random = cn_random_system(),
    };
    assert_int_equal(cn_store_redis_open(&store, &f->store, NULL), CN_OK);
    f->contract = (contract){f->store, cn_store_port_at(f->store, 0), cn_clock_system(), ""};
}

static void close_servers(fixture *f)
{
    f->store->ops->close(f->store);
    cn_redis_private_close(f->servers);
}

static fixture new_fixture(void)
{
    fixture f = {.directory = "/tmp/cairn-test-XXXXXX"};
    assert_non_null(mkdtemp(f.directory));
    return f;
}

static void remove_directory(const fixture *f)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->directory);
    assert_int_equal(system(command), 0);
}

static pid_t pid_of(const fixture *f, const char *name)
{
    char path[128], text[16] = "";
    snprintf(path, sizeof path, "%s/%s.lock", f->directory, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    const bool read = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    return read ? (pid_t)atoi(text) : 0;
}

static void check(const fixture *f, cn_store_kind kind, const char *key, const char *value,
                  cn_code code, const char *reply)
{
    contract_check(&f->contract, kind, key, NULL, value, code, reply);
}

// A value written before a stop, a kill of the log and a kill of both is there afterwards.
static void what_was_acknowledged_outlives_the_servers(void **state)
{
    (void)state;
    fixture f = new_fixture();
    open_servers(&f);
    check(&f, CN_STORE_PUT_NEW, "a", "1", CN_OK, "");
    close_servers(&f);
    // What a rewrite that was killed left behind goes; the file itself stays.
    char leftover[128];
    snprintf(leftover, sizeof leftover, "%s/temp-rewriteaof-bg-1.aof", f.directory);
    FILE *file = fopen(leftover, "w");
    assert_non_null(file);
    fclose(file);
    open_servers(&f);
    assert_int_not_equal(access(leftover, F_OK), 0);
    check(&f, CN_STORE_GET, "a", NULL, CN_OK, "1");
    check(&f, CN_STORE_PUT_NEW, "b", "2", CN_OK, "");
    const pid_t log = pid_of(&f, "log");
    assert_int_equal(kill(log, SIGKILL), 0);
    cn_store_state report;
    const cn_clock clock = cn_clock_system();
    const uint64_t end = cn_clock_now_ns(&clock) + 10000000000u;
    do {                             // until it is seen, started again, and answers
        f.store->ops->poll(f.store, 20000000);
        cn_redis_private_tend(f.servers);
        f.store->ops->state(f.store, &report);
        assert_true(cn_clock_now_ns(&clock) < end);
    } while (!report.log_up || pid_of(&f, "log") == log);
    check(&f, CN_STORE_GET, "b", NULL, CN_OK, "2");
    assert_int_equal(cn_redis_private_due_ns(f.servers), UINT64_MAX);
    close_servers(&f);
    assert_int_not_equal(kill(pid_of(&f, "log"), 0), 0);     // neither is left
    assert_int_not_equal(kill(pid_of(&f, "pages"), 0), 0);
    remove_directory(&f);
}

// What is asked for while the server of pages is not there counts as absent.
static void await_pages(const fixture *f)
{
    cn_store_state report = {0};
    const uint64_t end = cn_clock_now_ns(&f->contract.clock) + 10000000000u;
    while (f->store->ops->state(f->store, &report), !report.pages_up) {
        f->store->ops->poll(f->store, 20000000);
        assert_true(cn_clock_now_ns(&f->contract.clock) < end);
    }
}

static cn_code page_op(const fixture *f, cn_store_kind kind, char page[CONTRACT_PAGE_BYTES])
{
    cn_store_op op = contract_op(&f->contract, kind, "", NULL);
    await_pages(f);
    op.page_key = (cn_page_key){{7}};
    op.page = page;
    const cn_code code = contract_run(&f->contract, &op);
    cn_buf_close(&op.reply);
    return code;
}

// Not promised, but what makes the first turn after a restart a quick one.
static void pages_outlive_a_stop(void **state)
{
    (void)state;
    fixture f = new_fixture();
    static char page[CONTRACT_PAGE_BYTES], back[CONTRACT_PAGE_BYTES];
    memset(page, 42, sizeof page);
    open_servers(&f);
    assert_int_equal(page_op(&f, CN_STORE_PAGE_PUT, page), CN_OK);
    close_servers(&f);
    open_servers(&f);
    assert_int_equal(page_op(&f, CN_STORE_PAGE_GET, back), CN_OK);
    assert_memory_equal(page, back, sizeof page);
    close_servers(&f);
    remove_directory(&f);
}

// The directory of a killed cairn: its servers end by themselves, and the next one finds
// everything.
static void a_killed_owner_takes_its_servers_along(void **state)
{
    (void)state;
    fixture f = new_fixture();
    int ready[2], status;
    char byte;
    assert_int_equal(pipe(ready), 0);
    const pid_t owner = fork();
    if (owner == 0) {
        open_servers(&f);
        check(&f, CN_STORE_PUT_NEW, "a", "1", CN_OK, "");
        _exit(write(ready[1], "x", 1) == 1 ? pause() : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    cn_err err = {0};
    const cn_redis_private_options options = options_for(f.directory);
    assert_int_equal(cn_redis_private_open(&options, &f.servers, &err), CN_E_IO);
    assert_non_null(strstr(err.text, "in use by another cairn"));
    kill(owner, SIGKILL);
    waitpid(owner, &status, 0);
    open_servers(&f);
    check(&f, CN_STORE_GET, "a", NULL, CN_OK, "1");
    close_servers(&f);
    close(ready[0]);
    close(ready[1]);
    remove_directory(&f);
}

// A server that outlived its owner must be gone before another one opens the same file.
static void a_server_that_was_left_over_is_ended(void **state)
{
    (void)state;
    fixture f = new_fixture();
    char path[128], script[512];
    int status;
    snprintf(
        script, sizeof script,
        "cd '%s' && exec 3>>log.lock && flock 3 && echo $$ >log.lock && exec redis-server --port 0 "
        "--unixsocket log.sock --save '' --appendonly yes --appenddirname log --appendfilename "
        "log.aof "
        "--appendfsync always > /dev/null",
        f.directory);
    const pid_t stale = fork();
    if (stale == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("bash", "bash", "-c", script, (char *)NULL);
        _exit(1);
    }
    snprintf(path, sizeof path, "%s/log.sock", f.directory);
    for (int i = 0; i < 5000 && access(path, F_OK) != 0; i++) poll(NULL, 0, 2);
    snprintf(script, sizeof script, "redis-cli -s '%s' SET a 1 > /dev/null", path);
    assert_int_equal(system(script), 0);
    open_servers(&f);
    assert_int_equal(waitpid(stale, &status, 0), stale);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check(&f, CN_STORE_GET, "a", NULL, CN_OK, "1");
    close_servers(&f);
    remove_directory(&f);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    (void)state;
    fixture f = new_fixture();
    cn_err err = {0};
    cn_redis_private *servers;
    cn_redis_private_options options = options_for(f.directory);
    options.durability = CN_DURABILITY_FSYNC_REPLICA;
    assert_int_equal(cn_redis_private_open(&options, &servers, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "fsync+replica"));
    options =
        options_for("/tmp/0123456789012345678901234567890123456789012345678901234567890123456789"
                    "0123456789012345678901234567890123456789");
    assert_int_equal(cn_redis_private_open(&options, &servers, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "too long"));
    options = options_for("/dev/null/x");
    assert_int_equal(cn_redis_private_open(&options, &servers, &err), CN_E_IO);
    assert_non_null(strstr(err.text, "state.directory: /dev/null/x: "));

    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    options = options_for(f.directory);
    assert_int_equal(cn_redis_private_open(&options, &servers, &err), CN_E_IO);
    assert_non_null(strstr(err.text, "redis-server is not installed"));
    setenv("PATH", path, 1);
    free(path);
    remove_directory(&f);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_outlives_the_servers),
        cmocka_unit_test(pages_outlive_a_stop),
        cmocka_unit_test(a_killed_owner_takes_its_servers_along),
        cmocka_unit_test(a_server_that_was_left_over_is_ended),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
