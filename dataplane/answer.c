#include "dataplane/answer.h"

#include <inttypes.h>
#include <string.h>

#include "dataplane/answer_body.h"
#include "dataplane/api_int.h"
#include "dataplane/error_body.h"
#include "dataplane/logprobs.h"

/* How it works. A choice runs until the engine says that it has finished, or a stop string is
 * found. In the second case the engine is asked to end it, and whatever it still says of it is
 * dropped; the reply does not wait for that. So reply and generations end independently, and the
 * answer when both have.
 *
 *   token ──detokenizer──▶ whole characters ──stop strings──▶ certain text ──▶ frame or body
 *
 * Logprobs belong to the token, not to its text: in a stream they leave with the frame after it,
 * even if its text is held back because it may be the beginning of a stop string. */

enum { NO_STOP = CN_STOP_STRING_NONE };

// ---- submitting

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_LIMIT,
                      "the request needs more working memory than limit request_bytes allows");
}

static bool make_end_ids(cn_answer *a)
{
    const cn_generation_defaults *d = cn_checkpoint_generation(a->api->options.checkpoint);
    const uint32_t eos_count = a->params.ignore_eos ? 0 : d->eos_count;
    int32_t *ids = cn_arena_take_array(&a->request->arena, eos_count + a->params.stop_id_count + 1u,
                                       sizeof *ids);
    if (!ids) return false;
    memcpy(ids, d->eos_tokens, eos_count * sizeof *ids);
    if (a->params.stop_id_count) {
        memcpy(ids + eos_count, a->params.stop_ids, a->params.stop_id_count * sizeof *ids);
    }
    a->end_ids = ids;
    a->end_id_count = eos_count + a->params.stop_id_count;
    return true;
}

static cn_sampling sampling_of(const cn_answer *a)
{
    const cn_params *p = &a->params;
    const int64_t top = a->kind->is_chat ? p->top_logprobs : p->text_logprobs;
    return (cn_sampling){
        .temperature = (float)p->temperature,
        .top_p = (float)p->top_p,
        .min_p = (float)p->min_p,
        .top_k = p->top_k > 0 ? (uint32_t)p->top_k : 0,
        .repetition_penalty = (float)p->repetition_penalty,
        .presence_penalty = (float)p->presence_penalty,
        .frequency_penalty = (float)p->frequency_penalty,
        .seed = p->seed_given ? (uint64_t)p->seed : cn_random_u64(&a->api->options.random),
        .logprob_count =
            cn_answer_body_wants_logprobs(a) ? (top > 0 ? (uint32_t)top : 0) + 1 : 0,
        .bias_count = p->bias_count,
        .bias_ids = p->bias_ids,
        .bias_values = p->bias_values,
    };
}

/* How many tokens an answer may have: what was asked for, which must fit; otherwise a completion
 * has 16, as at OpenAI, and a chat what the context window holds. */
static cn_code tokens_max_of(cn_answer *a, uint32_t prompt_count, uint32_t *out, cn_err *err)
{
    const uint64_t window = a->api->engine.context_tokens_max;
    const uint64_t limit = a->api->options.limits->turn_tokens;
    const int64_t asked = a->params.max_tokens;
    const uint64_t room = window > prompt_count ? window - prompt_count : 0;
    if (asked >= 0 ? (uint64_t)asked > room || prompt_count > window : room == 0) {
        return cn_generate_context_error(a, prompt_count, asked, err);
    }
    uint64_t tokens = asked >= 0 ? (uint64_t)asked : a->kind->is_chat ? room : room < 16 ? room : 16;
    *out = (uint32_t)(tokens < limit ? tokens : limit);
    return CN_OK;
}

