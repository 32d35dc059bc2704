#include "bench/summary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

// MLPerf inference, server scenario, 99th percentiles (mlperf.conf); the last four are GuideLLM's.
static const struct {
    const char *name;
    cn_summary_slo slo;
} presets[] = {
    {"llama2-70b", {2000, 200, 0}},        {"llama2-70b-interactive", {450, 40, 0}},
    {"llama3.1-8b", {2000, 100, 0}},       {"llama3.1-8b-interactive", {500, 30, 0}},
    {"llama3.1-405b", {6000, 175, 0}},     {"llama3.1-405b-interactive", {4500, 80, 0}},
    {"deepseek-r1", {2000, 80, 0}},        {"deepseek-r1-interactive", {1500, 15, 0}},
    {"gpt-oss-120b", {3000, 80, 0}},       {"gpt-oss-120b-interactive", {2000, 15, 0}},
    {"mixtral-8x7b", {2000, 200, 0}},      {"chat", {200, 50, 0}},
    {"rag", {300, 100, 0}},                {"code-completion", {0, 0, 2000}},
    {"code-generation", {500, 150, 0}},
};

cn_code cn_summary_find_slo(const char *name, cn_summary_slo *out, cn_err *err)
{
    char names[320] = "";
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(name, presets[i].name) == 0) {
            *out = presets[i].slo;
            return CN_OK;
        }
        const size_t at = strlen(names);
        snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", presets[i].name);
    }
    return cn_err_set(err, CN_E_INVALID,
                      "--slo: %.40s; must be ttft:MS tpot:MS e2el:MS, or one of %s", name, names);
}

cn_code cn_summary_parse_slo(const char *text, cn_summary_slo *out, cn_err *err)
{
    *out = (cn_summary_slo){0};
    while (*(text += strspn(text, " ,"))) {
        const size_t len = strcspn(text, ":");
        double *field = len == 4 && strncmp(text, "ttft", 4) == 0   ? &out->ttft_ms
                        : len == 4 && strncmp(text, "tpot", 4) == 0 ? &out->tpot_ms
                        : len == 4 && strncmp(text, "e2el", 4) == 0 ? &out->e2el_ms
                                                                    : NULL;
        char *end = NULL;
        const double value = field && text[len] ? strtod(text + len + 1, &end) : 0;
        if (!(value > 0) || (*end && *end != ' ' && *end != ',')) {
            return cn_err_set(err, CN_E_INVALID, "--goodput: %.60s; must be ttft:MS, tpot:MS or "
                              "e2el:MS with milliseconds above 0", text);
        }
        *field = value;
        text = end;
    }
    return CN_OK;
}

typedef struct builder {
    const cn_plan *plan;
    const cn_tally *tally;
    const cn_summary_slo *slo;
    cn_summary *out;
    double *values;              // as many as there are turns
    uint32_t *order;             // answered turns that count, by due time
    uint32_t order_count;
} builder;

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

static bool was_sent(const cn_tally_turn *t) { return t->sent_ns > 0; }

// A slow reader makes its own latency: it is counted, but no figure of the server.
static bool counts(const builder *b, uint32_t i)
{
    return b->tally->turns[i].outcome == CN_OUTCOME_OK && b->plan->turns[i].slow_bytes_per_s == 0;
}

static double tpot_ms(const cn_tally_turn *t)
{
    const uint64_t tokens = cn_tally_output_tokens(t);
    return tokens > 1 ? ms_between(t->first_ns, t->last_ns) / (double)(tokens - 1) : 0;
}

static bool has_tpot(const cn_tally_turn *t)
{
    return t->event_count > 1 && cn_tally_output_tokens(t) > 1;
}

static void count_outcomes(builder *b)
{
    cn_summary *s = b->out;
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[i];
        s->outcomes[t->outcome]++;
        if (t->outcome != CN_OUTCOME_OK) continue;
        s->input_tokens += t->input_tokens >= 0 ? (uint64_t)t->input_tokens
                                                : b->plan->turns[i].input_tokens;
        s->output_tokens += cn_tally_output_tokens(t);
        if (t->cached_tokens >= 0) {
            s->cached_told = true;
            s->cached_tokens += (uint64_t)t->cached_tokens;
        }
    }
    s->completed = s->outcomes[CN_OUTCOME_OK];
    s->failed = b->tally->turn_count - s->completed - s->outcomes[CN_OUTCOME_CANCELLED] -
                s->outcomes[CN_OUTCOME_UNSENT];
}

static void sum_rates(builder *b)
{
    cn_summary *s = b->out;
    s->duration_s = ms_between(b->tally->start_ns, b->tally->end_ns) / 1e3;
    const double per_s = s->duration_s > 0 ? 1 / s->duration_s : 0;
    s->request_per_s = (double)s->completed * per_s;
    s->output_per_s = (double)s->output_tokens * per_s;
    s->total_per_s = (double)(s->input_tokens + s->output_tokens) * per_s;
    s->events_per_s = (double)b->tally->event_count * per_s;
    s->goodput_per_s = (double)s->due.good * per_s;
    s->cpu_share = b->tally->cpu_s * per_s;
}

