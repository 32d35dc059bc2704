#include "bench/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>

static void add_text(cn_buf *out, const char *key, const char *text)
{
    cn_buf_add_format(out, ",\"%s\":", key);
    cn_buf_add_json(out, text, strlen(text));
}

static void add_number(cn_buf *out, const char *key, double value)
{
    cn_buf_add_format(out, ",\"%s\":%.10g", key, value);
}

static void add_count(cn_buf *out, const char *key, uint64_t value)
{
    cn_buf_add_format(out, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void add_vllm_metric(cn_buf *out, const char *name, const cn_figures *f)
{
    cn_buf_add_format(out,
                      ",\"mean_%s_ms\":%.10g,\"median_%s_ms\":%.10g,\"std_%s_ms\":%.10g,"
                      "\"p99_%s_ms\":%.10g",
                      name, f->mean, name, f->median, name, f->std, name, f->p99);
}

static void add_figures(cn_buf *out, const char *key, const cn_figures *f)
{
    cn_buf_add_format(out,
                      "\"%s\":{\"count\":%llu,\"mean\":%.10g,\"std\":%.10g,\"p50\":%.10g,"
                      "\"p90\":%.10g,\"p95\":%.10g,\"p99\":%.10g,\"p99.9\":%.10g,\"max\":%.10g}",
                      key, (unsigned long long)f->count, f->mean, f->std, f->median, f->p90, f->p95,
                      f->p99, f->p999, f->max);
}

static void add_hex(const unsigned char *bytes, size_t len, cn_buf *out)
{
    cn_buf_add_char(out, '"');
    for (size_t i = 0; i < len; i++) cn_buf_add_format(out, "%02x", bytes[i]);
    cn_buf_add_char(out, '"');
}

static double seconds_since(uint64_t from_ns, uint64_t at_ns)
{
    return at_ns > from_ns ? (double)(at_ns - from_ns) / 1e9 : 0;
}

// vLLM's local time without separators; here of UTC.
static void add_date(const cn_tally *tally, cn_buf *out)
{
    const time_t seconds = (time_t)(tally->start_wall_ns / 1000000000);
    struct tm parts;
    char text[32];
    gmtime_r(&seconds, &parts);
    strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts);
    cn_buf_add_format(out, "\"date\":\"%s\"", text);
}

static const char *backend_of(const cn_settings *s)
{
    if (strcmp(s->api, "chat") == 0) return "openai-chat";
    return strcmp(s->api, "completions") == 0 ? "openai" : "openai-responses";
}

static void add_setup(const cn_report_run *r, cn_buf *out)
{
    const cn_settings *s = r->settings;
    const bool closed = s->concurrency > 0;
    const double limit = closed ? s->concurrency : s->max_concurrency;
    cn_buf_add_char(out, '{');
    add_date(r->tally, out);
    add_text(out, "endpoint_type", backend_of(s));
    add_text(out, "backend", backend_of(s));
    if (s->label[0]) add_text(out, "label", s->label);
    else cn_buf_add_text(out, ",\"label\":null");
    add_text(out, "model_id", r->model);
    cn_buf_add_text(out, ",\"tokenizer_id\":null");
    add_count(out, "num_prompts", r->plan->turn_count);
    if (closed || isinf(s->rate)) cn_buf_add_text(out, ",\"request_rate\":\"inf\"");
    else add_number(out, "request_rate", s->rate);
    add_number(out, "burstiness", strcmp(s->arrivals, "gamma") == 0 ? s->burstiness : 1.0);
    if (limit > 0) add_count(out, "max_concurrency", (uint64_t)limit);
    else cn_buf_add_text(out, ",\"max_concurrency\":null");
    if (strncmp(s->arrivals, "ramp", 4) == 0) {
        add_text(out, "ramp_up_strategy",
                 strcmp(s->arrivals, "ramp") == 0 ? "linear" : "exponential");
        add_number(out, "ramp_up_start_rps", s->rate);
        add_number(out, "ramp_up_end_rps", s->rate_end);
    }
}

static void add_results(const cn_report_run *r, cn_buf *out)
{
    const cn_summary *s = r->summary;
    add_number(out, "duration", s->duration_s);
    add_count(out, "completed", s->completed);
    add_count(out, "failed", s->failed);
    add_count(out, "total_input_tokens", s->input_tokens);
    add_count(out, "total_output_tokens", s->output_tokens);
    add_number(out, "request_throughput", s->request_per_s);
    if (r->has_slo) add_number(out, "request_goodput", s->goodput_per_s);
    else cn_buf_add_text(out, ",\"request_goodput\":null");
    add_number(out, "output_throughput", s->output_per_s);
    add_number(out, "total_token_throughput", s->total_per_s);
    add_number(out, "max_output_tokens_per_s", s->output_per_s_max);
    add_count(out, "max_concurrent_requests", s->concurrent_max);
    cn_buf_add_text(out, ",\"rtfx\":0.0");
    add_vllm_metric(out, "ttft", &s->due.ttft_ms);
    add_vllm_metric(out, "tpot", &s->tpot_ms);
    add_vllm_metric(out, "itl", &s->itl_ms);
    add_vllm_metric(out, "e2el", &s->due.e2el_ms);
}

static void add_gaps(const cn_tally_turn *t, cn_buf *out)
{
    cn_buf_add_char(out, '[');
    for (uint32_t i = 0; i < t->gap_count; i++) {
        cn_buf_add_format(out, i ? ",%.7g" : "%.7g", (double)t->gaps_s[i]);
    }
    cn_buf_add_char(out, ']');
}

static uint64_t input_tokens(const cn_report_run *r, uint32_t i)
{
    const int64_t told = r->tally->turns[i].input_tokens;
    return told >= 0 ? (uint64_t)told : r->plan->turns[i].input_tokens;
}

// One of vLLM's lists with a value per request.
static void add_list(const cn_report_run *r, const char *key, cn_buf *out)
{
    cn_buf_add_format(out, ",\"%s\":[", key);
    for (uint32_t i = 0; i < r->tally->turn_count; i++) {
        const cn_tally_turn *t = &r->tally->turns[i];
        const char *said = strcmp(key, "errors") == 0 ? t->error : t->text;
        if (i) cn_buf_add_char(out, ',');
        switch (key[0]) {
        case 'i':
            if (key[1] == 't') add_gaps(t, out);
            else cn_buf_add_u64(out, input_tokens(r, i));
            break;
        case 'o': cn_buf_add_u64(out, cn_tally_output_tokens(t)); break;
        case 't': cn_buf_add_format(out, "%.9g", seconds_since(t->due_ns, t->first_ns)); break;
        case 'l': cn_buf_add_format(out, "%.9g", seconds_since(t->due_ns, t->end_ns)); break;
        case 's':
            cn_buf_add_format(out, "%.9g", seconds_since(r->tally->start_ns, t->sent_ns));
            break;
        case 'q': cn_buf_add_format(out, "%.9g", seconds_since(t->due_ns, t->sent_ns)); break;
        default:
            if (!said && key[0] == 'e' && t->outcome != CN_OUTCOME_OK)
                said = cn_tally_outcome_what(t->outcome);
            cn_buf_add_json(out, said ? said : "", said ? strlen(said) : 0);
        }
    }
    cn_buf_add_char(out, ']');
}

static void add_details(const cn_report_run *r, cn_buf *out)
{
    static const char *const keys[] = {"input_lens",  "output_lens", "ttfts",  "itls",
                                       "latencies",   "start_times", "queue_times",
                                       "generated_texts", "errors"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) add_list(r, keys[i], out);
}

static void add_environment(const cn_report_run *r, cn_buf *out)
{
    struct utsname system;
    char cpu[256] = "", line[512];
    uname(&system);
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "model name : %255[^\n]", cpu) == 1) break;
    }
    if (file) fclose(file);
    cn_buf_add_text(out, "\"environment\":{\"cairn\":\"" CN_VERSION "\"");
    add_text(out, "host", system.nodename);
    add_text(out, "kernel", system.release);
    add_text(out, "machine", system.machine);
    add_text(out, "cpu", cpu);
    add_count(out, "cores", (uint64_t)get_nprocs());
    cn_buf_add_format(out, ",\"realtime\":%s}", r->tally->realtime ? "true" : "false");
}

