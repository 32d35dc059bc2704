#include "appliance/bench_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/cli.h"
#include "bench/capacity.h"

/* How it works. A search doubles the rate until an attempt fails, then bisects. An attempt passes
 * if enough of its requests are within the service level. It is ended early when more than the
 * others are beyond it already and the number of requests under way grows for certain: it will not
 * get better. Each search has other seeds, so that the knee is not that of one sequence of
 * arrivals, and begins a little below the knee of the one before. */
enum { SAMPLES_MAX = 36000, REPEATS_MAX = 50 };

typedef enum attempt_end { PASSED, TOO_SLOW, FELL_BEHIND, FAILED_REQUESTS, INVALID } attempt_end;

static const char *const end_names[] = {"passed", "too slow", "falls behind", "requests failed",
                                        "INVALID, tried again"};

typedef struct hunt {
    const cn_settings *given;
    cn_settings settings;        // with the rate and seed of the attempt
    char model[256];
    cn_buf json;                 // the attempts so far
    double in_flight[SAMPLES_MAX];
    uint32_t sample_count;
    bool fell_behind;
    cn_summary_slo slo;
    double rate;
    cn_buf before, after;        // /metrics around the last attempt that failed
    double before_s;             // how long that attempt took
} hunt;

// Share of the requests that were due so far and are beyond the service level, whatever still
// comes.
static double share_beyond(const hunt *h, const cn_tally *tally, uint64_t now_ns)
{
    uint32_t due = 0, beyond = 0;
    for (uint32_t i = 0; i < tally->turn_count; i++) {
        const cn_tally_turn *t = &tally->turns[i];
        if (t->due_ns == 0) continue;
        const uint64_t first_ns = t->first_ns ? t->first_ns : now_ns;
        const uint64_t end_ns = t->end_ns ? t->end_ns : now_ns;
        const bool failed = t->end_ns && t->outcome != CN_OUTCOME_OK;
        due++;
        beyond += failed ||
                  (h->slo.ttft_ms > 0 && (double)(first_ns - t->due_ns) / 1e6 > h->slo.ttft_ms) ||
                  (h->slo.e2el_ms > 0 && (double)(end_ns - t->due_ns) / 1e6 > h->slo.e2el_ms);
    }
    return due ? (double)beyond / due : 0;
}

static bool watch(void *self, const cn_drive_progress *progress, const cn_tally *tally)
{
    hunt *h = self;
    if (h->sample_count < SAMPLES_MAX)
        h->in_flight[h->sample_count++] = progress->in_flight + progress->waiting;
    // Only while sessions still arrive: afterwards the server catches up in any case.
    const bool arriving = (double)progress->elapsed_ns / 1e9 < h->given->probe;
    if (arriving && h->sample_count % 10 == 0 &&
        cn_capacity_falls_behind(h->in_flight, h->sample_count)) {
        const uint64_t now_ns = tally->start_ns + progress->elapsed_ns;
        h->fell_behind = share_beyond(h, tally, now_ns) > 1 - h->given->within;
        if (h->fell_behind) return false;
    }
    return cn_bench_show_progress(NULL, progress, tally);
}

static attempt_end judge(const hunt *h, const cn_summary *s)
{
    if (h->fell_behind) return FELL_BEHIND;
    if (!s->valid) return INVALID;
    const double asked = (double)(s->completed + s->failed);
    if ((double)s->due.good >= h->given->within * asked && asked > 0) return PASSED;
    return s->failed > 0 && (double)s->failed > (1 - h->given->within) * asked ? FAILED_REQUESTS
                                                                               : TOO_SLOW;
}

static void note_attempt(hunt *h, uint32_t repeat, const cn_summary *s, attempt_end end)
{
    const double asked = fmax(1, (double)(s->completed + s->failed));
    cn_buf_add_format(
        &h->json,
        "%s{\"search\":%u,\"rate\":%.10g,\"end\":\"%s\",\"within\":%.6g,"
        "\"p99_ttft_ms\":%.10g,\"p99_tpot_ms\":%.10g,\"p99_e2el_ms\":%.10g,"
        "\"output_throughput\":%.10g,\"lateness_p999_ms\":%.10g,\"generator_cpu\":%.4g}",
        h->json.len > 1 ? "," : "", repeat + 1, h->rate, end_names[end],
        (double)s->due.good / asked, s->due.ttft_ms.p99, s->tpot_ms.p99, s->due.e2el_ms.p99,
        s->output_per_s, s->lateness_ms.p999, s->cpu_share);
    cn_bench_clear_progress();
    fprintf(stderr,
            "search %u: %10.3f sessions/s   %5.1f %% within   first token p99 %9.2f ms   per token "
            "p99 %8.2f ms   %s\n",
            repeat + 1, h->rate, 100 * (double)s->due.good / asked, s->due.ttft_ms.p99,
            s->tpot_ms.p99, end_names[end]);
}

