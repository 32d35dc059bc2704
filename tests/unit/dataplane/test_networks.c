#include <string.h>

#include "dataplane/networks.h"
#include "tests/unit/cmocka_all.h"

// Every bit of a prefix counts and none behind it; IPv4 is the same address mapped into IPv6 or not.
static void an_address_is_in_its_networks(void **state)
{
    (void)state;
    static const struct { const char *networks, *address; bool in; } rows[] = {
        {"", "127.0.0.1:1", false},
        {"127.0.0.1", "127.0.0.1:1", true},
        {"127.0.0.1", "127.0.0.2:1", false},
        {"10.0.0.0/8", "10.255.0.1:80", true},
        {"10.0.0.0/8", "11.0.0.1:80", false},
        {"192.0.2.128/25", "192.0.2.128:1", true},
        {"192.0.2.128/25", "192.0.2.127:1", false},
        {"192.0.2.4/31,198.51.100.0/24", "192.0.2.5:1", true},
        {"192.0.2.4/31, 198.51.100.0/24", "198.51.100.77:1", true},
        {"192.0.2.4/31 198.51.100.0/24", "192.0.2.6:1", false},
        {"0.0.0.0/0", "203.0.113.1:1", true},
        {"0.0.0.0/0", "[2001:db8::1]:1", false},
        {"::/0", "203.0.113.1:1", true},
        {"2001:db8::/33", "[2001:db8:7fff::1]:1", true},
        {"2001:db8::/33", "[2001:db8:8000::1]:1", false},
        {"::1", "[::1]:9", true},
        {"::ffff:10.0.0.0/104", "10.1.2.3:9", true},
        {"10.0.0.0/8", "no address", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cn_networks networks;
        cn_err err = {0};
        assert_int_equal(cn_networks_parse("k", rows[i].networks, &networks, &err), CN_OK);
        if (cn_networks_has(&networks, rows[i].address) != rows[i].in)
            fail_msg("%s in %s", rows[i].address, rows[i].networks);
    }
}

static void what_is_no_network_is_named(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "example.org", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/08x", "10.0.0.1/8", "10/8",
        "::/129", "2001:db8::1/32", "10.0.0.0/8/8", "[::1]", "127.0.0.1:80", "1.2.3.4;5.6.7.8",
        "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff:aaaa:bbbb:cccc:dddd:eeee/128",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cn_networks networks;
        cn_err err = {0};
        assert_int_equal(cn_networks_parse("proxy_protocol.from", rows[i], &networks, &err), CN_E_INVALID);
        assert_int_equal(strncmp(err.text, "proxy_protocol.from: ", 21), 0);
        assert_non_null(strstr(err.text, rows[i]));
        assert_non_null(strstr(err.text, "192.0.2.0/24"));
    }
}

static void there_is_a_bound(void **state)
{
    (void)state;
    char text[CN_NETWORKS_MAX * 8 + 16] = "";
    cn_networks networks;
    cn_err err = {0};
    for (int i = 0; i < CN_NETWORKS_MAX; i++) strncat(text, "1.2.3.4,", sizeof text - strlen(text) - 1);
    assert_int_equal(cn_networks_parse("k", text, &networks, &err), CN_OK);
    assert_int_equal(networks.count, CN_NETWORKS_MAX);
    strncat(text, "::1", sizeof text - strlen(text) - 1);
    assert_int_equal(cn_networks_parse("k", text, &networks, &err), CN_E_INVALID);
    assert_non_null(strstr(err.text, "32"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_in_its_networks),
        cmocka_unit_test(what_is_no_network_is_named),
        cmocka_unit_test(there_is_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