// Edges are the largest value of a bucket; only those that hold something.
static void add_lateness(const cn_summary *s, cn_buf *out)
{
    cn_buf_add_text(out, ",\"lateness\":{");
    add_figures(out, "ms", &s->lateness_ms);
    cn_buf_add_format(out, ",\"limit_ms\":%g,\"histogram\":[", CN_SUMMARY_LATENESS_MS_MAX);
    uint64_t seen = 0;
    const char *comma = "";
    for (uint64_t us = 1; us <= (uint64_t)1 << 40; us *= 2) {
        const uint64_t below = cn_histogram_count_at_most(&s->lateness_ns, us * 1000);
        if (below > seen) {
            cn_buf_add_format(out, "%s{\"at_most_ms\":%.10g,\"count\":%llu}", comma,
                              (double)us / 1e3, (unsigned long long)(below - seen));
            comma = ",";
        }
        seen = below;
    }
    cn_buf_add_text(out, "]}");
}

static void add_outcomes(const cn_summary *s, cn_buf *out)
{
    cn_buf_add_text(out, ",\"outcomes\":{");
    for (int i = 0; i < CN_OUTCOME_COUNT; i++) {
        cn_buf_add_format(out, i ? ",\"%s\":%llu" : "\"%s\":%llu",
                          cn_tally_outcome_name((cn_outcome)i), (unsigned long long)s->outcomes[i]);
    }
    cn_buf_add_char(out, '}');
}