static cn_code fill_prompt(cn_answer *a, const cn_answer_input *input, const uint8_t *salt,
                           cn_answer_prompt *p, cn_err *err)
{
    uint32_t tokens_max = 0;
    const cn_code code = tokens_max_of(a, input->count, &tokens_max, err);
    if (code != CN_OK) return code;
    const uint32_t n = (uint32_t)a->params.n;
    p->answer = a;
    p->input = *input;
    p->generation = (cn_generation){
        .prompt = input->ids,
        .prompt_count = input->count,
        .sampling = sampling_of(a),
        .choice_count = n,
        .tokens_max = tokens_max,
        .tokens_min =
            a->params.min_tokens < tokens_max ? (uint32_t)a->params.min_tokens : tokens_max,
        .stop_ids = a->end_ids,
        .stop_count = a->end_id_count,
        .prompt_logprobs = a->params.echo && cn_answer_body_wants_logprobs(a),
        .output = cn_arena_take(&a->request->arena, ((size_t)n * tokens_max + 1) * sizeof(int32_t)),
        .user = p,
        .tenant = a->claim.accounts[0]->index,
        .weight = (uint32_t)a->claim.accounts[0]->limits.weight,
    };
    memcpy(p->generation.salt, salt, CN_KEY_BYTES);
    cn_buf_init(&p->logprobs, (size_t)a->api->options.limits->request_bytes);
    cn_detokenizer_init(&p->detokenizer, a->api->options.tokenizer, false);
    a->prompt_tokens += input->count;
    return p->generation.output ? CN_OK : no_memory(err);
}

static cn_code fill_choice(cn_answer *a, uint32_t index, cn_err *err)
{
    const uint32_t n = (uint32_t)a->params.n;
    const size_t bytes_max = (size_t)a->api->options.limits->request_bytes;
    cn_answer_choice *c = &a->choices[index];
    *c = (cn_answer_choice){
        .prompt = &a->prompts[index / n],
        .index = index,
        .number = index % n,
        .stop_string = NO_STOP,
        .stop_token = -1,
    };
    cn_detokenizer_init(&c->detokenizer, a->api->options.tokenizer, a->params.skip_special);
    cn_buf_init(&c->text, bytes_max);
    cn_buf_init(&c->logprobs, bytes_max);
    if (cn_stop_string_scan_init(&c->stops, &a->stops, &a->request->arena) != CN_OK) {
        return no_memory(err);
    }
    return CN_OK;
}

static cn_code prepare(cn_answer *a, const cn_answer_input *inputs, uint32_t count,
                       const uint8_t *salt, cn_err *err)
{
    cn_arena *arena = &a->request->arena;
    const cn_params_stop *stop = &a->params.stop;
    const uint32_t choice_count = count * (uint32_t)a->params.n;
    a->prompts = cn_arena_take_array(arena, count, sizeof *a->prompts);
    a->choices = cn_arena_take_array(arena, choice_count, sizeof *a->choices);
    if (!a->prompts || !a->choices || !make_end_ids(a) || !a->kind->head(a) ||
        cn_stop_string_set_init(&a->stops, stop->texts, stop->lens, stop->count, arena) != CN_OK) {
        return no_memory(err);
    }
    for (; a->prompt_count < count; a->prompt_count++) {
        const cn_code code =
            fill_prompt(a, &inputs[a->prompt_count], salt, &a->prompts[a->prompt_count], err);
        if (code != CN_OK) return code;
    }
    for (; a->choice_count < choice_count; a->choice_count++) {
        const cn_code code = fill_choice(a, a->choice_count, err);
        if (code != CN_OK) return code;
    }
    return CN_OK;
}

/* The tokens that the answer may have. Where its client did not say, it may be as long as the window,
 * which nobody means: an estimate is reserved then, and what is used is charged in the end. */
static cn_code reserve(cn_answer *a, cn_err *err)
{
    const uint64_t estimate = a->api->options.limits->unasked_tokens;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < a->prompt_count; i++) {
        const cn_generation *g = &a->prompts[i].generation;
        const bool guess = a->params.max_tokens < 0 && g->tokens_max > estimate;
        tokens += (guess ? estimate : g->tokens_max) * g->choice_count;
    }
    return cn_quota_reserve(&a->claim, a->prompt_tokens, tokens,
                            cn_clock_now_ns(&a->api->options.clock), err);
}

