/* dataplane/api_int.h: what the sources of the api share.
 *   api.c            open, close, one round, from messages and events to answers
 *   service.c        routes that are answered at once: models, tokens, health, metrics
 *   chat.c           messages to a prompt; prompt_guard.c keeps them from writing control tokens
 *   completions.c    the forms of `prompt`
 *   generate.c       the two routes that generate
 *   answer.c         tokens to text, stop strings, the end of choices
 *   responses*.c     turns that are stored: made, read again, cancelled
 *   conversations*.c conversations and their items
 *   affinity.c       names of sessions, for load balancers
 *   ask.c            calls to the session, and how an answer goes on after them
 *   sse.c, answer_body.c, logprobs.c, error_body.c   what is written
 *
 * Threads: api only, but for the atomics.
 * Memory:  all allocated in open; buffers grow to what answers need. */
#pragma once

#include <stdatomic.h>

#include "base/map.h"
#include "dataplane/answer.h"
#include "dataplane/api.h"
#include "dataplane/chat.h"
#include "dataplane/history.h"
#include "dataplane/prompt_guard.h"
#include "dataplane/route.h"
#include "dataplane/tenants.h"

struct cn_api {
    cn_api_options options;
    cn_engine_info engine;
    cn_tenants *tenants;
    cn_prompt_guard *guard;
    cn_chat chat;
    uint64_t opened_s;           // wall clock, `created` of the model
    size_t token_bytes_max;      // of the longest token: no prompt has fewer tokens than its share
    cn_buf piece, text;          // of the token at hand
    cn_map *live;                // dataplane/live.h
    bool aborted;                // the drain's time is up: nothing begins any more
    uint32_t background_count;   // turns that go on without a client
    char vocabulary_tag[CN_HISTORY_TAG_BYTES];

    cn_answer *answers;          // the pool
    uint32_t answer_count;
    uint32_t answers_touched;    // those that were ever used
    cn_answer *free;             // of them, by todo_next
    cn_answer *oldest, *newest;  // those that live
    cn_answer *todo;             // those with something to send or to cancel
    cn_answer **by_exchange;     // [exchange index], while its reply goes on
    uint32_t exchange_count;

    atomic_bool retiring, draining, aborting;
    _Atomic(const char *) blocked;       // why /readyz says 503; NULL: nothing is in the way
    _Atomic(const char *) stalled;       // thread that does not go on; NULL: all do
    atomic_uint request_count;
};

/* api.c: has the answer looked at before this round ends. */
void cn_api_todo(cn_answer *answer);
/* api.c: names the request as its client did if the name is harmless in a header, an id and a log;
 * otherwise (and for NULL) at random. Before any other header of the reply. */
void cn_api_name_request(cn_answer *answer, const char *given);

/* generate.c: the generating routes, from body to submitted prompts. */
cn_code cn_generate_chat(cn_answer *answer, const cn_route *route, cn_err *err);
cn_code cn_generate_completion(cn_answer *answer, const cn_route *route, cn_err *err);
/* Reads what every generating route has: model, parameters, request id, cache salt. */
cn_code cn_generate_read(cn_answer *answer, const json_t *body, uint8_t salt[CN_KEY_BYTES],
                         cn_err *err);
/* Fills the context in which parameters of `requests` are read. */
cn_params_context cn_generate_params_context(const cn_answer *answer, unsigned requests);
/* At most so many tokens of a prompt are counted before it is refused. */
uint32_t cn_generate_tokens_max(const struct cn_api *api);
/* Refuses a text that must have more, before it is tokenized. Errors: CN_E_CONTEXT. */
cn_code cn_generate_check_bytes(cn_answer *answer, size_t text_len, cn_err *err);
/* The error for a prompt with `prompt_tokens` tokens. */
cn_code cn_generate_context_error(cn_answer *answer, uint64_t prompt_tokens, int64_t max_tokens,
                                  cn_err *err);

/* completions.c: `prompt` in all its forms, in the request's arena. */
cn_code cn_completions_prompts(cn_answer *answer, const json_t *body, cn_answer_input **out,
                               uint32_t *count, cn_err *err);

/* service.c: the bodies of /readyz and /livez; return the status. [any] */
unsigned cn_service_ready(const struct cn_api *api, cn_buf *out);
unsigned cn_service_live(const struct cn_api *api, cn_buf *out);
/* service.c: every other route; replies. */
cn_code cn_service_answer(cn_answer *answer, const cn_route *route, cn_err *err);
