#include "bench/attempt.h"

#include <math.h>
#include <string.h>

#include "bench/delta.h"
#include "bench/trace.h"
#include "bench/words.h"

enum { SESSIONS_DEFAULT = 100, SESSIONS_MAX = 10000000 };

/* Published figures of traces; where a mean and a median are known, the 90th percentile is the one
 * of the log-normal distribution that has both.
 *   azure-*   Azure LLM inference 2023: gaps with a coefficient of variation of 1.09 and 13.2, which
 *             is a gamma shape of 1/CV^2; conversations 1,020 tokens in (mean 1,155) and 129 out
 *             (211), code 1,469 in (2,048) and 13 out (28)
 *             (the means, unlike the medians, were not checked against the trace)
 *   weka      739 recorded sessions of coding agents: 45 turns, 155 at p90; 720 new tokens per
 *             turn, 4,662 at p90; 10 s between turns, 166 s at p90; the lengths of answers are ours
 *   chat      a person who reads and types; all of it is our choice */
static const struct {
    const char *name, *field, *value;
} presets[] = {
    {"azure-conv", "arrivals", "gamma"},
    {"azure-conv", "burstiness", "0.84"},
    {"azure-conv", "input_tokens", "lognormal:1020:1932"},
    {"azure-conv", "output_tokens", "lognormal:129:460"},
    {"azure-code", "arrivals", "gamma"},
    {"azure-code", "burstiness", "0.006"},
    {"azure-code", "input_tokens", "lognormal:1469:4175"},
    {"azure-code", "output_tokens", "lognormal:13:64"},
    {"weka", "turns", "lognormal:45:155"},
    {"weka", "input_tokens", "lognormal:720:4662"},
    {"weka", "output_tokens", "lognormal:200:1000"},
    {"weka", "think", "lognormal:10:166"},
    {"chat", "turns", "lognormal:4:10"},
    {"chat", "input_tokens", "lognormal:40:160"},
    {"chat", "output_tokens", "lognormal:150:400"},
    {"chat", "think", "lognormal:15:60"},
    {"chat", "prefix_tokens", "200"},
};

cn_code cn_attempt_apply_preset(cn_settings *settings, cn_err *err)
{
    bool found = false;
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(settings->preset, presets[i].name) != 0) continue;
        cn_settings_suggest(settings, presets[i].field, presets[i].value);
        found = true;
    }
    if (found || !settings->preset[0]) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "--preset: %.40s; must be azure-conv, azure-code, weka or "
                      "chat", settings->preset);
}

// The index of `value` among the names.
static cn_code read_choice(const char *flag, const char *value, const char *const *names, int count,
                           int *out, cn_err *err)
{
    for (int i = 0; i < count; i++) {
        *out = i;
        if (strcmp(value, names[i]) == 0) return CN_OK;
    }
    return cn_err_set(err, CN_E_INVALID, "%s: %.40s; must be %s, %s%s%s", flag, value, names[0],
                      names[1], count > 2 ? " or " : "", count > 2 ? names[2] : "");
}

static cn_code read_extra(const char *text, cn_body_options *out, cn_err *err)
{
    cn_delta ignored;
    const size_t len = strlen(text);
    out->extra = "";
    if (len == 0) return CN_OK;
    // An object without members would leave a comma behind.
    if (!cn_delta_parse(text, len, &ignored) || text[0] != '{' || text[len - 1] != '}' ||
        text[1 + strspn(text + 1, " \t\r\n")] == '}') {
        return cn_err_set(err, CN_E_INVALID,
                          "--extra-body: %.60s; must be an object of JSON, as in "
                          "{\"top_k\":1}",
                          text);
    }
    out->extra = text;
    return CN_OK;
}

static cn_code read_body(const cn_settings *s, cn_body_options *out, cn_err *err)
{
    static const char *const apis[] = {"chat", "completions", "responses"};
    static const char *const histories[] = {"resend", "previous", "conversation"};
    static const char *const prompts[] = {"text", "ids"};
    int api, history, prompt;
    cn_code code = cn_client_parse_url(s->url, &out->url, err);
    if (code == CN_OK) code = read_choice("--api", s->api, apis, 3, &api, err);
    if (code == CN_OK) code = read_choice("--history", s->history, histories, 3, &history, err);
    if (code == CN_OK) code = read_choice("--prompt", s->prompt, prompts, 2, &prompt, err);
    if (code == CN_OK) code = read_extra(s->extra_body, out, err);
    if (code != CN_OK) return code;
    out->api = (cn_body_api)api;
    out->history = (cn_body_history_kind)history;
    out->prompt_ids = prompt == 1;
    if (out->history != CN_BODY_RESEND && out->api != CN_BODY_RESPONSES)
        return cn_err_set(err, CN_E_INVALID, "--history: %s; needs --api responses", s->history);
    if (out->prompt_ids && out->api != CN_BODY_COMPLETIONS)
        return cn_err_set(err, CN_E_INVALID, "--prompt: ids; needs --api completions");
    out->stream = s->stream;
    out->ignore_eos = s->ignore_eos;
    out->return_token_ids = s->token_ids;
    out->temperature = s->temperature;
    out->words_per_token = s->words_per_token;
    out->vocab = (uint32_t)s->vocab;
    return CN_OK;
}