cn_code cn_answer_submit(cn_answer *answer, const cn_answer_input *inputs, uint32_t count,
                         const uint8_t salt[CN_KEY_BYTES], cn_err *err)
{
    cn_engine_port *port = answer->api->options.port;
    if (answer->api->aborted) {
        return cn_err_set(err, CN_E_DRAINING, "the server is shutting down");
    }
    cn_code code = prepare(answer, inputs, count, salt, err);
    if (code != CN_OK) return code;
    code = cn_engine_port_admit(port, answer->choice_count, err);
    if (code == CN_OK) code = reserve(answer, err);
    answer->marks.submitted_ns = cn_clock_now_ns(&answer->api->options.clock);
    for (uint32_t i = 0; i < count && code == CN_OK; i++) {
        code = cn_engine_port_submit(port, &answer->prompts[i].generation, err);
        if (code != CN_OK) break;
        answer->prompts[i].in_engine = true;
        answer->engine_count++;
    }
    if (code == CN_OK) answer->open_count = answer->choice_count;
    else if (answer->engine_count == 0) cn_quota_settle(&answer->claim, 0, 0);
    return code;
}

// ---- cancelling

void cn_answer_cancel(cn_answer *a)
{
    for (uint32_t i = 0; i < a->prompt_count; i++) {
        if (a->prompts[i].in_engine) a->prompts[i].cancel_wanted = true;
    }
    for (uint32_t i = 0; i < a->choice_count; i++) {
        a->choices[i].cancel_wanted = false;
        if (a->choices[i].end == CN_ANSWER_RUNNING) a->choices[i].end = CN_ANSWER_DROPPED;
    }
    a->open_count = 0;
    cn_api_todo(a);
}

bool cn_answer_retry_cancel(cn_answer *answer)
{
    cn_engine_port *port = answer->api->options.port;
    for (uint32_t i = 0; i < answer->prompt_count; i++) {
        cn_answer_prompt *p = &answer->prompts[i];
        if (!p->cancel_wanted) continue;
        if (p->in_engine && !cn_engine_port_cancel(port, &p->generation)) return false;
        p->cancel_wanted = false;
    }
    for (uint32_t i = 0; i < answer->choice_count; i++) {
        cn_answer_choice *c = &answer->choices[i];
        if (!c->cancel_wanted) continue;
        if (c->prompt->in_engine &&
            !cn_engine_port_cancel_choice(port, &c->prompt->generation, c->number)) {
            return false;
        }
        c->cancel_wanted = false;
    }
    return true;
}

void cn_answer_gone(cn_answer *answer)
{
    cn_reply_drop(&answer->reply);
    if (answer->kind->gone && answer->kind->gone(answer)) return;
    cn_answer_cancel(answer);
}

static void add_error_headers(cn_answer *a, cn_code code)
{
    if (cn_err_info(code)->http_status == 503) cn_reply_header(&a->reply, "Retry-After", "1");
    if (cn_err_info(code)->http_status == 429) cn_quota_tell_retry(&a->claim, &a->reply);
    if (code == CN_E_CONFLICT) cn_reply_header(&a->reply, "x-should-retry", "true");
    if (code == CN_E_AUTH) cn_reply_header(&a->reply, "WWW-Authenticate", "Bearer");
}

void cn_answer_refuse(cn_answer *answer, const cn_err *err)
{
    cn_reply *reply = &answer->reply;
    if (reply->state != CN_REPLY_IDLE) return;
    cn_buf_clear(&reply->out);
    add_error_headers(answer, err->code);
    cn_error_body_write(err, answer->error_prompt_tokens, answer->api->engine.context_tokens_max,
                        &reply->out);
    cn_reply_whole(reply, cn_err_info(err->code)->http_status, "application/json");
}

void cn_answer_fail(cn_answer *answer, const cn_err *err)
{
    answer->kind->fail(answer, err);
    cn_answer_cancel(answer);
}

void cn_answer_close(cn_answer *answer)
{
    if (answer->kind->close) answer->kind->close(answer);
    for (uint32_t i = 0; i < answer->prompt_count; i++) cn_buf_close(&answer->prompts[i].logprobs);
    for (uint32_t i = 0; i < answer->choice_count; i++) {
        cn_buf_close(&answer->choices[i].text);
        cn_buf_close(&answer->choices[i].logprobs);
    }
}

// ---- the end of choices and of the answer

