#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "state/redis_nodes_int.h"
#include "state/redis_pages_int.h"

static void slots_are_those_of_the_specification(void **state)
{
    (void)state;
    // By `redis-cli CLUSTER KEYSLOT`, server 7.0.15.
    static const struct {
        const char *key;
        uint32_t slot;
    } cases[] = {
        {"123456789", 12739},
        {"foo", 12182},
        {"", 0},
        {"{user1000}.following", 3443},
        {"{user1000}.followers", 3443},
        {"foo{}{bar}", 8363},
        {"foo{{bar}}zap", 4015},
        {"foo{bar}{zap}", 5061},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(cn_redis_nodes_slot(cases[i].key), cases[i].slot);
}

static void redirections_are_read(void **state)
{
    (void)state;
    const cn_redis_address here = {"10.0.0.1", 7000};
    const cn_redis_link from = {.address = &here};
    cn_redis_address to;
    uint32_t slot;
    assert_true(cn_redis_nodes_read_redirect(&from, "MOVED 3999 127.0.0.1:6381", &slot, &to));
    assert_int_equal(slot, 3999);
    assert_string_equal(to.host, "127.0.0.1");
    assert_int_equal(to.port, 6381);
    assert_true(cn_redis_nodes_read_redirect(&from, "ASK 0 ::1:6381", &slot, &to));
    assert_string_equal(to.host, "::1");
    assert_true(
        cn_redis_nodes_read_redirect(&from, "MOVED 1 :6382", &slot, &to)); // where it was said
    assert_string_equal(to.host, "10.0.0.1");
    assert_int_equal(to.port, 6382);
    static const char *const bad[] = {"MOVED",           "MOVED 1",     "MOVED x a:1",
                                      "MOVED 16384 a:1", "MOVED 1 a:0", "MOVED 1 a:65536",
                                      "MOVED 1 a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(cn_redis_nodes_read_redirect(&from, bad[i], &slot, &to));
}

// Another server takes its share from the others; nothing moves between those.
static void a_server_more_moves_only_its_own_share(void **state)
{
    (void)state;
    enum { KEYS = 10000, SERVERS = 5 };
    cn_redis_address servers[SERVERS];
    uint32_t count[SERVERS] = {0}, moved = 0;
    for (uint32_t i = 0; i < SERVERS; i++) {
        servers[i] = (cn_redis_address){"127.0.0.1", (uint16_t)(7000 + i)};
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        cn_page_key key = {{0}};
        memcpy(key.bytes, &i, sizeof i);
        const uint32_t before = cn_redis_pages_place(&key, servers, SERVERS - 1);
        const uint32_t after = cn_redis_pages_place(&key, servers, SERVERS);
        assert_true(after == before || after == SERVERS - 1);
        moved += after != before;
        count[after]++;
    }
    // Binomial with p = 1/5 has a deviation of 40: 200 is five of them.
    for (uint32_t i = 0; i < SERVERS; i++)
        assert_in_range(count[i], KEYS / SERVERS - 200, KEYS / SERVERS + 200);
    assert_int_equal(moved, count[SERVERS - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_of_the_specification),
        cmocka_unit_test(redirections_are_read),
        cmocka_unit_test(a_server_more_moves_only_its_own_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
