#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/answer_body.h"
#include "dataplane/api_int.h"
#include "dataplane/items.h"
#include "dataplane/responses.h"

/* The end of a turn: what its response says then, and the record that is kept of it. */

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_LIMIT, "the answer is larger than limit request_bytes allows");
}

// What is in `buf` as a text of the arena; the buffer is freed.
static cn_code keep(cn_arena *arena, cn_buf *buf, cn_bytes *out, cn_err *err)
{
    char *text = buf->overflowed ? NULL : cn_arena_copy(arena, buf->len ? buf->data : "", buf->len);
    *out = (cn_bytes){text, (uint32_t)buf->len};
    cn_buf_close(buf);
    return text ? CN_OK : no_memory(err);
}

static cn_buf open_buf(const cn_answer *answer)
{
    cn_buf buf;
    cn_buf_init(&buf, (size_t)answer->api->options.limits->request_bytes);
    return buf;
}

cn_code cn_responses_commit_close(cn_answer *answer, cn_response_status status,
                                  const cn_err *failure, cn_err *err)
{
    const uint64_t now_s = cn_clock_wall_ns(&answer->api->options.clock) / 1000000000u;
    cn_response_view *view = &answer->turn->view;
    cn_buf phases = open_buf(answer), tail = open_buf(answer);
    cn_answer_body_phases(answer, &phases);
    const cn_response_usage usage = {
        .input_tokens = answer->prompt_tokens,
        .cached_tokens = answer->prompts[0].cached_tokens,
        .output_tokens = answer->completion_tokens,
        .more = {phases.data, (uint32_t)phases.len},
    };
    view->status = status;
    cn_response_view_tail(status, failure, now_s, &usage, &tail);
    cn_buf_close(&phases);
    return keep(&answer->request->arena, &tail, &view->tail, err);
}

// ---- settings

static void add_real(const char *name, double value, cn_buf *out)
{
    cn_buf_add_format(out, ",\"%s\":", name);
    cn_buf_add_float(out, (float)value);
}

static void add_stops(const cn_params_stop *stop, cn_buf *out)
{
    cn_buf_add_text(out, ",\"stop\":[");
    for (uint32_t i = 0; i < stop->count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_json(out, stop->texts[i], stop->lens[i]);
    }
    cn_buf_add_char(out, ']');
}

static void add_ids(const int32_t *ids, uint32_t count, cn_buf *out)
{
    cn_buf_add_text(out, ",\"end_tokens\":[");
    for (uint32_t i = 0; i < count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, (uint64_t)ids[i]);
    }
    cn_buf_add_char(out, ']');
}

static void add_bias(const cn_sampling *sampling, cn_buf *out)
{
    cn_buf_add_text(out, ",\"logit_bias\":{");
    for (uint32_t i = 0; i < sampling->bias_count; i++) {
        cn_buf_add_format(out, "%s\"%" PRId32 "\":", i ? "," : "", sampling->bias_ids[i]);
        cn_buf_add_float(out, sampling->bias_values[i]);
    }
    cn_buf_add_char(out, '}');
}

/* Everything that the tokens depend on beside the prompt; the seed as text, since JSON's numbers do
 * not hold 64 bits everywhere. */
static void write_settings(const cn_answer *answer, cn_buf *out)
{
    const cn_generation *g = &answer->prompts[0].generation;
    const cn_sampling *s = &g->sampling;
    cn_buf_add_text(out, answer->api->vocabulary_tag);
    cn_buf_add_text(out, ",\"model\":");
    cn_buf_add_json(out, answer->api->options.model_name, strlen(answer->api->options.model_name));
    add_real("temperature", s->temperature, out);
    add_real("top_p", s->top_p, out);
    add_real("min_p", s->min_p, out);
    cn_buf_add_format(out, ",\"top_k\":%" PRIu32, s->top_k);
    add_real("repetition_penalty", s->repetition_penalty, out);
    add_real("presence_penalty", s->presence_penalty, out);
    add_real("frequency_penalty", s->frequency_penalty, out);
    cn_buf_add_format(out, ",\"seed\":\"%" PRIu64 "\",\"tokens_max\":%" PRIu32
                      ",\"tokens_min\":%" PRIu32, s->seed, g->tokens_max, g->tokens_min);
    add_stops(&answer->params.stop, out);
    add_ids(g->stop_ids, g->stop_count, out);
    add_bias(s, out);
    cn_buf_add_char(out, ',');
    cn_response_view_settings(&answer->turn->view, out);
    cn_buf_add_char(out, '}');
}