bool cn_answer_is_cut(const cn_answer *a)
{
    bool cut = a->reply.out.overflowed || a->api->piece.overflowed || a->api->text.overflowed;
    for (uint32_t i = 0; i < a->choice_count; i++) {
        cut |= a->choices[i].text.overflowed || a->choices[i].logprobs.overflowed ||
               a->choices[i].prompt->logprobs.overflowed;
    }
    return cut;
}

void cn_answer_overflow(cn_answer *a)
{
    cn_err err;
    if (a->reply.complete && !a->detached) return;
    if (a->reply.out.overflowed) {
        cn_buf_clear(&a->reply.out);
        a->reply.sent = 0;
    }
    cn_err_set(&err, CN_E_LIMIT, "the answer is larger than limit request_bytes (%" PRIu64 ")",
               a->api->options.limits->request_bytes);
    cn_answer_fail(a, &err);
}

static void begin(cn_answer *a, cn_answer_choice *c)
{
    if (c->begun) return;
    c->begun = true;
    a->kind->begin(a, c);
}

static void end_choice(cn_answer *a, cn_answer_choice *c, cn_answer_end end)
{
    c->end = end;
    begin(a, c);
    a->kind->end(a, c);
    if (--a->open_count > 0) return;
    a->marks.last_token_ns = cn_clock_now_ns(&a->api->options.clock);
    if (cn_answer_is_cut(a)) cn_answer_overflow(a);
    else a->kind->complete(a);
}

// ---- tokens

