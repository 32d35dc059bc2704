/* dataplane/sse.h: the frames of a stream (server-sent events, WHATWG HTML 9.2).
 * Each writes one frame to the answer's reply; what is the same in every frame of an answer is made
 * once, so a token costs a copy of about 200 bytes and its own text.
 *
 * Threads: api only.
 * Memory:  none of its own; frames go to the buffer of the answer's reply. */
#pragma once

#include "dataplane/answer.h"

/* Begins the reply as a stream of events, if it has not begun. */
void cn_sse_open(cn_reply *reply);
/* The first frame of a choice, if it has one: the role in chat, the prompt where echoed. */
void cn_sse_begin(cn_answer *answer, cn_answer_choice *choice);
/* Text of a choice, with the logprobs and ids that have come since the last frame; nothing if there
 * is nothing to tell. */
void cn_sse_text(cn_answer *answer, cn_answer_choice *choice, const char *text, size_t len);
/* Why a choice has ended. */
void cn_sse_finish(cn_answer *answer, cn_answer_choice *choice);
/* The usage where asked for, and [DONE]. */
void cn_sse_done(cn_answer *answer);
/* An error in place of what would have followed, and [DONE]. */
void cn_sse_error(cn_answer *answer, const cn_err *err);
