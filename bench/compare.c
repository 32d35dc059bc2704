#include "bench/compare.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "bench/summary.h"

static const struct {
    const char *name, *key;      // in cairn.batches
    const char *p99;             // at the top
    bool more_is_better;
} metrics[CN_COMPARE_METRICS] = {
    {"first token, ms", "ttft_ms", "p99_ttft_ms", false},
    {"whole answer, ms", "e2el_ms", "p99_e2el_ms", false},
    {"per output token, ms", "tpot_ms", "p99_tpot_ms", false},
    {"output tokens/s", "output_per_s", NULL, true},
};

// Settings that decide what is asked and when; they must agree.
static const char *const load_keys[] = {
    "api",           "history",     "stream",          "seed",
    "dataset",       "format",      "preset",          "arrivals",
    "rate",          "rate_end",    "burstiness",      "on",
    "off",           "concurrency", "max_concurrency", "sessions",
    "duration",      "speed",       "gap_max",         "input_tokens",
    "output_tokens", "turns",       "think",           "prefix_tokens",
    "prefix_groups", "prompt",      "vocab",           "words_per_token",
    "temperature",   "ignore_eos",  "extra_body",      "cancel_share",
    "cancel_after",  "slow_share",  "slow_bytes",
};

static cn_code load(const cn_report_file *file, json_t **out, cn_err *err)
{
    json_error_t failure;
    *out = json_loadb(file->json, file->json_len, 0, &failure);
    if (!*out)
        return cn_err_set(err, CN_E_SYNTAX, "%s: line %d: %s", file->name, failure.line,
                          failure.text);
    const json_t *cairn = json_object_get(*out, "cairn");
    if (json_integer_value(json_object_get(cairn, "format")) == 1) return CN_OK;
    return cn_err_set(err, CN_E_FORMAT, "%s: was not written by `cairn bench run`; has no member "
                      "cairn.format of 1", file->name);
}

static const json_t *setting(const json_t *root, const char *key)
{
    return json_object_get(json_object_get(json_object_get(root, "cairn"), "settings"), key);
}

static bool same_load(const json_t *a, const json_t *b)
{
    for (size_t i = 0; i < sizeof load_keys / sizeof load_keys[0]; i++) {
        const json_t *x = setting(a, load_keys[i]), *y = setting(b, load_keys[i]);
        if (x != y && !json_equal(x, y)) return false;
    }
    return true;
}

static uint32_t copy_batches(const json_t *root, const char *key, double *out)
{
    const json_t *batches = json_object_get(json_object_get(root, "cairn"), "batches");
    const json_t *values = json_object_get(batches, key);
    uint32_t count = 0;
    for (size_t i = 0; i < json_array_size(values) && count < CN_SUMMARY_BATCHES; i++) {
        out[count++] = json_number_value(json_array_get(values, i));
    }
    return count;
}

static double mean(const double *values, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += values[i];
    return count ? sum / count : 0;
}

static void compare_metric(const json_t *a, const json_t *b, int index, cn_compare_metric *out)
{
    double x[CN_SUMMARY_BATCHES], y[CN_SUMMARY_BATCHES];
    const uint32_t x_count = copy_batches(a, metrics[index].key, x);
    const uint32_t y_count = copy_batches(b, metrics[index].key, y);
    out->name = metrics[index].name;
    out->a = mean(x, x_count);
    out->b = mean(y, y_count);
    if (metrics[index].p99) {
        out->a_p99 = json_number_value(json_object_get(a, metrics[index].p99));
        out->b_p99 = json_number_value(json_object_get(b, metrics[index].p99));
    }
    out->difference = cn_figures_compare(x, x_count, y, y_count);
    if (out->difference.p_value >= 0.05 / CN_COMPARE_METRICS) return;
    out->direction = (out->difference.difference > 0) == metrics[index].more_is_better ? 1 : -1;
}

static const char *find_obstacle(const json_t *a, const json_t *b)
{
    if (!json_is_true(json_object_get(json_object_get(a, "cairn"), "valid")))
        return "the first run is INVALID";
    if (!json_is_true(json_object_get(json_object_get(b, "cairn"), "valid")))
        return "the second run is INVALID";
    if (!same_load(a, b)) return "the runs did not ask the same: their settings differ";
    if (json_number_value(json_object_get(a, "completed")) < 4 ||
        json_number_value(json_object_get(b, "completed")) < 4) {
        return "a run has fewer than 4 answers";
    }
    return NULL;
}

