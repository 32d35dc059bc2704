#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "state/redis_address_int.h"

static void servers_are_read_and_written_back(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        cn_redis_mode mode;
        uint32_t count;
        const char *service, *last;      // the last server, as it is written
    } cases[] = {
        {"", CN_REDIS_NONE, 0, "", NULL},
        {"127.0.0.1:6379", CN_REDIS_PLAIN, 1, "", "127.0.0.1:6379"},
        {"redis.lan:1", CN_REDIS_PLAIN, 1, "", "redis.lan:1"},
        {"[::1]:65535", CN_REDIS_PLAIN, 1, "", "[::1]:65535"},
        {"unix:/run/a b.sock", CN_REDIS_PLAIN, 1, "", "unix:/run/a b.sock"},
        {"a:1,unix:/b,[fe80::1]:3", CN_REDIS_PLAIN, 3, "", "[fe80::1]:3"},
        {"sentinel:turns@a:26379,b:26379", CN_REDIS_SENTINEL, 2, "turns", "b:26379"},
        {"cluster:a:1,b:2", CN_REDIS_CLUSTER, 2, "", "b:2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cn_redis_target target;
        char text[CN_REDIS_ADDRESS_BYTES];
        assert_int_equal(cn_redis_address_parse("k", cases[i].text, &target, NULL), CN_OK);
        assert_int_equal(target.mode, cases[i].mode);
        assert_int_equal(target.server_count, cases[i].count);
        assert_string_equal(target.service, cases[i].service);
        if (!cases[i].last) continue;
        cn_redis_address_write(&target.servers[cases[i].count - 1], text);
        assert_string_equal(text, cases[i].last);
    }
}

static void what_is_no_server_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:1x",
        "a:-1",
        "a: 1",
        "::1:6379",
        "[::1:6379",
        "[::1]6379",
        "[]:1",
        "unix:run",
        "unix:",
        "a:1,",
        ",a:1",
        "a:1,,b:2",
        "sentinel:@a:1",
        "sentinel:x",
        "sentinel:x@",
        "cluster:",
        ("unix:/01234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cn_redis_target target;
        cn_err err = {0};
        assert_int_equal(cn_redis_address_parse("state.log", texts[i], &target, &err),
                         CN_E_INVALID);
        assert_int_equal(strncmp(err.text, "state.log: ", 11), 0);
    }
    // One more than there is room for.
    char list[4 * (CN_REDIS_SERVERS_MAX + 1) + 1] = "";
    for (int i = 0; i <= CN_REDIS_SERVERS_MAX; i++) memcpy(list + 4 * i, "a:1,", 5);
    list[strlen(list) - 1] = '\0';
    cn_redis_target target;
    cn_err err = {0};
    assert_int_equal(cn_redis_address_parse("k", list, &target, &err), CN_E_INVALID);
    assert_string_equal(err.text, "k: more than 32 servers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_are_read_and_written_back),
        cmocka_unit_test(what_is_no_server_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