// One attempt at the rate; *end says how it went.
static cn_code attempt(hunt *h, uint32_t repeat, uint32_t number, attempt_end *end, cn_err *err)
{
    cn_attempt_spec spec;
    cn_attempt a = {0};
    cn_buf before;
    const cn_attempt_watch watcher = {watch, h};
    h->settings.rate = h->rate;
    h->settings.duration = h->given->probe;
    h->settings.seed = h->given->seed + 1000 * repeat + number;
    h->settings.sessions = 0;
    h->sample_count = 0;
    h->fell_behind = false;
    cn_buf_init(&before, 1 << 20);
    cn_code code = cn_attempt_read(&h->settings, CN_SETTINGS_CAPACITY, &spec, err);
    if (code == CN_OK) code = cn_attempt_plan(&spec, &a, err);
    h->slo = spec.slo;
    spec.body.model = h->model;
    spec.body.api_key = getenv("CAIRN_API_KEY");
    cn_bench_scrape(&h->settings, &before);
    if (code == CN_OK) code = cn_attempt_run(&spec, NULL, &watcher, &a, err);
    if (code == CN_OK) {
        *end = judge(h, &a.summary);
        note_attempt(h, repeat, &a.summary, *end);
        if (*end != PASSED && *end != INVALID) {
            cn_buf_clear(&h->before);
            cn_buf_add(&h->before, before.data, before.len);
            cn_bench_scrape(&h->settings, &h->after);
            h->before_s = a.summary.duration_s;
        }
    }
    cn_buf_close(&before);
    cn_attempt_close(&a);
    return code;
}

/* One search. An INVALID attempt is repeated twice, since it may be another process of this machine
 * that made it late; then the search cannot go on. */
static cn_code find_knee(hunt *h, uint32_t repeat, double start, cn_capacity *search, bool *invalid,
                         cn_err *err)
{
    const cn_settings *s = h->given;
    uint32_t number = 0, failures = 0;
    cn_capacity_init(search, s->rate_min, s->rate_max, start, s->precision);
    while (!cn_capacity_is_over(search)) {
        attempt_end end = PASSED;
        h->rate = search->next_per_s;
        const cn_code code = attempt(h, repeat, number++, &end, err);
        if (code != CN_OK) return code;
        if (cn_bench_stop) return cn_err_set(err, CN_E_CANCELLED, "interrupted");
        if (end == INVALID && ++failures < 3) continue;
        if (end == INVALID) {
            *invalid = true;
            return CN_OK;
        }
        failures = 0;
        cn_capacity_note(search, end == PASSED);
    }
    return CN_OK;
}

/* What ran out, as far as the counters of the server tell; only Cairn's names are known. */
static void name_resource(const hunt *h, cn_buf *out)
{
    static const char busy[] = "cairn_device_busy_seconds_total",
                      gave_way[] = "cairn_preemptions_total",
                      refused[] = "cairn_sequences_refused_total";
    const double device = cn_bench_metric(&h->after, busy) - cn_bench_metric(&h->before, busy);
    const double share = device / fmax(1e-9, h->before_s);
    if (!h->after.len || cn_bench_metric(&h->after, busy) < 0) {
        cn_buf_add_text(out, "not known: the server's /metrics does not tell");
    } else if (cn_bench_metric(&h->after, gave_way) > cn_bench_metric(&h->before, gave_way)) {
        cn_buf_add_format(out, "KV pages: sequences lost their place %.0f times",
                          cn_bench_metric(&h->after, gave_way) -
                              cn_bench_metric(&h->before, gave_way));
    } else if (cn_bench_metric(&h->after, refused) > cn_bench_metric(&h->before, refused)) {
        cn_buf_add_text(out, "the waiting queue: requests were refused");
    } else if (share > 0.85)
        cn_buf_add_format(out, "the device: busy for %.0f %% of the time", 100 * share);
    else
        cn_buf_add_format(out, "not the device, which was busy for %.0f %% of the time",
                          100 * share);
}