static void judge(const json_t *a, const json_t *b, cn_compare_result *out)
{
    bool better = false, worse = false;
    for (int i = 0; i < CN_COMPARE_METRICS; i++) {
        compare_metric(a, b, i, &out->metrics[i]);
        better = better || out->metrics[i].direction > 0;
        worse = worse || out->metrics[i].direction < 0;
    }
    out->verdict = better && worse ? CN_COMPARE_MIXED
                   : better        ? CN_COMPARE_BETTER
                   : worse         ? CN_COMPARE_WORSE
                                   : CN_COMPARE_SAME;
    out->why_none = find_obstacle(a, b);
    if (out->why_none) out->verdict = CN_COMPARE_NONE;
    const json_t *x = json_object_get(json_object_get(a, "cairn"), "digest");
    const json_t *y = json_object_get(json_object_get(b, "cairn"), "digest");
    out->has_digest = json_number_value(json_object_get(a, "failed")) == 0 &&
                      json_number_value(json_object_get(b, "failed")) == 0 && same_load(a, b);
    out->same_digest = json_equal(x, y);
}

cn_code cn_compare_runs(const cn_report_file *a, const cn_report_file *b, cn_compare_result *out,
                        cn_err *err)
{
    json_t *x = NULL, *y = NULL;
    memset(out, 0, sizeof *out);
    cn_code code = load(a, &x, err);
    if (code == CN_OK) code = load(b, &y, err);
    if (code == CN_OK) judge(x, y, out);
    json_decref(x);
    json_decref(y);
    return code;
}

static const char *verdict_name(cn_compare_verdict verdict)
{
    static const char *const names[] = {"same", "better", "worse", "mixed", "none"};
    return names[verdict];
}

void cn_compare_write_text(const cn_compare_result *r, const char *a, const char *b, cn_buf *out)
{
    static const char *const sentences[] = {
        "No difference is shown.", "B is better.", "B is worse.",
        "B is better in some figures and worse in others.", "No verdict: "};
    cn_buf_add_format(out, "A  %s\nB  %s\n\n%s%s%s\n", a, b, sentences[r->verdict],
                      r->why_none ? r->why_none : "", r->why_none ? "." : "");
    if (r->verdict != CN_COMPARE_NONE) {
        cn_buf_add_text(
            out, "(Welch's test on batch means; equal servers would be called different in at "
                 "most 5 % of such comparisons.)\n");
    }
    cn_buf_add_text(
        out, "\n                                A          B    change   95 % confidence        "
             "p   p99 of A   p99 of B\n");
    for (int i = 0; i < CN_COMPARE_METRICS; i++) {
        const cn_compare_metric *m = &r->metrics[i];
        const double percent = m->a > 0 ? 100 / m->a : 0;
        cn_buf_add_format(out, "%-22s %10.2f %10.2f %+8.1f %%  %+7.1f to %+.1f %%   %8.2g", m->name,
                          m->a, m->b, m->difference.difference * percent,
                          m->difference.low * percent, m->difference.high * percent,
                          m->difference.p_value);
        if (m->a_p99 > 0) cn_buf_add_format(out, " %10.2f %10.2f", m->a_p99, m->b_p99);
        cn_buf_add_text(out, m->direction > 0   ? "  better\n"
                             : m->direction < 0 ? "  worse\n"
                                                : "\n");
    }
    if (r->has_digest)
        cn_buf_add_text(out, r->same_digest ? "\nThe answers are the same.\n"
                                            : "\nThe answers differ.\n");
}

void cn_compare_write_json(const cn_compare_result *r, cn_buf *out)
{
    cn_buf_add_format(out, "{\"verdict\":\"%s\",\"why_none\":", verdict_name(r->verdict));
    if (r->why_none) cn_buf_add_json(out, r->why_none, strlen(r->why_none));
    else cn_buf_add_text(out, "null");
    cn_buf_add_format(out, ",\"same_answers\":%s,\"metrics\":[",
                      !r->has_digest ? "null" : r->same_digest ? "true" : "false");
    for (int i = 0; i < CN_COMPARE_METRICS; i++) {
        const cn_compare_metric *m = &r->metrics[i];
        cn_buf_add_format(
            out,
            "%s{\"name\":\"%s\",\"a\":%.10g,\"b\":%.10g,\"difference\":%.10g,\"low\":%.10g,"
            "\"high\":%.10g,\"p_value\":%.6g,\"direction\":%d}",
            i ? "," : "", m->name, m->a, m->b, m->difference.difference, m->difference.low,
            m->difference.high, m->difference.p_value, m->direction);
    }
    cn_buf_add_text(out, "]}\n");
}