static int compare_due(const void *a, const void *b, void *turns)
{
    const cn_tally_turn *t = turns;
    const uint64_t x = t[*(const uint32_t *)a].due_ns, y = t[*(const uint32_t *)b].due_ns;
    return x != y ? (x > y) - (x < y) : (*(const uint32_t *)a > *(const uint32_t *)b) * 2 - 1;
}

static void order_turns(builder *b)
{
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        if (counts(b, i)) b->order[b->order_count++] = i;
    }
    qsort_r(b->order, b->order_count, sizeof *b->order, compare_due, b->tally->turns);
}

static void draw_curve(const double *sorted, uint64_t count, float *curve)
{
    // Even steps in the logarithm of what is left above: 50 %, ..., 99 %, ..., 99.9 %.
    for (int i = 0; i < CN_SUMMARY_CURVE; i++) {
        const double above = pow(10, -3.0 * i / (CN_SUMMARY_CURVE - 1));
        curve[i] = (float)cn_figures_percentile(sorted, count, 100 * (1 - above));
    }
}

static void sum_clock(builder *b, bool from_due, cn_summary_clock *out)
{
    const cn_summary_slo *slo = b->slo;
    for (int metric = 0; metric < 2; metric++) {
        for (uint32_t i = 0; i < b->order_count; i++) {
            const cn_tally_turn *t = &b->tally->turns[b->order[i]];
            const uint64_t from = from_due ? t->due_ns : t->sent_ns;
            b->values[i] = ms_between(from, metric == 0 ? t->first_ns : t->end_ns);
        }
        *(metric == 0 ? &out->ttft_ms : &out->e2el_ms) = cn_figures_of(b->values, b->order_count);
        draw_curve(b->values, b->order_count,
                   metric == 0 ? out->ttft_curve_ms : out->e2el_curve_ms);
    }
    for (uint32_t i = 0; i < b->order_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[b->order[i]];
        const uint64_t from = from_due ? t->due_ns : t->sent_ns;
        out->good += (slo->ttft_ms == 0 || ms_between(from, t->first_ns) <= slo->ttft_ms) &&
                     (slo->e2el_ms == 0 || ms_between(from, t->end_ns) <= slo->e2el_ms) &&
                     (slo->tpot_ms == 0 || tpot_ms(t) <= slo->tpot_ms);
    }
}

static cn_code sum_gaps(builder *b, cn_err *err)
{
    uint64_t count = 0, n = 0;
    for (uint32_t i = 0; i < b->order_count; i++) count += b->tally->turns[b->order[i]].gap_count;
    double *gaps = malloc((count ? count : 1) * sizeof *gaps);
    if (!gaps) return cn_err_set(err, CN_E_MEMORY, "no memory for %llu gaps between tokens",
                                 (unsigned long long)count);
    for (uint32_t i = 0; i < b->order_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[b->order[i]];
        for (uint32_t k = 0; k < t->gap_count; k++) gaps[n++] = (double)t->gaps_s[k] * 1e3;
    }
    b->out->itl_ms = cn_figures_of(gaps, count);
    free(gaps);
    uint64_t with_tpot = 0;
    for (uint32_t i = 0; i < b->order_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[b->order[i]];
        if (has_tpot(t)) b->values[with_tpot++] = tpot_ms(t);
    }
    b->out->tpot_ms = cn_figures_of(b->values, with_tpot);
    return CN_OK;
}

// All that were sent, answered or not: a request that failed was late all the same.
static void sum_lateness(builder *b)
{
    uint64_t count = 0;
    cn_histogram_init(&b->out->lateness_ns);
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[i];
        if (!was_sent(t)) continue;
        b->values[count++] = ms_between(t->ready_ns, t->sent_ns);
        cn_histogram_add(&b->out->lateness_ns, t->sent_ns - t->ready_ns);
    }
    b->out->lateness_ms = cn_figures_of(b->values, count);
    count = 0;
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[i];
        if (was_sent(t)) b->values[count++] = ms_between(t->due_ns, t->ready_ns);
    }
    b->out->queue_ms = cn_figures_of(b->values, count);
}