static bool is_among(const int32_t *ids, uint32_t count, int32_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

static uint32_t count_chars(const char *text, size_t len)
{
    uint32_t count = 0;
    for (size_t i = 0; i < len; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static void add_logprob(cn_buf *records, const cn_event *event, uint32_t text_offset)
{
    cn_logprobs_add(records, &(cn_logprobs_entry){
        .token = event->token,
        .known = true,
        .logprob = event->logprob,
        .text_offset = text_offset,
        .top = event->top,
        .top_count = event->top_count,
    });
}

/* Runs api->piece through the stop strings into api->text. Before min_tokens no stop string counts,
 * not even the beginning of one. */
static int32_t scan_piece(cn_answer *a, cn_answer_choice *c)
{
    struct cn_api *api = a->api;
    cn_buf_clear(&api->text);
    if (c->token_count <= a->params.min_tokens) {
        cn_buf_add(&api->text, api->piece.data, api->piece.len);
        return NO_STOP;
    }
    return cn_stop_string_push(&c->stops, api->piece.data, api->piece.len, a->params.include_stop,
                               &api->text);
}

static void stop_at_string(cn_answer *a, cn_answer_choice *c, int32_t found)
{
    c->stop_string = found;
    a->kind->text(a, c, &a->api->text);
    end_choice(a, c, CN_ANSWER_STOP);
}

static void take_first_token(cn_answer *a)
{
    const cn_api_options *options = &a->api->options;
    const uint64_t now_ns = cn_clock_now_ns(&options->clock), from_ns = a->marks.received_ns;
    a->marks.first_token_ns = now_ns;
    cn_metrics_observe_request(&options->metrics->first_token_ns,
                               now_ns > from_ns ? now_ns - from_ns : 0,
                               cn_clock_wall_ns(&options->clock), a->request_id, a->trace.id);
}

static void take_token(cn_answer *a, cn_answer_choice *c, const cn_event *event)
{
    struct cn_api *api = a->api;
    const bool ends = is_among(a->end_ids, a->end_id_count, event->token);
    if (!a->marks.first_token_ns) take_first_token(a);
    begin(a, c);
    c->token_count++;
    a->completion_tokens++;
    cn_buf_clear(&api->piece);
    if (!ends || a->params.include_stop) {
        cn_detokenizer_push(&c->detokenizer, event->token, &api->piece);
    }
    if (cn_answer_body_wants_logprobs(a)) {
        const uint32_t echoed = a->params.echo ? c->prompt->text_chars : 0;
        add_logprob(&c->logprobs, event, echoed + c->text_chars);
        c->text_chars += count_chars(api->piece.data, api->piece.len);
    }
    const int32_t found = scan_piece(a, c);
    if (found != NO_STOP) {
        c->cancel_wanted = true;
        stop_at_string(a, c, found);
    } else {
        a->kind->text(a, c, &api->text);
    }
    if (a->reply.out.overflowed) cn_answer_overflow(a);
}

// The engine has ended a choice: what was held back is text after all.
static void finish_choice(cn_answer *a, cn_answer_choice *c, cn_finish finish)
{
    struct cn_api *api = a->api;
    cn_buf_clear(&api->piece);
    cn_detokenizer_finish(&c->detokenizer, &api->piece);
    const int32_t found = scan_piece(a, c);
    if (found != NO_STOP) {
        stop_at_string(a, c, found);
        return;
    }
    cn_stop_string_finish(&c->stops, &api->text);
    if (api->text.len) a->kind->text(a, c, &api->text);
    if (finish == CN_FINISH_STOP) {
        const cn_generation *g = &c->prompt->generation;
        const int32_t last = g->output[(size_t)c->number * g->tokens_max + c->token_count - 1];
        if (is_among(a->params.stop_ids, a->params.stop_id_count, last)) c->stop_token = last;
    }
    end_choice(a, c, finish == CN_FINISH_STOP ? CN_ANSWER_STOP : CN_ANSWER_LENGTH);
}

static void take_finish(cn_answer *a, cn_answer_choice *c, const cn_event *event)
{
    cn_err err;
    switch (event->finish) {
    case CN_FINISH_STOP:
    case CN_FINISH_LENGTH:
        finish_choice(a, c, event->finish);
        return;
    case CN_FINISH_CANCELLED:
        cn_err_set(&err, CN_E_DRAINING, "the server is shutting down and ended this answer");
        break;
    case CN_FINISH_ERROR:
        cn_err_set(&err, event->code, "the answer ended early: %s",
                   cn_err_info(event->code)->meaning);
        break;
    }
    cn_answer_fail(a, &err);
}

// ---- prompts

static void count_prompt_token(cn_answer_prompt *p, int32_t token)
{
    cn_buf *piece = &p->answer->api->piece;
    cn_buf_clear(piece);
    cn_detokenizer_push(&p->detokenizer, token, piece);
    p->text_chars += count_chars(piece->data, piece->len);
}

static void take_start(cn_answer_prompt *p, const cn_event *event)
{
    cn_answer *a = p->answer;
    if (!a->marks.started_ns) {
        a->marks.started_ns = a->marks.submitted_ns + event->wait_ns;
        a->marks.restore_ns = event->restore_ns;
    }
    if (event->choice == 0) {
        p->cached_tokens = event->cached_tokens;
        p->host_tokens = event->host_tokens;
        p->store_tokens = event->store_tokens;
        if (p->generation.prompt_logprobs) {
            cn_logprobs_add(&p->logprobs, &(cn_logprobs_entry){.token = p->input.ids[0]});
            count_prompt_token(p, p->input.ids[0]);
        }
    }
    a->kind->start(a);
}

static void take_prompt_token(cn_answer_prompt *p, const cn_event *event)
{
    add_logprob(&p->logprobs, event, p->text_chars);
    count_prompt_token(p, event->token);
}

void cn_answer_event(const cn_event *event)
{
    cn_answer_prompt *p = event->generation->user;
    cn_answer *a = p->answer;
    cn_answer_choice *c =
        &a->choices[(size_t)(p - a->prompts) * p->generation.choice_count + event->choice];
    const bool runs = c->end == CN_ANSWER_RUNNING && a->open_count > 0;
    if (event->kind == CN_EVENT_FINISHED && event->last) {
        p->in_engine = false;
        a->engine_count--;
    }
    switch (event->kind) {
    case CN_EVENT_STARTED: if (runs) take_start(p, event); break;
    case CN_EVENT_PROMPT: if (runs) take_prompt_token(p, event); break;
    case CN_EVENT_TOKEN: if (runs) take_token(a, c, event); break;
    case CN_EVENT_FINISHED: if (runs) take_finish(a, c, event); break;
    }
    cn_api_todo(a);
}
