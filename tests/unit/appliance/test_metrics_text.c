#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/metrics_catalogue.h"
#include "appliance/metrics_text.h"

static cn_metrics metrics;
static char text[200000];

static void write_all(void)
{
    cn_buf out;
    cn_buf_init(&out, sizeof text - 1);
    cn_metrics_text_write(&metrics, &out);
    assert_false(out.overflowed);
    memcpy(text, out.data, out.len);
    text[out.len] = '\0';
    cn_buf_close(&out);
}

// Value of a series by its whole name; fails if it is not there exactly once.
static double series(const char *name)
{
    char line[200];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(text, line);
    assert_non_null(at);
    assert_null(strstr(at + 1, line));
    return strtod(at + strlen(line), NULL);
}

static void values_are_written(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_metrics_add(&metrics.http_4xx, 3);
    cn_metrics_add(&metrics.http_4xx, 4);
    cn_metrics_add(&metrics.device_busy_ns, 1500000000);
    cn_metrics_set(&metrics.pages_idle, 9);
    write_all();
    assert_true(series("cairn_http_requests_total{code=\"4xx\"}") == 7);
    assert_true(series("cairn_http_requests_total{code=\"2xx\"}") == 0);
    assert_true(series("cairn_pages{state=\"idle\"}") == 9);
    assert_true(series("cairn_device_busy_seconds_total") == 1.5);
}

// Series of one name stand together under one head, as the format demands.
static void every_name_has_one_head(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    write_all();
    uint32_t count;
    const cn_metrics_row *rows = cn_metrics_catalogue_rows(&count);
    for (uint32_t i = 0; i < count; i++) {
        char line[200];
        snprintf(line, sizeof line, "# TYPE %s ", rows[i].name);
        const char *head = strstr(text, line);
        assert_non_null(head);
        assert_null(strstr(head + 1, line));
    }
}

// Buckets are cumulative, end in the count, and the values are seconds.
static void histograms_are_cumulative(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    for (uint64_t i = 1; i <= 1000; i++) cn_histogram_add(&metrics.step_ns, i * 1000000);    // 1 ms to 1 s
    write_all();
    double before = -1;
    int buckets = 0;
    for (const char *at = text; (at = strstr(at, "\ncairn_step_seconds_bucket{le=\"")); at++, buckets++) {
        const double count = strtod(strchr(at, '}') + 1, NULL);
        assert_true(count >= before);
        before = count;
    }
    assert_true(buckets > 20);
    assert_true(before == 1000);
    assert_true(series("cairn_step_seconds_count") == 1000);
    const double sum = series("cairn_step_seconds_sum"), below = series("cairn_step_seconds_bucket{le=\"0.5\"}");
    assert_true(sum > 500.4 && sum < 500.6);
    assert_true(below > 480 && below <= 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_written),
        cmocka_unit_test(every_name_has_one_head),
        cmocka_unit_test(histograms_are_cumulative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
