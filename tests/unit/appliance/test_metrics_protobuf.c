#include "tests/unit/cmocka_all.h"

#include <math.h>
#include <string.h>

#include "appliance/metrics_protobuf.h"
#include "proto/metrics.pb-c.h"

enum { FAMILIES_MAX = 300 };

static cn_metrics metrics;
static Prom__Family *families[FAMILIES_MAX];
static size_t family_count;

static void write_page(cn_buf *out, size_t bytes_max)
{
    cn_metrics_protobuf protobuf;
    cn_buf_init(out, bytes_max);
    const cn_metrics_sink sink = cn_metrics_protobuf_sink(&protobuf, out);
    cn_metrics_catalogue_show(&(cn_metrics_source){&metrics, "a\"b\\", false}, &sink);
    cn_metrics_protobuf_end(&protobuf);
}

static void read_page(void)
{
    cn_buf out;
    write_page(&out, 1 << 20);
    assert_false(out.overflowed);
    family_count = 0;
    for (size_t at = 0; at < out.len;) {
        uint64_t len = 0;
        for (int shift = 0;; shift += 7) {
            const uint8_t byte = (uint8_t)out.data[at++];
            len |= (uint64_t)(byte & 127) << shift;
            if (byte < 128) break;
        }
        assert_true(family_count < FAMILIES_MAX && len <= out.len - at);
        families[family_count] = prom__family__unpack(NULL, len, (uint8_t *)out.data + at);
        assert_non_null(families[family_count++]);
        at += len;
    }
    cn_buf_close(&out);
}

static void free_page(void)
{
    while (family_count > 0) prom__family__free_unpacked(families[--family_count], NULL);
}

static const Prom__Family *family(const char *name)
{
    for (size_t i = 0; i < family_count; i++) {
        if (strcmp(families[i]->name, name) == 0) return families[i];
    }
    fail_msg("no family %s", name);
    return NULL;
}

static void values_and_labels_are_written(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_metrics_add(&metrics.http_4xx, 7);
    cn_metrics_set(&metrics.sequences_running, 3);
    read_page();
    const Prom__Family *f = family("cairn_http_requests_total");
    assert_int_equal(f->type, PROM__TYPE__COUNTER);
    assert_int_equal(f->n_metric, 3);
    assert_string_equal(f->metric[1]->label[0]->name, "code");
    assert_string_equal(f->metric[1]->label[0]->value, "4xx");
    assert_true(f->metric[1]->counter->value == 7);
    f = family("cairn_sequences_running");
    assert_int_equal(f->type, PROM__TYPE__GAUGE);
    assert_true(f->metric[0]->gauge->value == 3);
    assert_string_equal(family("cairn_model_info")->metric[0]->label[0]->value, "a\"b\\");
    free_page();
}

// The q-th value of a native histogram, as the upper end of its bucket.
static double native_quantile(const Prom__Histogram *h, double q)
{
    const double wanted = q * (double)h->sample_count;
    double seen = (double)h->zero_count;
    int64_t count = 0;
    int32_t bucket = 0;
    size_t at = 0;
    for (size_t i = 0; i < h->n_positive_span; i++) {
        bucket += h->positive_span[i]->offset;
        for (uint32_t j = 0; j < h->positive_span[i]->length; j++, bucket++) {
            count += h->positive_delta[at++];
            assert_true(count > 0);
            seen += (double)count;
            if (seen >= wanted) return pow(2, bucket / pow(2, h->schema));
        }
    }
    fail_msg("quantile %g is beyond all buckets", q);
    return 0;
}

// 1 to 10,000 ms once each: a quantile is at most a bucket (9 %) and a finer bucket (3 %) too high.
static void native_histograms_tell_quantiles(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    for (uint64_t ms = 1; ms <= 10000; ms++) cn_metrics_observe(&metrics.step_ns, ms * 1000000);
    cn_metrics_observe(&metrics.step_ns, 0);
    read_page();
    const Prom__Histogram *h = family("cairn_step_seconds")->metric[0]->histogram;
    assert_int_equal(h->sample_count, 10001);
    assert_int_equal(h->zero_count, 1);
    assert_true(h->zero_threshold > 0 && h->zero_threshold < 1e-9);
    assert_true(fabs(h->sample_sum - 50005) < 1e-6);
    for (double q = 0.05; q < 1; q += 0.05) {
        const double found = native_quantile(h, q), right = q * 10;
        assert_true(found >= right * 0.999 && found <= right * 1.13);
    }
    uint64_t all = h->zero_count;
    int64_t count = 0;
    for (size_t i = 0; i < h->n_positive_delta; i++) all += (uint64_t)(count += h->positive_delta[i]);
    assert_int_equal(all, h->sample_count);
    free_page();
}

static void classic_buckets_have_exemplars(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_metrics_observe_request(&metrics.request_ns, 250000000, 1700000000123000000, "req-1", "0af7");
    read_page();
    const Prom__Histogram *h = family("cairn_request_seconds")->metric[0]->histogram;
    for (size_t i = 0; i < h->n_bucket; i++) {
        const Prom__Bucket *b = h->bucket[i];
        assert_int_equal(b->cumulative_count, b->upper_bound >= 0.25);
        if (b->upper_bound != 0.3) {
            assert_null(b->exemplar);
            continue;
        }
        assert_string_equal(b->exemplar->label[0]->value, "req-1");
        assert_string_equal(b->exemplar->label[1]->value, "0af7");
        assert_true(b->exemplar->value == 0.25);
        assert_int_equal(b->exemplar->timestamp->seconds, 1700000000);
        assert_int_equal(b->exemplar->timestamp->nanos, 123000000);
    }
    free_page();
}

// A page that does not fit says so, whichever part it was that did not.
static void overflow_is_told(void **state)
{
    (void)state;
    cn_metrics_init(&metrics);
    cn_buf whole, part;
    write_page(&whole, 1 << 20);
    // What the process says of itself differs by some bytes from page to page.
    for (size_t bytes = 1; bytes < whole.len * 19 / 20; bytes += whole.len / 20) {
        write_page(&part, bytes);
        assert_true(part.overflowed);
        cn_buf_close(&part);
    }
    cn_buf_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_labels_are_written),
        cmocka_unit_test(native_histograms_tell_quantiles),
        cmocka_unit_test(classic_buckets_have_exemplars),
        cmocka_unit_test(overflow_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