static void print_result(hunt *h, const double *knees, uint32_t count, const cn_capacity *last,
                         bool invalid)
{
    cn_buf resource;
    const cn_capacity_estimate e = cn_capacity_estimate_of(knees, count);
    const char *verdict = invalid                            ? "INVALID"
                          : last->state == CN_CAPACITY_BELOW ? "below --rate-min"
                          : last->state == CN_CAPACITY_ABOVE ? "above --rate-max"
                                                             : "found";
    cn_buf_init(&resource, 4096);
    if (h->after.len || count) name_resource(h, &resource);
    cn_buf_add_char(&h->json, ']');
    if (h->given->json || h->given->out[0]) {
        cn_buf out;
        cn_err err;
        cn_buf_init(&out, CN_BENCH_FILE_BYTES_MAX);
        cn_buf_add_format(&out,
                          "{\"verdict\":\"%s\",\"capacity\":%.10g,\"margin\":%.10g,\"searches\":%u,"
                          "\"saturated\":",
                          verdict, e.mean_per_s, e.margin_per_s, count);
        cn_buf_add_json(&out, resource.data ? resource.data : "", resource.len);
        cn_buf_add_text(&out, ",\"attempts\":");
        cn_buf_add(&out, h->json.data, h->json.len);
        cn_buf_add_text(&out, ",\"settings\":");
        cn_settings_write(h->given, CN_SETTINGS_CAPACITY, &out);
        cn_buf_add_text(&out, "}\n");
        if (h->given->json) fwrite(out.data, 1, out.len, stdout);
        if (h->given->out[0] && cn_bench_write_file(h->given->out, &out, &err) != CN_OK)
            cn_bench_fail(&err, CN_EXIT_FAILED);
        cn_buf_close(&out);
    }
    if (!h->given->json && strcmp(verdict, "found") == 0) {
        printf("capacity: %.3f sessions/s", e.mean_per_s);
        if (count > 1) printf(" +- %.3f (95 %% confidence, %u searches)", e.margin_per_s, count);
        printf("\nwhat ran out: %.*s\n", (int)resource.len, resource.data ? resource.data : "");
    } else if (!h->given->json) printf("capacity: %s\n", verdict);
    cn_buf_close(&resource);
}

static cn_code begin(hunt *h, cn_err *err)
{
    cn_attempt_spec spec;
    const cn_settings *s = h->given;
    h->settings = *s;
    h->settings.rate = s->rate_min;
    h->settings.duration = s->probe;
    cn_code code = cn_attempt_apply_preset(&h->settings, err);
    if (code == CN_OK && !s->slo[0] && !s->goodput[0]) {
        return cn_err_set(err, CN_E_INVALID, "--slo: is not given; must be a service level such as "
                          "llama3.1-8b-interactive, or --goodput with limits");
    }
    if (code == CN_OK && s->rate_min > s->rate_max) {
        return cn_err_set(err, CN_E_INVALID, "--rate-min: %g; must be at most --rate-max (%g)",
                          s->rate_min, s->rate_max);
    }
    if (code == CN_OK && strncmp(s->arrivals, "ramp", 4) == 0) {
        return cn_err_set(err, CN_E_INVALID, "--arrivals: %s; must keep its rate during an attempt",
                          s->arrivals);
    }
    if (code == CN_OK && strcmp(s->history, "conversation") == 0) {
        return cn_err_set(err, CN_E_UNSUPPORTED,
                          "--history: conversation; must be resend or previous");
    }
    if (code == CN_OK) code = cn_attempt_read(&h->settings, CN_SETTINGS_CAPACITY, &spec, err);
    if (code != CN_OK) return code;
    snprintf(h->model, sizeof h->model, "%s", s->model);
    if (!s->model[0]) code = cn_bench_find_model(s, h->model, err);
    spec.body.model = h->model;
    spec.body.api_key = getenv("CAIRN_API_KEY");
    return code == CN_OK ? cn_attempt_warm_up(&spec, err) : code;
}

int cn_bench_run_capacity(cn_settings *settings)
{
    hunt *h = calloc(1, sizeof *h);
    cn_err err;
    cn_capacity search = {0};
    double knees[REPEATS_MAX], start = settings->rate_min;
    uint32_t count = 0;
    bool invalid = false;
    if (!h) return CN_EXIT_FAILED;
    h->given = settings;
    cn_buf_init(&h->json, CN_BENCH_FILE_BYTES_MAX);
    cn_buf_init(&h->before, 1 << 20);
    cn_buf_init(&h->after, 1 << 20);
    cn_buf_add_char(&h->json, '[');
    cn_code code = begin(h, &err);
    for (uint32_t i = 0; i < (uint32_t)settings->repeats && code == CN_OK && !invalid; i++) {
        code = find_knee(h, i, start, &search, &invalid, &err);
        if (code != CN_OK || invalid || search.state != CN_CAPACITY_FOUND) break;
        knees[count++] = sqrt(search.good_per_s * search.bad_per_s);
        start = fmax(settings->rate_min, search.good_per_s * 0.75);
    }
    cn_bench_clear_progress();
    if (code == CN_OK) print_result(h, knees, count, &search, invalid);
    cn_buf_close(&h->json);
    cn_buf_close(&h->before);
    cn_buf_close(&h->after);
    free(h);
    if (code != CN_OK) {
        return cn_bench_fail(&err, code == CN_E_INVALID || code == CN_E_UNSUPPORTED
                                       ? CN_EXIT_USAGE
                                       : CN_EXIT_FAILED);
    }
    if (invalid) return CN_BENCH_EXIT_INVALID;
    return search.state == CN_CAPACITY_FOUND ? CN_EXIT_OK : CN_EXIT_FAILED;
}
