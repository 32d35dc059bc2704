/* dataplane/ask.h: what an answer asks of the session, one call at a time, and how it goes on then.
 * A call comes back within limit store_ms, or as a failure. The answer goes on in the round that
 * follows, and not at all if its client has gone and nobody else needs it.
 *
 * Threads: api only.
 * Memory:  one call per answer, in the request's arena, used again; results as state/session.h says. */
#pragma once

#include <stdbool.h>

#include "dataplane/answer.h"
#include "state/session.h"

/* Goes on with what the call brought: its err says whether it succeeded. An error that this returns
 * fails the answer. */
typedef cn_code (*cn_ask_then)(cn_answer *answer, const cn_session_call *call, cn_err *err);

typedef struct cn_ask {
    cn_session_call call;
    cn_ask_then then;
    bool is_open;                // the session has it
    bool is_back;                // `then` is to be called
} cn_ask;

/* The answer's call, to be filled in; what it had is still there. NULL: no memory, or this server has
 * no store (err says which). */
cn_session_call *cn_ask_prepare(cn_answer *answer, cn_err *err);
/* Starts it. Errors: CN_E_QUEUE. */
cn_code cn_ask_start(cn_answer *answer, cn_session_kind kind, cn_ask_then then, cn_err *err);
/* Prepares and starts a call that needs nothing but an id. */
cn_code cn_ask_id(cn_answer *answer, cn_session_kind kind, const cn_session_id *id,
                  cn_ask_then then, cn_err *err);

bool cn_ask_is_open(const cn_answer *answer);
/* Goes on with a call that is back; nothing if there is none. */
void cn_ask_go_on(cn_answer *answer);

/* A failed call's error in the words of the API: CN_E_NOT_FOUND becomes CN_E_ABSENT. */
cn_code cn_ask_error(const cn_session_call *call, const char *what, const char *id, cn_err *err);

/* What makes two requests with one Idempotency-Key the same: path and body. */
void cn_ask_digest(const cn_answer *answer, uint8_t out[CN_KEY_BYTES]);

/* The Idempotency-Key of the request; NULL: it has none. Errors: CN_E_INVALID (its length). */
cn_code cn_ask_key(const cn_answer *answer, const char **out, cn_err *err);

/* An id from a request. Errors: CN_E_ABSENT (cannot be one: `what` names the kind, as in "Response"). */
cn_code cn_ask_parse_id(const char *text, const char *prefix, const char *what, cn_session_id *out,
                        cn_err *err);
