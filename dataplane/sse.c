#include "dataplane/sse.h"

#include <string.h>

#include "dataplane/answer_body.h"
#include "dataplane/api_int.h"
#include "dataplane/error_body.h"

// Up to and with the opening of delta or text.
static void open_frame(cn_answer *answer, const cn_answer_choice *choice, const char *opening)
{
    cn_buf *out = &answer->reply.out;
    cn_buf_add_text(out, "data: ");
    cn_buf_add(out, answer->head, answer->head_len);
    cn_buf_add_text(out, "{\"index\":");
    cn_buf_add_u64(out, choice->index);
    cn_buf_add_text(out, opening);
}

static void add_usage(cn_answer *answer)
{
    cn_buf *out = &answer->reply.out;
    if (answer->params.continuous_usage) {
        cn_buf_add_text(out, ",\"usage\":");
        cn_answer_body_usage(answer, out);
    } else if (answer->params.include_usage) {
        cn_buf_add_text(out, ",\"usage\":null");
    }
}

// From the end of the choice on; `more` are members beside `choices`.
static void close_frame(cn_answer *answer)
{
    cn_buf_add_text(&answer->reply.out, "}]");
    add_usage(answer);
    cn_buf_add_text(&answer->reply.out, "}\n\n");
}

static void add_new_ids(cn_answer *answer, cn_answer_choice *choice)
{
    if (!answer->params.return_token_ids) return;
    cn_buf_add_text(&answer->reply.out, ",\"token_ids\":");
    cn_answer_body_token_ids(choice, choice->framed_count, &answer->reply.out);
    choice->framed_count = choice->token_count;
}

static void add_logprobs(cn_answer *answer, cn_answer_choice *choice, bool with_prompt)
{
    cn_buf_add_text(&answer->reply.out, ",\"logprobs\":");
    if (choice->logprobs.len || (with_prompt && cn_answer_body_wants_logprobs(answer))) {
        cn_answer_body_logprobs(answer, choice, with_prompt, &answer->reply.out);
    } else {
        cn_buf_add_text(&answer->reply.out, "null");
    }
    cn_buf_clear(&choice->logprobs);
}

static void begin_chat(cn_answer *answer, cn_answer_choice *choice)
{
    cn_buf *out = &answer->reply.out;
    open_frame(answer, choice, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
               "\"logprobs\":null,\"finish_reason\":null}]");
    add_usage(answer);
    if (answer->params.return_token_ids) {
        cn_buf_add_text(out, ",\"prompt_token_ids\":");
        cn_answer_body_ids(choice->prompt->input.ids, choice->prompt->input.count, out);
    }
    cn_buf_add_text(out, "}\n\n");
}

static void begin_text(cn_answer *answer, cn_answer_choice *choice)
{
    cn_buf *out = &answer->reply.out;
    const cn_answer_input *input = &choice->prompt->input;
    const bool echo = answer->params.echo;
    if (!echo && !answer->params.return_token_ids) return;
    open_frame(answer, choice, ",\"text\":");
    cn_buf_add_json(out, input->text, echo ? input->text_len : 0);
    add_logprobs(answer, choice, echo);
    cn_buf_add_text(out, ",\"finish_reason\":null");
    if (answer->params.return_token_ids) {
        cn_buf_add_text(out, ",\"prompt_token_ids\":");
        cn_answer_body_ids(input->ids, input->count, out);
    }
    close_frame(answer);
}

void cn_sse_open(cn_reply *reply)
{
    if (reply->state != CN_REPLY_IDLE) return;
    cn_reply_header(reply, "Cache-Control", "no-cache");
    cn_reply_header(reply, "X-Accel-Buffering", "no");   // a proxy must not collect frames
    cn_reply_stream(reply, 200, "text/event-stream");
}

void cn_sse_begin(cn_answer *answer, cn_answer_choice *choice)
{
    if (answer->kind->is_chat) begin_chat(answer, choice);
    else begin_text(answer, choice);
}

void cn_sse_text(cn_answer *answer, cn_answer_choice *choice, const char *text, size_t len)
{
    cn_buf *out = &answer->reply.out;
    const bool has_ids =
        answer->params.return_token_ids && choice->framed_count < choice->token_count;
    if (!len && !choice->logprobs.len && !has_ids) return;
    open_frame(answer, choice, answer->kind->is_chat ? ",\"delta\":{\"content\":" : ",\"text\":");
    cn_buf_add_json(out, text, len);
    if (answer->kind->is_chat) cn_buf_add_char(out, '}');
    add_logprobs(answer, choice, false);
    cn_buf_add_text(out, ",\"finish_reason\":null");
    add_new_ids(answer, choice);
    close_frame(answer);
}

void cn_sse_finish(cn_answer *answer, cn_answer_choice *choice)
{
    open_frame(answer, choice, answer->kind->is_chat
               ? ",\"delta\":{},\"logprobs\":null,\"finish_reason\":"
               : ",\"text\":\"\",\"logprobs\":null,\"finish_reason\":");
    cn_answer_body_finish(answer, choice, &answer->reply.out);
    close_frame(answer);
}

void cn_sse_done(cn_answer *answer)
{
    cn_buf *out = &answer->reply.out;
    if (answer->params.include_usage) {
        cn_buf_add_text(out, "data: ");
        cn_buf_add(out, answer->head, answer->head_len);
        cn_buf_add_text(out, "],\"usage\":");
        cn_answer_body_usage(answer, out);
        cn_buf_add_text(out, "}\n\n");
    }
    cn_buf_add_text(out, "data: [DONE]\n\n");
}

void cn_sse_error(cn_answer *answer, const cn_err *err)
{
    cn_buf *out = &answer->reply.out;
    cn_buf_add_text(out, "data: ");
    cn_error_body_write(err, answer->error_prompt_tokens, answer->api->engine.context_tokens_max,
                        out);
    cn_buf_add_text(out, "\n\ndata: [DONE]\n\n");
}
