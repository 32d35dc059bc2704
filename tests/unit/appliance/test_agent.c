#include "appliance/agent.h"
#include "tests/unit/cmocka_all.h"

// The weight falls in quarters with what is scarcer, never rises with load, and never says drain (0 %).
static void the_weight_follows_what_is_scarcer(void **state)
{
    (void)state;
    static const struct { cn_agent_load load; unsigned percent; } rows[] = {
        {{0, 0, 0, 0, 64}, 100},                 // nothing is known yet
        {{1000, 0, 0, 0, 64}, 100},
        {{1000, 250, 64, 0, 64}, 100},
        {{1000, 251, 64, 0, 64}, 75},
        {{1000, 500, 0, 0, 64}, 75},
        {{1000, 501, 0, 0, 64}, 50},
        {{1000, 750, 0, 0, 64}, 50},
        {{1000, 751, 0, 0, 64}, 25},
        {{1000, 950, 0, 0, 64}, 25},
        {{1000, 951, 0, 0, 64}, 1},
        {{1000, 1000, 0, 0, 64}, 1},
        {{1000, 0, 64, 21, 64}, 100},            // 85 for 64 places: 75 %
        {{1000, 0, 64, 22, 64}, 75},
        {{1000, 0, 64, 64, 64}, 75},
        {{1000, 0, 64, 65, 64}, 50},
        {{1000, 0, 64, 1216, 64}, 25},
        {{1000, 0, 64, 1217, 64}, 1},
        {{1000, 600, 64, 65, 64}, 50},
        {{1000, 800, 64, 65, 64}, 25},
        {{UINT64_MAX / 128, 0, UINT64_MAX / 128, 0, 1}, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const unsigned percent = cn_agent_percent(&rows[i].load);
        if (percent != rows[i].percent) fail_msg("row %zu: %u", i, percent);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weight_follows_what_is_scarcer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
