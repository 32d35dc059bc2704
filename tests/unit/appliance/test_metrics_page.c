#include "tests/unit/cmocka_all.h"

#include <string.h>

#include "appliance/metrics_page.h"

static cn_metrics metrics;

// What a client accepts, and what it gets.
static void formats_are_negotiated(void **state)
{
    (void)state;
#define PROTOBUF "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    static const struct {
        const char *accept;
        cn_metrics_format format;
    } cases[] = {
        {NULL, CN_METRICS_FORMAT_TEXT},
        {"", CN_METRICS_FORMAT_TEXT},
        {"*/*", CN_METRICS_FORMAT_TEXT},
        {"text/html", CN_METRICS_FORMAT_TEXT},
        {"application/openmetrics-text", CN_METRICS_FORMAT_OPENMETRICS},
        {"application/openmetrics-text; version=\"1.0.0\"", CN_METRICS_FORMAT_OPENMETRICS},
        {"application/openmetrics-text;version=0.0.1", CN_METRICS_FORMAT_TEXT},
        {"application/openmetrics-textual", CN_METRICS_FORMAT_TEXT},
        {"application/openmetrics-text;q=0", CN_METRICS_FORMAT_TEXT},
        {"application/openmetrics-text;q=0.4,text/plain;q=0.5", CN_METRICS_FORMAT_TEXT},
        {"text/plain;version=1;q=0.9, application/openmetrics-text ; q=0.5",
         CN_METRICS_FORMAT_OPENMETRICS},
        // Prometheus 2.42, without and with native histograms
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
         "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", CN_METRICS_FORMAT_OPENMETRICS},
        {PROTOBUF ",application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
         CN_METRICS_FORMAT_PROTOBUF},
        // Prometheus 3
        {PROTOBUF ";q=0.6;escaping=allow-utf-8,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5",
         CN_METRICS_FORMAT_PROTOBUF},
        {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
         CN_METRICS_FORMAT_TEXT},
        {"application/vnd.google.protobuf", CN_METRICS_FORMAT_TEXT},
        {",,;;=,;q", CN_METRICS_FORMAT_TEXT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(cn_metrics_page_format(cases[i].accept), cases[i].format);
    }
}

static void names_are_cairns_or_vllms(void **state)
{
    (void)state;
    const cn_metrics_source source = {.metrics = &metrics, .model_name = "org/m"};
    const char *type;
    cn_err err;
    cn_buf out;
    cn_metrics_init(&metrics);
    cn_metrics_set(&metrics.pages, 200);
    cn_metrics_set(&metrics.pages_held, 50);
    cn_metrics_set(&metrics.sequences_waiting, 3);
    cn_metrics_add(&metrics.prompt_tokens, 100);
    cn_metrics_add(&metrics.cached_tokens, 10);
    cn_metrics_add(&metrics.cached_host_tokens, 20);
    cn_metrics_add(&metrics.cached_store_tokens, 30);
    cn_buf_init(&out, 1 << 20);
    assert_int_equal(cn_metrics_page_write(&source, NULL, "names=vllm", &out, &type, &err), CN_OK);
    assert_string_equal(type, "text/plain; version=0.0.4; charset=utf-8");
    cn_buf_add_char(&out, '\0');
#define BY "{model_name=\"org/m\",engine=\"0\""
    static const char *const lines[] = {
        "\nvllm:num_requests_waiting" BY "} 3\n",
        "\nvllm:kv_cache_usage_perc" BY "} 0.25\n",
        "\nvllm:external_prefix_cache_queries_total" BY "} 90\n",
        "\nvllm:external_prefix_cache_hits_total" BY "} 50\n",
        "\nvllm:prompt_tokens_cached_total" BY "} 60\n",
        "\nvllm:request_success_total" BY ",finished_reason=\"stop\"} 0\n",
        "\nvllm:cache_config_info" BY ",block_size=\"16\",num_gpu_blocks=\"200\"} 1\n",
        "\nvllm:time_to_first_token_seconds_bucket" BY ",le=\"0.04\"} 0\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_non_null(strstr(out.data, lines[i]));
    }
    assert_null(strstr(out.data, "cairn_"));
    cn_buf_clear(&out);
    assert_int_equal(cn_metrics_page_write(&source, NULL, "names=sglang", &out, &type, &err),
                     CN_E_INVALID);
    assert_string_equal(err.text, "names: \"sglang\"; must be cairn or vllm");
    assert_int_equal(out.len, 0);
    cn_buf_close(&out);
}

// Scraped whole whatever happened before: every format fits into the smallest limit request_bytes there may be.
static void pages_are_bounded(void **state)
{
    (void)state;
    static const char *const accepts[] = {"", "application/openmetrics-text", PROTOBUF};
    const cn_metrics_source source = {.metrics = &metrics, .model_name = "m", .unused_routes = true};
    const char *type;
    cn_metrics_init(&metrics);
    for (uint64_t value = 1; value < UINT64_MAX / 4; value += value / 16 + 1) {
#define X(id, edges, name, labels, writer, help)                                                   \
    cn_metrics_observe_request(&metrics.id, value, 1, "0123456789012345678901234567890123456789", "t");
        CN_HISTOGRAMS(X)
#undef X
    }
    for (int i = 0; i < 3; i++) {
        cn_buf out;
        cn_buf_init(&out, 1 << 20);
        assert_int_equal(cn_metrics_page_write(&source, accepts[i], "", &out, &type, NULL), CN_OK);
        assert_false(out.overflowed);
        assert_true(out.len < 400 * 1024);
        cn_buf_close(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_are_negotiated),
        cmocka_unit_test(names_are_cairns_or_vllms),
        cmocka_unit_test(pages_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
