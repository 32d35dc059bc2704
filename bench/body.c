#include "bench/body.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/words.h"

enum { BODY_BYTES_MAX = 64 << 20 };

void cn_body_history_init(cn_body_history *history)
{
    memset(history, 0, sizeof *history);
    cn_buf_init(&history->so_far, BODY_BYTES_MAX);
}

void cn_body_history_close(cn_body_history *history) { cn_buf_close(&history->so_far); }

static uint32_t words_of(const cn_body_options *o, uint32_t tokens)
{
    return (uint32_t)fmax(1, round(tokens * o->words_per_token));
}

// What the prefix says, without escapes, or as ids.
static void add_prefix(const cn_body_options *o, const cn_plan_session *session, cn_buf *out)
{
    if (session->system) cn_buf_add(out, session->system, session->system_len);
    else if (session->prefix_tokens == 0) return;
    else if (o->prompt_ids) {
        cn_words_write_ids(session->prefix_seed, session->prefix_tokens, o->vocab, out);
    } else cn_words_write(session->prefix_seed, words_of(o, session->prefix_tokens), out);
}

static void add_made(const cn_body_options *o, uint64_t seed, uint32_t tokens, cn_buf *out)
{
    if (tokens == 0) return;
    if (o->prompt_ids) cn_words_write_ids(seed, tokens, o->vocab, out);
    else cn_words_write(seed, words_of(o, tokens), out);
}

// What the user says in this turn.
static void add_message(const cn_body_options *o, const cn_plan_turn *turn, cn_buf *out)
{
    if (turn->text) {
        cn_buf_add(out, turn->text, turn->text_len);
        return;
    }
    if (turn->block_count == 0) add_made(o, turn->seed, turn->input_tokens, out);
    uint32_t left = turn->input_tokens;
    for (uint32_t i = 0; i < turn->block_count && left > 0; i++) {
        const uint32_t tokens = left < turn->block_tokens ? left : turn->block_tokens;
        add_made(o, turn->blocks[i], tokens, out);
        left -= tokens;
    }
}

// {"role":...,"content":...} with a comma before it where it is not the first.
static void add_item(const char *role, const cn_buf *text, cn_buf *out)
{
    // Made text begins with a space, which is no part of what is said.
    const size_t skip = text->len > 0 && text->data[0] == ' ';
    if (out->len > 0 && out->data[out->len - 1] == '}') cn_buf_add_char(out, ',');
    cn_buf_add_format(out, "{\"role\":\"%s\",\"content\":", role);
    cn_buf_add_json(out, text->data + skip, text->len - skip);
    cn_buf_add_char(out, '}');
}

// The turn's own part of the history: prefix where it is the first, and what the user says.
static void add_turn(const cn_body_options *o, const cn_plan *plan, uint32_t session, uint32_t turn,
                     cn_buf *out)
{
    const cn_plan_session *s = &plan->sessions[session];
    const cn_plan_turn *t = &plan->turns[s->turn_first + turn];
    const bool is_first = turn == 0;
    cn_buf text;
    if (o->api == CN_BODY_COMPLETIONS) {
        if (is_first) add_prefix(o, s, out);
        add_message(o, t, out);
        return;
    }
    cn_buf_init(&text, BODY_BYTES_MAX);
    if (is_first) add_prefix(o, s, &text);
    if (text.len > 0) add_item("system", &text, out);
    cn_buf_clear(&text);
    add_message(o, t, &text);
    add_item("user", &text, out);
    cn_buf_close(&text);
}

static void add_input(const cn_body_options *o, const cn_plan *plan, uint32_t session,
                      uint32_t turn, const cn_body_history *history, cn_buf *json)
{
    const bool resend = o->history == CN_BODY_RESEND;
    if (o->api != CN_BODY_COMPLETIONS) {
        cn_buf_add_text(json, o->api == CN_BODY_CHAT ? ",\"messages\":[" : ",\"input\":[");
        if (resend) cn_buf_add(json, history->so_far.data, history->so_far.len);
        add_turn(o, plan, session, turn, json);
        cn_buf_add_char(json, ']');
        return;
    }
    cn_buf prompt;
    cn_buf_init(&prompt, BODY_BYTES_MAX);
    cn_buf_add(&prompt, history->so_far.data, history->so_far.len);
    add_turn(o, plan, session, turn, &prompt);
    const size_t skip = prompt.len > 0 && (prompt.data[0] == ' ' || prompt.data[0] == ',');
    cn_buf_add_text(json, ",\"prompt\":");
    if (o->prompt_ids) {
        cn_buf_add_char(json, '[');
        cn_buf_add(json, prompt.data + skip, prompt.len - skip);
        cn_buf_add_char(json, ']');
    } else cn_buf_add_json(json, prompt.data + skip, prompt.len - skip);
    cn_buf_close(&prompt);
}