static void add_curve(cn_buf *out, const char *key, const float *curve, const char *comma)
{
    cn_buf_add_format(out, "%s\"%s\":[", comma, key);
    for (int i = 0; i < CN_SUMMARY_CURVE; i++) {
        cn_buf_add_format(out, i ? ",%.6g" : "%.6g", (double)curve[i]);
    }
    cn_buf_add_char(out, ']');
}

static void add_clock(cn_buf *out, const char *key, const cn_report_run *r,
                      const cn_summary_clock *c)
{
    cn_buf_add_format(out, ",\"%s\":{", key);
    add_figures(out, "ttft_ms", &c->ttft_ms);
    cn_buf_add_char(out, ',');
    add_figures(out, "e2el_ms", &c->e2el_ms);
    if (r->has_slo) {
        cn_buf_add_format(out, ",\"good\":%llu,\"goodput\":%.10g", (unsigned long long)c->good,
                          (double)c->good / fmax(1e-9, r->summary->duration_s));
    }
    add_curve(out, "ttft_curve_ms", c->ttft_curve_ms, ",");
    add_curve(out, "e2el_curve_ms", c->e2el_curve_ms, ",");
    cn_buf_add_char(out, '}');
}

static void add_turns(const cn_summary *s, cn_buf *out)
{
    cn_buf_add_text(out, ",\"turns\":[");
    for (uint32_t k = 0; k < s->turns_count; k++) {
        const cn_summary_turn *t = &s->turns[k];
        cn_buf_add_format(out,
                          "%s{\"turn\":%u,\"count\":%llu,\"input_tokens\":%llu,"
                          "\"cached_tokens\":%llu,",
                          k ? "," : "", k + 1, (unsigned long long)t->count,
                          (unsigned long long)t->input_tokens,
                          (unsigned long long)t->cached_tokens);
        add_figures(out, "ttft_ms", &t->ttft_ms);
        cn_buf_add_char(out, ',');
        add_figures(out, "e2el_ms", &t->e2el_ms);
        cn_buf_add_char(out, '}');
    }
    cn_buf_add_char(out, ']');
}

static void add_series(const cn_summary *s, cn_buf *out)
{
    static const char *const keys[] = {"due", "completed", "events", "in_flight", "ttft_p50_ms",
                                       "ttft_p99_ms"};
    cn_buf_add_format(out, ",\"series\":{\"bin_s\":%g", s->bin_s);
    for (int k = 0; k < 6; k++) {
        cn_buf_add_format(out, ",\"%s\":[", keys[k]);
        for (uint32_t i = 0; i < s->bin_count; i++) {
            const cn_summary_bin *b = &s->bins[i];
            const double values[] = {b->due, b->completed, b->events, b->in_flight, b->ttft_p50_ms,
                                     b->ttft_p99_ms};
            cn_buf_add_format(out, i ? ",%.6g" : "%.6g", values[k]);
        }
        cn_buf_add_char(out, ']');
    }
    cn_buf_add_char(out, '}');
}

static void add_batches(const cn_summary *s, cn_buf *out)
{
    static const char *const keys[] = {"ttft_ms", "e2el_ms", "tpot_ms", "output_per_s"};
    const double *const values[] = {s->batch_ttft_ms, s->batch_e2el_ms, s->batch_tpot_ms,
                                    s->batch_output_per_s};
    cn_buf_add_text(out, ",\"batches\":{");
    for (int k = 0; k < 4; k++) {
        cn_buf_add_format(out, k ? ",\"%s\":[" : "\"%s\":[", keys[k]);
        for (uint32_t i = 0; i < s->batch_count; i++) {
            cn_buf_add_format(out, i ? ",%.10g" : "%.10g", values[k][i]);
        }
        cn_buf_add_char(out, ']');
    }
    cn_buf_add_char(out, '}');
}

