#include <string.h>

#include "tests/dataplane/tcp_script.h"
#include "tests/unit/cmocka_all.h"

#define SYN "< S 0 win 65535 mss 1460\n> S. 0 ack 1 win 65535 mss 1460\n"
#define OPEN SYN "< . 1 ack 1 win 65535\nopened\n"

static const tcp_script scripts[] = {
    {"handshake", OPEN "none\n", 0},
    {"data in", OPEN "< P. 1+100 ack 1\ngot 100\n+39\n+10\n> . 1 ack 101\n", 0},
    {"data out", OPEN "write 100\n> P. 1+100 ack 1\n< . 1 ack 101\n", 0},
};

static void scripts_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        tcp_script_run(&scripts[i], false, 0, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scripts_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
