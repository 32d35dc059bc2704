/* dataplane/answer.h: one request on its way to being answered.
 * An answer begins with an HTTP request and lives until its reply has left and the engine has given
 * back every generation: a client that goes away ends the reply at once, the rest within one step.
 * It turns tokens into text, looks for stop strings, and has its kind write what comes of it: chat and
 * completions as frames of a stream (dataplane/sse.h) or one body (dataplane/answer_body.h), responses
 * as events of a turn (dataplane/responses.h).
 *
 * Threads: api only.
 * Memory:  an answer is in the api's pool; what belongs to it is in the request's arena, but for
 *          text and logprobs, which are buffers. A token of a stream allocates nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/auth.h"
#include "dataplane/http.h"
#include "dataplane/params.h"
#include "dataplane/reply.h"
#include "dataplane/stop_string.h"
#include "dataplane/tracing.h"
#include "model/detokenizer.h"
#include "scheduler/engine.h"

typedef struct cn_answer cn_answer;

/* One prompt, as a handler found it. Everything is in the request's arena. */
typedef struct cn_answer_input {
    const int32_t *ids;
    uint32_t count;
    const char *text;            // what `echo` repeats; NULL: the ids decoded
    size_t text_len;
} cn_answer_input;

typedef struct cn_answer_prompt {
    cn_generation generation;    // its user is this struct
    cn_answer *answer;
    cn_answer_input input;
    bool in_engine;
    bool cancel_wanted;          // the engine's ring was full
    uint32_t cached_tokens, host_tokens, store_tokens;
    cn_buf logprobs;             // records of its tokens, where echoed
    cn_detokenizer detokenizer;  // for their places in the text
    uint32_t text_chars;         // code points so far
} cn_answer_prompt;

typedef enum cn_answer_end {
    CN_ANSWER_RUNNING,
    CN_ANSWER_STOP,
    CN_ANSWER_LENGTH,
    CN_ANSWER_DROPPED            // failed, or nobody listens
} cn_answer_end;

typedef struct cn_answer_choice {
    cn_answer_prompt *prompt;
    uint32_t index;              // in the whole answer
    uint32_t number;             // in its generation
    cn_answer_end end;
    int32_t stop_string;         // that ended it, or -1
    int32_t stop_token;          // of stop_token_ids that ended it, or -1
    bool begun;                  // its first frame was written
    bool cancel_wanted;          // as above
    cn_detokenizer detokenizer;
    cn_stop_string_scan stops;
    uint32_t token_count;
    uint32_t framed_count;       // tokens whose ids a frame has told
    uint32_t text_chars;         // code points that its tokens made certain
    cn_buf text;                 // of a body
    cn_buf logprobs;             // records: of a body; of the frame being written
} cn_answer_choice;

/* What differs between the kinds of answer: a table of functions for each. `head` to `complete` are
 * called in this order; `fail` at any time, `close` once. */
typedef struct cn_answer_kind {
    unsigned requests;           // CN_PARAMS_CHAT, ...
    const char *input;           // the member that holds the prompt, for errors
    bool is_chat;                // a prompt of messages: it may use the window, OpenAI's newer logprobs
    bool (*head)(cn_answer *answer);     // prepares what is written; false without memory
    void (*start)(cn_answer *answer);    // a choice has its place in the batch
    void (*begin)(cn_answer *answer, cn_answer_choice *choice);      // before its first token
    void (*text)(cn_answer *answer, cn_answer_choice *choice, const cn_buf *text);   // may be empty
    void (*end)(cn_answer *answer, cn_answer_choice *choice);
    void (*complete)(cn_answer *answer);         // every choice has ended
    void (*fail)(cn_answer *answer, const cn_err *err);      // an error in place of the rest
    bool (*gone)(cn_answer *answer);     // the client has; true: the work goes on. NULL: it does not
    bool (*pump)(cn_answer *answer);     // writes what there is to send; false: some is left. Or NULL
    void (*close)(cn_answer *answer);    // gives back what is not in the arena. NULL: nothing
} cn_answer_kind;

/* Chat and completions: frames (dataplane/sse.h) or one body (dataplane/answer_body.h). */
extern const cn_answer_kind cn_answer_chat, cn_answer_text;
/* Routes that are answered in one piece. */
extern const cn_answer_kind cn_answer_plain;

struct cn_answer {
    struct cn_api *api;
    const cn_answer_kind *kind;
    cn_http_request *request;
    cn_reply reply;
    uint8_t tenant[CN_AUTH_TENANT_BYTES];
    cn_quota_claim claim;        // what it holds of its key's and its tenant's accounts
    bool told_limits;
    char request_id[136];
    const char *session;         // its name for load balancers, until the reply has it; NULL: none
    char route[32];              // for the log: the path of the table, or "-"
    unsigned route_id;           // for the metrics: of the table, or CN_ROUTE_COUNT

    cn_params params;
    cn_stop_string_set stops;
    const int32_t *end_ids;      // tokens that end a choice
    uint32_t end_id_count;
    const char *head;            // `{"id":...,"choices":[`, of every object that is sent
    uint32_t head_len;
    cn_answer_prompt *prompts;
    cn_answer_choice *choices;   // in the order of their indices
    uint32_t prompt_count, choice_count, open_count;
    uint32_t engine_count;       // prompts that the engine has
    uint64_t prompt_tokens, completion_tokens;
    uint64_t error_prompt_tokens;        // of a context error; 0: none
    cn_tracing trace;
    cn_tracing_marks marks;
    bool tells_phases;           // in its usage

    struct cn_ask *ask;          // its call to the session; NULL: none yet (dataplane/ask.h)
    bool detached;               // goes on without its client
    struct cn_responses_turn *turn;      // of a response that is made (dataplane/responses.h)
    struct cn_responses_reader *reader;  // of a response that is read
    void *work;                  // what else its handler keeps, in the arena

    bool in_todo, logged;
    cn_answer *todo_next;
    cn_answer *older, *newer;    // in the api's list of answers that live
};

/* Submits `count` inputs with answer->params. Errors: CN_E_CONTEXT, CN_E_QUEUE, CN_E_LIMIT,
 * CN_E_MEMORY; some prompts may be in the engine then, and fail must follow. */
cn_code cn_answer_submit(cn_answer *answer, const cn_answer_input *inputs, uint32_t count,
                         const uint8_t salt[CN_KEY_BYTES], cn_err *err);

/* Replies with an error as the whole answer, if nothing was sent yet. */
void cn_answer_refuse(cn_answer *answer, const cn_err *err);
/* Ends the work; the engine's last events are dropped. */
void cn_answer_cancel(cn_answer *answer);
/* Whether some text or logprobs did not fit into limit request_bytes. */
bool cn_answer_is_cut(const cn_answer *answer);
/* Fails for that reason: nothing right could follow. */
void cn_answer_overflow(cn_answer *answer);

/* Acts on one event of the engine. */
void cn_answer_event(const cn_event *event);

/* Replies with an error, in the body or in the stream, and ends the work. */
void cn_answer_fail(cn_answer *answer, const cn_err *err);
/* The client has gone. */
void cn_answer_gone(cn_answer *answer);
/* Asks the engine again for the cancels that its ring did not take; false if some are left. */
bool cn_answer_retry_cancel(cn_answer *answer);
/* Frees the buffers; the answer must not be in the engine. */
void cn_answer_close(cn_answer *answer);
