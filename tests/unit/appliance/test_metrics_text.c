#include "tests/unit/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/metrics_text.h"

static cn_metrics metrics;
static char page[1 << 20];

static void write_page(cn_metrics_dialect dialect, const char *model)
{
    cn_buf out;
    cn_buf_init(&out, sizeof page - 1);
    cn_metrics_text text = {&out, dialect};
    const cn_metrics_sink sink = cn_metrics_text_sink(&text);
    cn_metrics_catalogue_show(&(cn_metrics_source){&metrics, model, false}, &sink);
    cn_metrics_text_end(&text);
    assert_false(out.overflowed);
    memcpy(page, out.data, out.len);
    page[out.len] = '\0';
    cn_buf_close(&out);
}

// What stands behind a series named with its labels; fails if it is not there exactly once.
static const char *after(const char *name)
{
    char line[300];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(page, line);
    assert_non_null(at);
    assert_null(strstr(at + 1, line));
    return at + strlen(line);
}

static double series(const char *name) { return strtod(after(name), NULL); }

static void values_are_written(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_metrics_add(&metrics.http_4xx, 3);
    cn_metrics_add(&metrics.http_4xx, 4);
    cn_metrics_add(&metrics.device_busy_ns, 1500000000);
    cn_metrics_set(&metrics.pages_idle, 9);
    write_page(CN_METRICS_PROMETHEUS, "a \"b\\");
    assert_true(series("cairn_http_requests_total{code=\"4xx\"}") == 7);
    assert_true(series("cairn_http_requests_total{code=\"2xx\"}") == 0);
    assert_true(series("cairn_pages{state=\"idle\"}") == 9);
    assert_true(series("cairn_device_busy_seconds_total") == 1.5);
    assert_true(series("cairn_model_info{model=\"a \\\"b\\\\\"}") == 1);
    assert_true(series("process_start_time_seconds") > 1.7e9);
    assert_true(series("process_open_fds") >= 3);
    assert_true(series("process_resident_memory_bytes") > 1e5);
    assert_true(series("process_threads") >= 1);
}

// The name of a model is that of a directory, which may be anything.
static void every_model_has_a_label(void **state)
{
    (void)state;
    char name[5000];
    cn_metrics_init(&metrics);
    write_page(CN_METRICS_PROMETHEUS, "a\nb\xff\xc3\xa4\x01");
    assert_true(series("cairn_model_info{model=\"a?b?\xc3\xa4?\"}") == 1);
    memset(name, '\\', sizeof name);
    name[sizeof name - 1] = '\0';
    write_page(CN_METRICS_PROMETHEUS, name);
    assert_non_null(strstr(page, "\\\\\"} 1\n"));
    assert_true(strlen(strstr(page, "cairn_model_info{")) < 5000 + 256);
}

// A value on an edge is below it, one nanosecond more is not: the share that kept a limit is exact.
static void edges_are_exact(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_metrics_observe(&metrics.inter_token_ns, 29999999);
    cn_metrics_observe(&metrics.inter_token_ns, 30000000);
    cn_metrics_observe(&metrics.inter_token_ns, 30000001);
    cn_metrics_observe(&metrics.inter_token_ns, UINT64_MAX / 2);
    cn_metrics_observe(&metrics.inter_token_ns, 0);
    write_page(CN_METRICS_PROMETHEUS, "m");
    assert_true(series("cairn_inter_token_seconds_bucket{le=\"0.0005\"}") == 1);
    assert_true(series("cairn_inter_token_seconds_bucket{le=\"0.025\"}") == 1);
    assert_true(series("cairn_inter_token_seconds_bucket{le=\"0.03\"}") == 3);
    assert_true(series("cairn_inter_token_seconds_bucket{le=\"0.035\"}") == 4);
    assert_true(series("cairn_inter_token_seconds_bucket{le=\"80.0\"}") == 4);
    assert_true(series("cairn_inter_token_seconds_bucket{le=\"+Inf\"}") == 5);
    assert_true(series("cairn_inter_token_seconds_count") == 5);
}

// The limits of the reference, each an edge.
static void edges_hold_the_promises(void **state)
{
    (void)state;
    static const char *const first[] = {"0.45", "0.5", "1.5", "2.0", "3.0", "4.5", "6.0", "0.2", "0.3"};
    static const char *const each[] = {"0.015", "0.03", "0.04", "0.05", "0.08", "0.1", "0.175", "0.2"};
    char name[100];
    cn_metrics_init(&metrics);
    write_page(CN_METRICS_PROMETHEUS, "m");
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        snprintf(name, sizeof name, "cairn_time_to_first_token_seconds_bucket{le=\"%s\"}", first[i]);
        assert_true(series(name) == 0);
    }
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        snprintf(name, sizeof name, "cairn_inter_token_seconds_bucket{le=\"%s\"}", each[i]);
        assert_true(series(name) == 0);
    }
}

