#include "dataplane/answer_body.h"
#include "dataplane/api_int.h"
#include "dataplane/sse.h"

/* The kinds that are written here: chat and completions, which differ in their frames and bodies
 * alone, and what is answered in one piece. dataplane/responses.c has its own. */

static void start(cn_answer *answer)
{
    if (answer->params.stream) cn_sse_open(&answer->reply);
}

static void begin(cn_answer *answer, cn_answer_choice *choice)
{
    if (answer->params.stream) cn_sse_begin(answer, choice);
}

static void add_text(cn_answer *answer, cn_answer_choice *choice, const cn_buf *text)
{
    if (answer->params.stream) cn_sse_text(answer, choice, text->data, text->len);
    else cn_buf_add(&choice->text, text->data, text->len);
}

static void end(cn_answer *answer, cn_answer_choice *choice)
{
    if (answer->params.stream) cn_sse_finish(answer, choice);
}

static void fail(cn_answer *answer, const cn_err *err)
{
    cn_reply *reply = &answer->reply;
    if (reply->state == CN_REPLY_IDLE) {
        cn_answer_refuse(answer, err);
    } else if (!reply->complete) {
        cn_sse_error(answer, err);
        cn_reply_end(reply);
    }
}

static void complete(cn_answer *answer)
{
    if (answer->params.stream) {
        cn_sse_done(answer);
        cn_reply_end(&answer->reply);
        return;
    }
    cn_answer_body_write(answer, &answer->reply.out);
    if (cn_answer_is_cut(answer)) cn_answer_overflow(answer);
    else cn_reply_whole(&answer->reply, 200, "application/json");
}

const cn_answer_kind cn_answer_chat = {
    .requests = CN_PARAMS_CHAT, .input = "messages", .is_chat = true, .head = cn_answer_body_head,
    .start = start, .begin = begin, .text = add_text, .end = end, .complete = complete,
    .fail = fail};

const cn_answer_kind cn_answer_text = {
    .requests = CN_PARAMS_TEXT, .input = "prompt", .head = cn_answer_body_head,
    .start = start, .begin = begin, .text = add_text, .end = end, .complete = complete,
    .fail = fail};

const cn_answer_kind cn_answer_plain = {.input = "body", .fail = cn_answer_refuse};