static void sum_turns(builder *b)
{
    cn_summary *s = b->out;
    for (uint32_t k = 0; k < CN_SUMMARY_TURNS; k++) {
        for (int metric = 0; metric < 2; metric++) {
            uint64_t count = 0;
            for (uint32_t i = 0; i < b->plan->session_count; i++) {
                const cn_plan_session *session = &b->plan->sessions[i];
                if (k >= session->turn_count || !counts(b, session->turn_first + k)) continue;
                const cn_tally_turn *t = &b->tally->turns[session->turn_first + k];
                b->values[count++] = ms_between(t->due_ns, metric == 0 ? t->first_ns : t->end_ns);
                if (metric == 1) continue;
                s->turns[k].input_tokens += t->input_tokens > 0 ? (uint64_t)t->input_tokens : 0;
                s->turns[k].cached_tokens += t->cached_tokens > 0 ? (uint64_t)t->cached_tokens : 0;
            }
            *(metric == 0 ? &s->turns[k].ttft_ms : &s->turns[k].e2el_ms) =
                cn_figures_of(b->values, count);
            s->turns[k].count = count;
        }
        if (s->turns[k].count > 0) s->turns_count = k + 1;
    }
}

static uint32_t bin_of(const builder *b, uint64_t at_ns)
{
    const double bin = ms_between(b->tally->start_ns, at_ns) / 1e3 / b->out->bin_s;
    return bin < b->out->bin_count ? (uint32_t)bin : b->out->bin_count - 1;
}

static void count_events(builder *b, const cn_tally_turn *t)
{
    double at_ns = (double)(t->first_ns - b->tally->start_ns);
    for (uint32_t k = 0; k <= t->gap_count; k++) {
        if (k > 0) at_ns += (double)t->gaps_s[k - 1] * 1e9;
        b->out->bins[bin_of(b, b->tally->start_ns + (uint64_t)at_ns)].events++;
    }
}

// A share of the time that the request was open in each bin: the sum is the mean number in flight.
static void count_flight(builder *b, const cn_tally_turn *t)
{
    const double from = ms_between(b->tally->start_ns, t->sent_ns) / 1e3 / b->out->bin_s;
    const double to = ms_between(b->tally->start_ns, t->end_ns) / 1e3 / b->out->bin_s;
    for (uint32_t i = (uint32_t)from; i < b->out->bin_count && i < to; i++) {
        b->out->bins[i].in_flight += fmin(to, i + 1.0) - fmax(from, i);
    }
}

static cn_code make_bins(builder *b, cn_err *err)
{
    cn_summary *s = b->out;
    s->bin_s = fmax(1, ceil(s->duration_s / CN_SUMMARY_BINS_MAX));
    s->bin_count = (uint32_t)fmax(1, ceil(s->duration_s / s->bin_s));
    s->bins = calloc(s->bin_count, sizeof *s->bins);
    if (!s->bins) return cn_err_set(err, CN_E_MEMORY, "no memory for %u seconds", s->bin_count);
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[i];
        if (t->due_ns) s->bins[bin_of(b, t->due_ns)].due++;
        if (t->outcome == CN_OUTCOME_OK) s->bins[bin_of(b, t->end_ns)].completed++;
        if (t->event_count > 0) count_events(b, t);
        if (was_sent(t)) count_flight(b, t);
    }
    uint32_t at = 0;
    for (uint32_t bin = 0; bin < s->bin_count; bin++) {
        uint32_t count = 0;
        for (; at < b->order_count; at++) {
            const cn_tally_turn *t = &b->tally->turns[b->order[at]];
            if (bin_of(b, t->due_ns) != bin) break;
            b->values[count++] = ms_between(t->due_ns, t->first_ns);
        }
        cn_figures_sort(b->values, count);
        s->bins[bin].ttft_p50_ms = cn_figures_percentile(b->values, count, 50);
        s->bins[bin].ttft_p99_ms = cn_figures_percentile(b->values, count, 99);
    }
    for (uint32_t bin = 0; bin < s->bin_count; bin++) {
        s->output_per_s_max = fmax(s->output_per_s_max, s->bins[bin].events / s->bin_s);
    }
    return CN_OK;
}

static int compare_signed(const void *a, const void *b)
{
    // The end of a request comes before a beginning at the same time: half-open intervals.
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    const int64_t x_at = x < 0 ? -x : x, y_at = y < 0 ? -y : y;
    return x_at != y_at ? (x_at > y_at) - (x_at < y_at) : (x > y) - (x < y);
}

static cn_code find_concurrent_max(builder *b, cn_err *err)
{
    uint64_t count = 0, now = 0;
    int64_t *edges = malloc((2 * (size_t)b->tally->turn_count + 1) * sizeof *edges);
    if (!edges) return cn_err_set(err, CN_E_MEMORY, "no memory for %u turns", b->tally->turn_count);
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[i];
        if (!was_sent(t)) continue;
        edges[count++] = (int64_t)t->sent_ns;
        edges[count++] = -(int64_t)t->end_ns;
    }
    qsort(edges, count, sizeof *edges, compare_signed);
    for (uint64_t i = 0; i < count; i++) {
        if (edges[i] < 0) now--;
        else if (++now > b->out->concurrent_max) b->out->concurrent_max = now;
    }
    free(edges);
    return CN_OK;
}