// ---- the record

static cn_code fill_response(cn_answer *answer, cn_turn *record, cn_err *err)
{
    const cn_response_view *view = &answer->turn->view;
    cn_buf buf = open_buf(answer);
    cn_buf_add(&buf, view->head.data, view->head.len);
    cn_buf_add(&buf, view->tail.data, view->tail.len);
    cn_buf_add_char(&buf, '}');
    return keep(&answer->request->arena, &buf, &record->response, err);
}

static cn_code fill_output(cn_answer *answer, cn_turn *record, cn_err *err)
{
    cn_arena *arena = &answer->request->arena;
    if (!answer->turn->view.started) return CN_OK;
    record->output = cn_arena_take_array(arena, 1, sizeof *record->output);
    if (!record->output) return no_memory(err);
    cn_buf buf = open_buf(answer);
    cn_response_view_item(&answer->turn->view, &buf);
    record->output_count = 1;
    return keep(arena, &buf, &record->output[0], err);
}

// Text and tokens of this turn: what is new of the prompt, and what was sampled.
static cn_code fill_text(cn_answer *answer, cn_turn *record, cn_err *err)
{
    const cn_history_prompt *prompt = &answer->turn->prompt;
    const cn_answer_choice *choice = &answer->choices[0];
    const int32_t *sampled = answer->prompts[0].generation.output;
    const uint32_t own_count = prompt->count - prompt->taken_count;
    const size_t count = (size_t)own_count + choice->token_count;
    int32_t *tokens = cn_arena_take_array(&answer->request->arena, count + 1, sizeof *tokens);
    if (!tokens) return no_memory(err);
    memcpy(tokens, prompt->ids + prompt->taken_count, own_count * sizeof *tokens);
    memcpy(tokens + own_count, sampled, choice->token_count * sizeof *tokens);
    record->tokens = tokens;
    record->token_count = (uint32_t)count;
    record->output_token_count = choice->token_count;
    record->resets_text = prompt->resets_text;
    record->seam = prompt->seam;
    cn_buf text = open_buf(answer);
    cn_buf_add(&text, prompt->text, prompt->text_len);
    cn_history_decode(answer, sampled, choice->token_count, &text);
    if (record->seam.messages) record->seam.bytes += (uint32_t)(text.len - prompt->text_len);
    return keep(&answer->request->arena, &text, &record->text, err);
}

static bool joins_conversation(const cn_responses_turn *turn)
{
    return *turn->conversation.text && (turn->view.status == CN_RESPONSE_COMPLETED ||
                                        turn->view.status == CN_RESPONSE_INCOMPLETE);
}

cn_code cn_responses_commit_fill(cn_answer *answer, cn_session_call *call, cn_err *err)
{
    const cn_responses_turn *turn = answer->turn;
    const bool joins = joins_conversation(turn);
    cn_turn *record = &call->turn;
    *record = (cn_turn){
        .id = turn->id,
        .parent = *turn->conversation.text ? turn->head.head : turn->parent,
        .conversation = joins ? turn->conversation : (cn_session_id){""},
        .created_s = turn->created_s,
        .completed_s = cn_clock_wall_ns(&answer->api->options.clock) / 1000000000u,
        .input = turn->input,
        .input_count = turn->input_count,
    };
    memcpy(record->request_digest, turn->digest, sizeof record->request_digest);
    cn_code code = fill_response(answer, record, err);
    if (code == CN_OK) code = fill_output(answer, record, err);
    if (code == CN_OK) code = fill_text(answer, record, err);
    if (code != CN_OK) return code;
    cn_buf settings = open_buf(answer);
    write_settings(answer, &settings);
    code = keep(&answer->request->arena, &settings, &record->settings, err);
    call->id = turn->id;
    call->conversation = joins ? turn->head : (cn_conversation){.id = {""}};
    call->chain = turn->chain;
    call->chain_count = turn->chain_count;
    return code;
}