static cn_code read_schedule(const cn_settings *s, cn_plan_schedule *out, cn_err *err)
{
    const cn_code code = cn_arrivals_parse(s->arrivals, &out->arrivals.kind, err);
    if (code != CN_OK) return code;
    const bool ramps = out->arrivals.kind >= CN_ARRIVALS_RAMP;
    out->seed = (uint64_t)s->seed;
    out->at_once = s->concurrency > 0 || isinf(s->rate);
    out->arrivals.rate_per_s = s->rate;
    out->arrivals.rate_end_per_s = s->rate_end;
    out->arrivals.shape = s->burstiness;
    out->arrivals.on_s = s->on;
    out->arrivals.off_s = s->off;
    out->duration_ns = s->duration > 0 ? (uint64_t)(s->duration * 1e9) : UINT64_MAX;
    out->count_max = (uint32_t)s->sessions;
    if (out->count_max == 0) {
        const double expected = fmax(s->rate, ramps ? s->rate_end : 0) * s->duration;
        const bool by_time = s->duration > 0 && !out->at_once;
        out->count_max = s->dataset[0] ? CN_PLAN_COUNT_MAX
                         : by_time     ? (uint32_t)fmin(SESSIONS_MAX, 1000 + expected * 2)
                                       : SESSIONS_DEFAULT;
    }
    if (!out->at_once && (s->rate <= 0 || (ramps && s->rate_end <= 0)))
        return cn_err_set(err, CN_E_INVALID, "--rate: %g; must be above 0, and so must --rate-end",
                          s->rate);
    if (ramps && s->duration <= 0)
        return cn_err_set(err, CN_E_INVALID, "--duration: 0; must be above 0 for --arrivals %s",
                          s->arrivals);
    return CN_OK;
}

static cn_code read_shape(const cn_settings *s, cn_plan_shape *out, cn_err *err)
{
    out->seed = (uint64_t)s->seed;
    out->prefix_tokens = (uint32_t)s->prefix_tokens;
    out->prefix_groups = (uint32_t)s->prefix_groups;
    cn_code code = cn_draw_parse(s->input_tokens, "--input-tokens", &out->input_tokens, err);
    if (code == CN_OK)
        code = cn_draw_parse(s->output_tokens, "--output-tokens", &out->output_tokens, err);
    if (code == CN_OK) code = cn_draw_parse(s->turns, "--turns", &out->turns, err);
    return code == CN_OK ? cn_draw_parse(s->think, "--think", &out->think_s, err) : code;
}

cn_code cn_attempt_read(const cn_settings *s, unsigned command, cn_attempt_spec *out, cn_err *err)
{
    memset(out, 0, sizeof *out);
    out->settings = s;
    out->replay = command == CN_SETTINGS_REPLAY;
    if (s->dataset[0] ? !s->format[0] : s->format[0] || out->replay) {
        return cn_err_set(err, CN_E_INVALID,
                          "--dataset: %.60s with --format %.20s; both must be given",
                          s->dataset[0] ? s->dataset : "none", s->format[0] ? s->format : "none");
    }
    cn_code code = read_body(s, &out->body, err);
    if (code == CN_OK) code = read_schedule(s, &out->schedule, err);
    if (code == CN_OK) code = read_shape(s, &out->shape, err);
    if (code == CN_OK) code = cn_draw_parse(s->cancel_after, "--cancel-after",
                                            &out->trouble.cancel_after_s, err);
    if (code == CN_OK) code = cn_draw_parse(s->reconnect_after, "--reconnect-after",
                                            &out->trouble.reconnect_after_s, err);
    if (code == CN_OK && s->reconnect_share > 0 &&
        (out->body.api != CN_BODY_RESPONSES || !s->stream)) {
        code = cn_err_set(err, CN_E_INVALID,
                          "--reconnect-share: %g; needs --api responses and --stream yes",
                          s->reconnect_share);
    }
    if (code == CN_OK && s->slo[0]) code = cn_summary_find_slo(s->slo, &out->slo, err);
    if (code == CN_OK && s->goodput[0]) code = cn_summary_parse_slo(s->goodput, &out->slo, err);
    if (code != CN_OK) return code;
    out->has_slo = s->slo[0] || s->goodput[0];
    out->trouble.seed = (uint64_t)s->seed;
    out->trouble.cancel_share = s->cancel_share;
    out->trouble.slow_share = s->slow_share;
    out->trouble.reconnect_share = s->reconnect_share;
    out->trouble.slow_bytes_per_s = (uint32_t)s->slow_bytes;
    out->concurrency = (uint32_t)s->concurrency;
    out->max_concurrency = (uint32_t)s->max_concurrency;
    out->warmups = (uint32_t)s->warmups;
    out->timeout_ns = (uint64_t)(s->timeout * 1e9);
    out->keep_text = s->detailed;
    return CN_OK;
}

