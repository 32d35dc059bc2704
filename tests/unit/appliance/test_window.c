/* Catches: values that a window forgets too early, or never. */
#include "appliance/window.h"

#include <string.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

static const uint64_t SECOND_NS = 1000000000;

static void what_came_before_is_not_in_it(void **state)
{
    (void)state;
    static cn_histogram source;
    cn_window *window;
    cn_histogram_init(&source);
    cn_histogram_add(&source, 7);
    assert_int_equal(cn_window_open(&source, 0, &window), CN_OK);
    cn_window_sample(window, SECOND_NS);
    assert_int_equal(cn_window_count(window, CN_WINDOW_MINUTE), 0);
    assert_int_equal(cn_window_quantile(window, CN_WINDOW_MINUTE, 0.5), 0);
    cn_histogram_add(&source, 20);
    cn_window_sample(window, SECOND_NS + 1);
    assert_int_equal(cn_window_count(window, CN_WINDOW_MINUTE), 1);
    assert_int_equal(cn_window_quantile(window, CN_WINDOW_HOUR, 0.99), 20);
    cn_window_close(window);
}

/* Against a list of everything that came. A window may reach one step further back, and not less far
 * than its span: what is younger counts, what is older than span and step does not. */
static void windows_agree_with_a_list(void **state)
{
    (void)state;
    enum { VALUES = 9000 };
    static const uint64_t span_ns[] = {60, 3600}, step_ns[] = {2, 60};
    static uint64_t at_ns[VALUES];
    static cn_histogram source;
    test_rng rng = test_rng_open("window");
    cn_window *window;
    uint64_t now_ns = 5 * SECOND_NS;
    uint32_t count = 0;
    cn_histogram_init(&source);
    assert_int_equal(cn_window_open(&source, now_ns, &window), CN_OK);
    while (count < VALUES) {
        // Now and then the machine sleeps longer than a window.
        now_ns += test_rng_below(&rng, 200) == 0 ? test_rng_below(&rng, 9000) * SECOND_NS
                                                  : SECOND_NS / 2 + test_rng_below(&rng, SECOND_NS);
        for (uint32_t more = test_rng_below(&rng, 8); more && count < VALUES; more--) {
            cn_histogram_add(&source, 10);
            at_ns[count++] = now_ns;
        }
        cn_window_sample(window, now_ns);
        for (int i = 0; i < CN_WINDOW_SPAN_COUNT; i++) {
            uint64_t least = 0, most = 0;
            for (uint32_t k = 0; k < count; k++) {
                // A value is taken with the sample of its second, which may be one and a half later.
                const uint64_t age_ns = now_ns - at_ns[k];
                least += age_ns < (span_ns[i] - step_ns[i]) * SECOND_NS;
                most += age_ns <= (span_ns[i] + 2 * step_ns[i]) * SECOND_NS;
            }
            assert_in_range(cn_window_count(window, (cn_window_span)i), least, most);
        }
    }
    cn_window_close(window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_came_before_is_not_in_it),
        cmocka_unit_test(windows_agree_with_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