static void every_set_of_edges_ascends(void **state)
{
    (void)state;
    static const cn_metrics_edges *const sets[] = {
#define X(set, ...) &cn_metrics_edges_##set,
        CN_METRICS_EDGES(X)
#undef X
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        assert_true(sets[i]->count > 5);
        for (uint32_t at = 1; at < sets[i]->count; at++) {
            assert_true(sets[i]->edges[at] > sets[i]->edges[at - 1]);
        }
    }
}

// Series of one name stand together under one head, as the formats demand.
static void every_name_has_one_head(void **state)
{
    (void)state;
    static const char *const names[] = {
#define X(id, kind, name, labels, help) name,
        CN_METRICS(X)
#undef X
#define X(id, edges, name, labels, writer, help) name,
        CN_HISTOGRAMS(X)
#undef X
    };
    cn_metrics_init(&metrics);
    write_page(CN_METRICS_PROMETHEUS, "m");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char line[200];
        snprintf(line, sizeof line, "# TYPE %s ", names[i]);
        const char *head = strstr(page, line);
        assert_non_null(head);
        assert_null(strstr(head + 1, line));
    }
}

static void a_request_is_an_exemplar(void **state)
{
    (void)state;
    char long_id[CN_METRICS_REQUEST_BYTES + 1];
    memset(long_id, 'x', sizeof long_id);
    long_id[CN_METRICS_REQUEST_BYTES] = '\0';
    cn_metrics_init(&metrics);
    cn_metrics_observe_request(&metrics.request_ns, 250000000, 1700000000123000000, "req-1", "0af7");
    cn_metrics_observe_request(&metrics.request_ns, 7000000, 1700000000456000000, long_id, "0af7");
    write_page(CN_METRICS_OPENMETRICS, "m");
    static const char want[] = "2 # {request_id=\"req-1\",trace_id=\"0af7\"} 0.25 1700000000.123\n";
    const char *line = after("cairn_request_seconds_bucket{le=\"0.3\"}");
    assert_memory_equal(line, want, sizeof want - 1);
    assert_memory_equal(after("cairn_request_seconds_bucket{le=\"0.01\"}"), "1\n", 2);
    write_page(CN_METRICS_PROMETHEUS, "m");
    assert_memory_equal(after("cairn_request_seconds_bucket{le=\"0.3\"}"), "2\n", 2);
}

// OpenMetrics: names of families without suffix, a type for facts, and an end.
static void openmetrics_differs(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    write_page(CN_METRICS_OPENMETRICS, "m");
    assert_non_null(strstr(page, "# TYPE cairn_http_requests counter\n"));
    assert_non_null(strstr(page, "# TYPE cairn_model info\n"));
    assert_non_null(strstr(page, "\ncairn_model_info{model=\"m\"} 1\n"));
    assert_string_equal(page + strlen(page) - 6, "# EOF\n");
    write_page(CN_METRICS_PROMETHEUS, "m");
    assert_non_null(strstr(page, "# TYPE cairn_http_requests_total counter\n"));
    assert_non_null(strstr(page, "# TYPE cairn_model_info gauge\n"));
    assert_null(strstr(page, "# EOF"));
}

// Every route has its counts from the start, and times once somebody has asked for it.
static void routes_are_told_apart(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_metrics_route_add(&metrics.routes[0], 200, 1000000);
    cn_metrics_route_add(&metrics.routes[0], 404, 5000000);
    cn_metrics_route_add(&metrics.routes[0], 503, 5000001);
    write_page(CN_METRICS_PROMETHEUS, "m");
#define ROUTE "route=\"/v1/chat/completions\",method=\"POST\""
    assert_true(series("cairn_route_requests_total{" ROUTE ",code=\"2xx\"}") == 1);
    assert_true(series("cairn_route_requests_total{" ROUTE ",code=\"4xx\"}") == 1);
    assert_true(series("cairn_route_requests_total{" ROUTE ",code=\"5xx\"}") == 1);
    assert_true(series("cairn_route_seconds_bucket{" ROUTE ",le=\"0.005\"}") == 2);
    assert_true(series("cairn_route_seconds_count{" ROUTE "}") == 3);
    assert_true(series("cairn_route_requests_total{route=\"/livez\",method=\"GET\",code=\"2xx\"}") == 0);
    assert_true(series("cairn_route_requests_total{route=\"other\",method=\"other\",code=\"4xx\"}") == 0);
    assert_null(strstr(page, "cairn_route_seconds_count{route=\"/livez\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_written),      cmocka_unit_test(edges_are_exact),
        cmocka_unit_test(every_model_has_a_label),
        cmocka_unit_test(edges_hold_the_promises), cmocka_unit_test(every_set_of_edges_ascends),
        cmocka_unit_test(every_name_has_one_head), cmocka_unit_test(a_request_is_an_exemplar),
        cmocka_unit_test(openmetrics_differs),     cmocka_unit_test(routes_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
