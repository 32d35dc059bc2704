#include "dataplane/answer_body.h"

#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/logprobs.h"

enum { HEAD_BYTES_MAX = 4096 };

bool cn_answer_body_head(cn_answer *answer)
{
    const struct cn_api *api = answer->api;
    const char *model = api->options.model_name;
    cn_buf head;
    cn_buf_init(&head, HEAD_BYTES_MAX + 6 * strlen(model));
    cn_buf_add_text(&head, answer->kind->is_chat ? "{\"id\":\"chatcmpl-" : "{\"id\":\"cmpl-");
    cn_buf_add_text(&head, answer->request_id);
    cn_buf_add_text(&head, !answer->kind->is_chat        ? "\",\"object\":\"text_completion"
                           : answer->params.stream ? "\",\"object\":\"chat.completion.chunk"
                                                   : "\",\"object\":\"chat.completion");
    cn_buf_add_text(&head, "\",\"created\":");
    cn_buf_add_u64(&head, cn_clock_wall_ns(&api->options.clock) / 1000000000u);
    cn_buf_add_text(&head, ",\"model\":");
    cn_buf_add_json(&head, model, strlen(model));
    cn_buf_add_text(&head, ",\"system_fingerprint\":\"cairn-" CN_VERSION "\",\"choices\":[");
    answer->head =
        head.overflowed ? NULL : cn_arena_copy(&answer->request->arena, head.data, head.len);
    answer->head_len = (uint32_t)head.len;
    cn_buf_close(&head);
    return answer->head != NULL;
}

void cn_answer_body_usage(const cn_answer *answer, cn_buf *out)
{
    uint64_t cached = 0;
    for (uint32_t i = 0; i < answer->prompt_count; i++) cached += answer->prompts[i].cached_tokens;
    cn_buf_add_text(out, "{\"prompt_tokens\":");
    cn_buf_add_u64(out, answer->prompt_tokens);
    cn_buf_add_text(out, ",\"completion_tokens\":");
    cn_buf_add_u64(out, answer->completion_tokens);
    cn_buf_add_text(out, ",\"total_tokens\":");
    cn_buf_add_u64(out, answer->prompt_tokens + answer->completion_tokens);
    cn_buf_add_text(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    cn_buf_add_u64(out, cached);
    cn_buf_add_char(out, '}');
    cn_answer_body_phases(answer, out);
    cn_buf_add_char(out, '}');
}

void cn_answer_body_phases(const cn_answer *answer, cn_buf *out)
{
    uint64_t phase_ns[CN_TRACING_PHASE_COUNT];
    if (!answer->tells_phases) return;
    cn_tracing_phases(&answer->marks, cn_clock_now_ns(&answer->api->options.clock), phase_ns);
    cn_buf_add_text(out, ",\"phases_ms\":");
    cn_tracing_phases_write(phase_ns, out);
}

void cn_answer_body_ids(const int32_t *ids, uint32_t count, cn_buf *out)
{
    cn_buf_add_char(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, (uint64_t)ids[i]);
    }
    cn_buf_add_char(out, ']');
}

void cn_answer_body_token_ids(const cn_answer_choice *choice, uint32_t first, cn_buf *out)
{
    const cn_generation *g = &choice->prompt->generation;
    const int32_t *ids = g->output + (size_t)choice->number * g->tokens_max;
    cn_answer_body_ids(ids + first, choice->token_count - first, out);
}

void cn_answer_body_finish(const cn_answer *answer, const cn_answer_choice *choice, cn_buf *out)
{
    cn_buf_add_text(out, choice->end == CN_ANSWER_LENGTH ? "\"length\"" : "\"stop\"");
    cn_buf_add_text(out, ",\"stop_reason\":");
    if (choice->stop_string >= 0) {
        const cn_stop_string *s = &answer->stops.strings[choice->stop_string];
        cn_buf_add_json(out, s->text, s->len);
    } else if (choice->stop_token >= 0) {
        cn_buf_add_u64(out, (uint64_t)choice->stop_token);
    } else {
        cn_buf_add_text(out, "null");
    }
}

bool cn_answer_body_wants_logprobs(const cn_answer *answer)
{
    return answer->kind->is_chat ? answer->params.chat_logprobs : answer->params.text_logprobs >= 0;
}

void cn_answer_body_logprobs(const cn_answer *answer, const cn_answer_choice *choice,
                             bool with_prompt, cn_buf *out)
{
    static const cn_buf none = {.data = NULL};
    const cn_logprobs_style style = {answer->api->options.tokenizer, answer->params.tokens_as_ids};
    if (!cn_answer_body_wants_logprobs(answer)) {
        cn_buf_add_text(out, "null");
    } else if (answer->kind->is_chat) {
        cn_logprobs_write_chat(&choice->logprobs, &style, out);
    } else {
        cn_logprobs_write_completion(with_prompt ? &choice->prompt->logprobs : &none,
                                     &choice->logprobs, &style, out);
    }
}

// A completion's text as a JSON string, after its prompt where echoed.
static void write_text(const cn_answer *answer, const cn_answer_choice *choice, cn_buf *out)
{
    const cn_answer_input *input = &choice->prompt->input;
    if (!answer->params.echo) {
        cn_buf_add_json(out, choice->text.data, choice->text.len);
        return;
    }
    // Two JSON strings become one: the quotes between them are taken back.
    cn_buf_add_json(out, input->text, input->text_len);
    if (!choice->text.len || out->overflowed) return;
    out->len--;
    const size_t seam = out->len;
    cn_buf_add_json(out, choice->text.data, choice->text.len);
    if (out->overflowed) return;
    memmove(out->data + seam, out->data + seam + 1, out->len - seam - 1);
    out->len--;
}

static void write_choice(const cn_answer *answer, const cn_answer_choice *choice, cn_buf *out)
{
    cn_buf_add_text(out, "{\"index\":");
    cn_buf_add_u64(out, choice->index);
    if (answer->kind->is_chat) {
        cn_buf_add_text(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
        cn_buf_add_json(out, choice->text.data, choice->text.len);
        cn_buf_add_text(out, ",\"refusal\":null}");
    } else {
        cn_buf_add_text(out, ",\"text\":");
        write_text(answer, choice, out);
    }
    cn_buf_add_text(out, ",\"logprobs\":");
    cn_answer_body_logprobs(answer, choice, answer->params.echo, out);
    cn_buf_add_text(out, ",\"finish_reason\":");
    cn_answer_body_finish(answer, choice, out);
    if (answer->params.return_token_ids) {
        if (!answer->kind->is_chat) {
            cn_buf_add_text(out, ",\"prompt_token_ids\":");
            cn_answer_body_ids(choice->prompt->input.ids, choice->prompt->input.count, out);
        }
        cn_buf_add_text(out, ",\"token_ids\":");
        cn_answer_body_token_ids(choice, 0, out);
    }
    cn_buf_add_char(out, '}');
}

void cn_answer_body_write(const cn_answer *answer, cn_buf *out)
{
    cn_buf_add(out, answer->head, answer->head_len);
    for (uint32_t i = 0; i < answer->choice_count; i++) {
        if (i) cn_buf_add_char(out, ',');
        write_choice(answer, &answer->choices[i], out);
    }
    cn_buf_add_text(out, "],\"usage\":");
    cn_answer_body_usage(answer, out);
    if (answer->kind->is_chat && answer->params.return_token_ids) {
        cn_buf_add_text(out, ",\"prompt_token_ids\":");
        cn_answer_body_ids(answer->prompts[0].input.ids, answer->prompts[0].input.count, out);
    }
    cn_buf_add_char(out, '}');
}