static cn_code read_trace(const cn_attempt_spec *spec, cn_plan *plan, cn_err *err)
{
    const cn_settings *s = spec->settings;
    const cn_trace_options options = {
        .name = s->dataset,
        .format = s->format,
        .keeps_times = spec->replay,
        .speed = spec->replay ? s->speed : 1,
        .gap_ns_max = (uint64_t)(s->gap_max * 1e9),
        .duration_ns = spec->schedule.duration_ns,
        .count_max = spec->replay ? (uint32_t)s->sessions : 0,
    };
    const cn_code code = cn_trace_read(&options, spec->dataset, spec->dataset_len, plan, err);
    if (code != CN_OK || spec->replay) return code;
    return cn_plan_reschedule(plan, &spec->schedule, err);
}

cn_code cn_attempt_plan(const cn_attempt_spec *spec, cn_attempt *out, cn_err *err)
{
    cn_code code;
    memset(out, 0, sizeof *out);
    cn_plan_init(&out->plan);
    if (spec->settings->dataset[0]) {
        code = read_trace(spec, &out->plan, err);
    } else code = cn_plan_synthetic(&out->plan, &spec->schedule, &spec->shape, err);
    if (code == CN_OK) cn_plan_disturb(&out->plan, &spec->trouble);
    return code;
}

static cn_code drive(const cn_attempt_spec *spec, const cn_plan *plan, uint32_t concurrency,
                     const char (*conversations)[80], const cn_attempt_watch *watch,
                     cn_tally *tally, cn_err *err)
{
    const cn_drive_options options = {
        .plan = plan,
        .conversations = conversations,
        .body = spec->body,
        .clock = cn_clock_system(),
        .concurrency = concurrency,
        .max_concurrency = spec->max_concurrency,
        .timeout_ns = spec->timeout_ns,
        .realtime = spec->settings->realtime,
        .keep_text = spec->keep_text,
        .on_progress = watch ? watch->on_progress : NULL,
        .self = watch ? watch->self : NULL,
    };
    return cn_drive_run(&options, tally, err);
}

// Requests of the same kind with other texts, so that no cache is warm that would not have been.
cn_code cn_attempt_warm_up(const cn_attempt_spec *spec, cn_err *err)
{
    cn_attempt_spec warm = *spec;
    cn_plan plan;
    cn_tally tally = {0};
    cn_plan_init(&plan);
    warm.body.history = CN_BODY_RESEND;
    warm.schedule.at_once = true;
    warm.schedule.count_max = spec->warmups;
    warm.shape.seed = cn_words_mix(spec->shape.seed, spec->warmups);
    warm.shape.turns = (cn_draw){CN_DRAW_FIXED, 1, 0};
    warm.shape.prefix_tokens = 0;
    if (spec->warmups == 0) return CN_OK;
    cn_code code = cn_plan_synthetic(&plan, &warm.schedule, &warm.shape, err);
    if (code == CN_OK) code = drive(&warm, &plan, 1, NULL, NULL, &tally, err);
    for (uint32_t i = 0; i < tally.turn_count && code == CN_OK; i++) {
        const cn_tally_turn *t = &tally.turns[i];
        if (t->outcome == CN_OUTCOME_OK) continue;
        code = cn_err_set(err, CN_E_IO, "%s: the first request failed: %s%s%s",
                          spec->body.url.authority, cn_tally_outcome_what(t->outcome),
                          t->error ? ": " : "", t->error ? t->error : "");
    }
    cn_tally_close(&tally);
    cn_plan_close(&plan);
    return code;
}

cn_code cn_attempt_run(const cn_attempt_spec *spec, const char (*conversations)[80],
                       const cn_attempt_watch *watch, cn_attempt *attempt, cn_err *err)
{
    const cn_code code = drive(spec, &attempt->plan, spec->concurrency, conversations, watch,
                               &attempt->tally, err);
    if (code != CN_OK) return code;
    return cn_summary_open(&attempt->plan, &attempt->tally, &spec->slo, &attempt->summary, err);
}

void cn_attempt_close(cn_attempt *attempt)
{
    cn_summary_close(&attempt->summary);
    cn_tally_close(&attempt->tally);
    cn_plan_close(&attempt->plan);
}