/* Means of batches in the order of due times. Single requests of one run depend on each other,
 * since they wait in one queue; means of long stretches hardly do, so tests may treat them as
 * samples. */
static void make_batches(builder *b)
{
    cn_summary *s = b->out;
    s->batch_count =
        b->order_count / 2 < CN_SUMMARY_BATCHES ? b->order_count / 2 : CN_SUMMARY_BATCHES;
    for (uint32_t k = 0; k < s->batch_count; k++) {
        const uint32_t from = (uint32_t)((uint64_t)b->order_count * k / s->batch_count);
        const uint32_t to = (uint32_t)((uint64_t)b->order_count * (k + 1) / s->batch_count);
        double tokens = 0, tpot = 0;
        uint32_t with_tpot = 0;
        uint64_t first_ns = UINT64_MAX, last_ns = 0;
        for (uint32_t i = from; i < to; i++) {
            const cn_tally_turn *t = &b->tally->turns[b->order[i]];
            s->batch_ttft_ms[k] += ms_between(t->due_ns, t->first_ns) / (to - from);
            s->batch_e2el_ms[k] += ms_between(t->due_ns, t->end_ns) / (to - from);
            if (has_tpot(t)) tpot += tpot_ms(t), with_tpot++;
            tokens += (double)cn_tally_output_tokens(t);
            first_ns = t->due_ns < first_ns ? t->due_ns : first_ns;
            last_ns = t->end_ns > last_ns ? t->end_ns : last_ns;
        }
        s->batch_tpot_ms[k] = with_tpot ? tpot / with_tpot : 0;
        s->batch_output_per_s[k] = tokens / fmax(1e-9, ms_between(first_ns, last_ns) / 1e3);
    }
}

static void make_digest(builder *b)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof b->out->digest);
    for (uint32_t i = 0; i < b->tally->turn_count; i++) {
        const cn_tally_turn *t = &b->tally->turns[i];
        if (t->outcome != CN_OUTCOME_OK) continue;
        b->out->digest_turns++;
        crypto_generichash_update(&state, t->digest, sizeof t->digest);
    }
    crypto_generichash_final(&state, b->out->digest, sizeof b->out->digest);
}

static void judge(cn_summary *s)
{
    size_t at = 0;
    const size_t size = sizeof s->invalid_why;
    if (s->lateness_ms.p999 > CN_SUMMARY_LATENESS_MS_MAX)
        at += (size_t)snprintf(s->invalid_why, size,
                               "sending was %.3f ms late at p99.9 (at most %g). ",
                               s->lateness_ms.p999, CN_SUMMARY_LATENESS_MS_MAX);
    if (s->cpu_share > CN_SUMMARY_CPU_MAX)
        at += (size_t)snprintf(s->invalid_why + at, size - at,
                               "the generator used %.0f %% of a core "
                               "(at most %.0f). ",
                               s->cpu_share * 100, CN_SUMMARY_CPU_MAX * 100);
    if (s->outcomes[CN_OUTCOME_DESCRIPTOR] > 0)
        at += (size_t)snprintf(s->invalid_why + at, size - at,
                               "%llu requests found no descriptor or "
                               "memory in the generator. ",
                               (unsigned long long)s->outcomes[CN_OUTCOME_DESCRIPTOR]);
    s->valid = at == 0;
    if (at > 0) s->invalid_why[(at < size ? at : size) - 1] = '\0';
}

cn_code cn_summary_open(const cn_plan *plan, const cn_tally *tally, const cn_summary_slo *slo,
                        cn_summary *out, cn_err *err)
{
    memset(out, 0, sizeof *out);
    builder b = {.plan = plan, .tally = tally, .slo = slo, .out = out};
    b.values = malloc(((size_t)tally->turn_count + 1) * sizeof *b.values);
    b.order = malloc(((size_t)tally->turn_count + 1) * sizeof *b.order);
    cn_code code = b.values && b.order ? CN_OK
                                       : cn_err_set(err, CN_E_MEMORY, "no memory for %u turns",
                                                    tally->turn_count);
    if (code == CN_OK) {
        count_outcomes(&b);
        order_turns(&b);
        sum_clock(&b, true, &out->due);
        sum_clock(&b, false, &out->sent);
        sum_rates(&b);
        sum_lateness(&b);
        sum_turns(&b);
        make_batches(&b);
        make_digest(&b);
        judge(out);
        code = sum_gaps(&b, err);
    }
    if (code == CN_OK) code = make_bins(&b, err);
    if (code == CN_OK) code = find_concurrent_max(&b, err);
    free(b.values);
    free(b.order);
    return code;
}

void cn_summary_close(cn_summary *summary)
{
    free(summary->bins);
    summary->bins = NULL;
}
