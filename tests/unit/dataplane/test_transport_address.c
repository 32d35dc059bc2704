#include <string.h>

#include "dataplane/transport_address_int.h"
#include "tests/unit/cmocka_all.h"

static void addresses_round_trip(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"127.0.0.1:8000", "127.0.0.1:8000"}, {"0.0.0.0:0", "0.0.0.0:0"},
        {"localhost:80", "127.0.0.1:80"},     {"[::1]:65535", "[::1]:65535"},
        {"[::]:1", "[::]:1"},                 {"[2001:DB8:0:0::1]:2", "[2001:db8::1]:2"},
        {"[::ffff:192.0.2.1]:3", "192.0.2.1:3"},
        {"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cn_transport_sockaddr address;
        socklen_t len;
        char text[CN_TRANSPORT_ADDRESS_BYTES];
        cn_err err;
        assert_int_equal(cn_transport_address_parse(rows[i][0], &address, &len, &err), CN_OK);
        assert_int_equal(len, rows[i][0][0] == '[' ? sizeof address.v6 : sizeof address.v4);
        cn_transport_address_write(&address, text);
        assert_string_equal(text, rows[i][1]);
    }
}

static void wrong_addresses_are_named(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", "has no port"},
        {"127.0.0.1", "has no port"},
        {"[::1]", "has no port"},
        {"[::1]8000", "has no port"},
        {"[::1:8000", "has no ]"},
        {"127.0.0.1:", "has a port that is not 0 to 65535"},
        {"127.0.0.1:65536", "has a port that is not 0 to 65535"},
        {"127.0.0.1:080000", "has a port that is not 0 to 65535"},
        {"127.0.0.1:-1", "has a port that is not 0 to 65535"},
        {"127.0.0.1:80x", "has a port that is not 0 to 65535"},
        {":80", "has no IPv4 address"},
        {"example.org:80", "has no IPv4 address"},
        {"256.0.0.1:80", "has no IPv4 address"},
        {"1.2.3:80", "has no IPv4 address"},
        {"::1:80", "has an IPv6 address without [ and ]"},
        {"[]:80", "has no IPv6 address between [ and ]"},
        {"[127.0.0.1]:80", "has no IPv6 address between [ and ]"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:80",
         "has no IP address"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cn_transport_sockaddr address;
        socklen_t len;
        cn_err err;
        const cn_code code = cn_transport_address_parse(rows[i][0], &address, &len, &err);
        assert_int_equal(code, CN_E_INVALID);
        assert_non_null(strstr(err.text, rows[i][1]));
        assert_non_null(strstr(err.text, rows[i][0]));
        assert_non_null(strstr(err.text, "127.0.0.1:8000"));         // what would be right
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_round_trip),
        cmocka_unit_test(wrong_addresses_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