static const char *path_of(cn_body_api api)
{
    switch (api) {
    case CN_BODY_CHAT: return "/v1/chat/completions";
    case CN_BODY_COMPLETIONS: return "/v1/completions";
    default: return "/v1/responses";
    }
}

void cn_body_write_request(const cn_body_options *o, const char *path, const cn_buf *json,
                           cn_buf *out)
{
    cn_buf_clear(out);
    cn_buf_add_format(out,
                      "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: cairn-bench/" CN_VERSION "\r\n",
                      json ? "POST" : "GET", o->url.prefix, path, o->url.authority);
    if (o->api_key) cn_buf_add_format(out, "Authorization: Bearer %s\r\n", o->api_key);
    if (json) {
        cn_buf_add_format(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                          json->len);
    }
    cn_buf_add_text(out, "\r\n");
    if (json) cn_buf_add(out, json->data, json->len);
}

void cn_body_write(const cn_body_options *o, const cn_plan *plan, uint32_t session, uint32_t turn,
                   const cn_body_history *history, cn_buf *out)
{
    const cn_plan_turn *t = &plan->turns[plan->sessions[session].turn_first + turn];
    const bool responses = o->api == CN_BODY_RESPONSES;
    cn_buf json;
    cn_buf_init(&json, BODY_BYTES_MAX);
    cn_buf_add_text(&json, "{\"model\":");
    cn_buf_add_json(&json, o->model, strlen(o->model));
    add_input(o, plan, session, turn, history, &json);
    cn_buf_add_format(&json, ",\"%s\":%u,\"temperature\":%g,\"stream\":%s",
                      responses ? "max_output_tokens" : "max_tokens", t->output_tokens,
                      o->temperature, o->stream ? "true" : "false");
    if (responses) {
        // A stream that is to outlive its connection has to run in the background.
        const bool resumes = t->reconnect_after_ns > 0;
        const bool stores = resumes || o->history != CN_BODY_RESEND;
        cn_buf_add_format(&json, ",\"store\":%s", stores ? "true" : "false");
        if (resumes) cn_buf_add_text(&json, ",\"background\":true");
        if (o->history == CN_BODY_PREVIOUS && history->previous[0])
            cn_buf_add_format(&json, ",\"previous_response_id\":\"%s\"", history->previous);
        if (o->history == CN_BODY_CONVERSATION)
            cn_buf_add_format(&json, ",\"conversation\":\"%s\"", history->conversation);
    } else if (o->stream) cn_buf_add_text(&json, ",\"stream_options\":{\"include_usage\":true}");
    if (o->ignore_eos) cn_buf_add_text(&json, ",\"ignore_eos\":true");
    if (o->return_token_ids) cn_buf_add_text(&json, ",\"return_token_ids\":true");
    if (o->extra[0]) {           // without its braces
        cn_buf_add_char(&json, ',');
        cn_buf_add(&json, o->extra + 1, strlen(o->extra) - 2);
    }
    cn_buf_add_char(&json, '}');
    cn_body_write_request(o, path_of(o->api), &json, out);
    cn_buf_close(&json);
}

void cn_body_write_resume(const cn_body_options *o, const char *id, int64_t sequence, cn_buf *out)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%.79s?stream=true&starting_after=%lld", path_of(o->api), id,
             (long long)sequence);
    cn_body_write_request(o, path, NULL, out);
}

void cn_body_answered(const cn_body_options *o, const cn_plan *plan, uint32_t session,
                      uint32_t turn, const char *text, const char *id, cn_body_history *history)
{
    const cn_plan_turn *t = &plan->turns[plan->sessions[session].turn_first + turn];
    memcpy(history->previous, id, strlen(id) < sizeof history->previous ? strlen(id) + 1 : 0);
    if (o->history != CN_BODY_RESEND || o->prompt_ids) {
        if (o->history == CN_BODY_RESEND) add_turn(o, plan, session, turn, &history->so_far);
        return;
    }
    const char *said = t->answer ? t->answer : text ? text : "";
    const size_t said_len = t->answer ? t->answer_len : strlen(said);
    add_turn(o, plan, session, turn, &history->so_far);
    if (o->api == CN_BODY_COMPLETIONS) cn_buf_add(&history->so_far, said, said_len);
    else {
        const cn_buf answer = {.data = (char *)said, .len = said_len};
        add_item("assistant", &answer, &history->so_far);
    }
}