static void add_cairn(const cn_report_run *r, cn_buf *out)
{
    const cn_summary *s = r->summary;
    cn_buf_add_text(out, ",\"cairn\":{\"format\":1,\"clock\":\"due\",");
    add_environment(r, out);
    cn_buf_add_text(out, ",\"settings\":");
    cn_settings_write(r->settings, r->command, out);
    cn_buf_add_format(out, ",\"valid\":%s", s->valid ? "true" : "false");
    if (s->valid) cn_buf_add_text(out, ",\"invalid_why\":null");
    else add_text(out, "invalid_why", s->invalid_why);
    cn_buf_add_text(out, ",\"digest\":");
    add_hex(s->digest, sizeof s->digest, out);
    add_text(out, "digest_of", r->settings->token_ids ? "token ids" : "text");
    add_count(out, "digest_turns", s->digest_turns);
    add_count(out, "sessions", r->plan->session_count);
    add_outcomes(s, out);
    if (s->cached_told) add_count(out, "cached_tokens", s->cached_tokens);
    else cn_buf_add_text(out, ",\"cached_tokens\":null");
    add_number(out, "events_per_s", s->events_per_s);
    add_count(out, "received_bytes", r->tally->received_bytes);
    add_count(out, "connections", r->tally->connection_count);
    uint64_t resumed = 0;
    for (uint32_t i = 0; i < r->tally->turn_count; i++) resumed += r->tally->turns[i].resumed;
    add_count(out, "resumed", resumed);
    add_number(out, "generator_cpu", s->cpu_share);
    add_lateness(s, out);
    cn_buf_add_char(out, ',');
    add_figures(out, "queue_ms", &s->queue_ms);
    cn_buf_add_char(out, ',');
    add_figures(out, "tpot_ms", &s->tpot_ms);
    cn_buf_add_char(out, ',');
    add_figures(out, "itl_ms", &s->itl_ms);
    add_clock(out, "from_due", r, &s->due);
    add_clock(out, "from_sent", r, &s->sent);
    add_turns(s, out);
    add_series(s, out);
    add_batches(s, out);
    cn_buf_add_text(out, ",\"server\":");
    if (r->server && r->server->len) cn_buf_add(out, r->server->data, r->server->len);
    else cn_buf_add_text(out, "null");
    cn_buf_add_char(out, '}');
}

void cn_report_write_json(const cn_report_run *r, cn_buf *out)
{
    add_setup(r, out);
    add_results(r, out);
    if (r->settings->detailed) add_details(r, out);
    add_cairn(r, out);
    cn_buf_add_text(out, "}\n");
}

static void add_time(cn_buf *out, const char *key, const cn_tally *tally, uint64_t at_ns)
{
    if (at_ns) cn_buf_add_format(out, ",\"%s\":%.9f", key, seconds_since(tally->start_ns, at_ns));
    else cn_buf_add_format(out, ",\"%s\":null", key);
}

static void write_log_line(const cn_report_run *r, uint32_t session, uint32_t turn, cn_buf *out)
{
    const uint32_t i = r->plan->sessions[session].turn_first + turn;
    const cn_tally_turn *t = &r->tally->turns[i];
    cn_buf_add_format(out, "{\"session\":%u,\"turn\":%u,\"outcome\":\"%s\",\"status\":%u", session,
                      turn, cn_tally_outcome_name(t->outcome), t->status);
    add_time(out, "due_s", r->tally, t->due_ns);
    add_time(out, "ready_s", r->tally, t->ready_ns);
    add_time(out, "sent_s", r->tally, t->sent_ns);
    add_time(out, "first_s", r->tally, t->first_ns);
    add_time(out, "last_s", r->tally, t->last_ns);
    add_time(out, "end_s", r->tally, t->end_ns);
    add_count(out, "input_tokens", input_tokens(r, i));
    add_count(out, "output_tokens", cn_tally_output_tokens(t));
    if (t->cached_tokens >= 0) add_count(out, "cached_tokens", (uint64_t)t->cached_tokens);
    else cn_buf_add_text(out, ",\"cached_tokens\":null");
    add_count(out, "events", t->event_count);
    cn_buf_add_format(out, ",\"slow\":%s,\"resumed\":%s,\"itl_s\":",
                      r->plan->turns[i].slow_bytes_per_s ? "true" : "false",
                      r->tally->turns[i].resumed ? "true" : "false");
    add_gaps(t, out);
    cn_buf_add_text(out, ",\"digest\":");
    add_hex(t->digest, sizeof t->digest, out);
    if (t->error) add_text(out, "error", t->error);
    else cn_buf_add_text(out, ",\"error\":null");
    cn_buf_add_text(out, "}\n");
}

void cn_report_write_log(const cn_report_run *r, cn_buf *out)
{
    for (uint32_t i = 0; i < r->plan->session_count; i++) {
        for (uint32_t k = 0; k < r->plan->sessions[i].turn_count; k++) {
            if (r->tally->turns[r->plan->sessions[i].turn_first + k].due_ns)
                write_log_line(r, i, k, out);
        }
    }
}
