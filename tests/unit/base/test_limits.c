#include "tests/unit/cmocka_all.h"

#include "base/limits.h"

// A default outside its own bounds would refuse its own documentation.
static void limits_are_within_their_bounds(void **state)
{
    (void)state;
    static const struct {
        uint64_t initial, min, max;
    } rows[] = {
#define X(key, unit, initial, min, max, what) {initial, min, max},
        CN_LIMITS(X)
#undef X
    };
    const cn_limits limits = cn_limits_default();
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(rows[i].initial >= rows[i].min && rows[i].initial <= rows[i].max);
        assert_int_equal(((const uint64_t *)&limits)[i], rows[i].initial);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
