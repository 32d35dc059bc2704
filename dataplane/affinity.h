/* dataplane/affinity.h: which session a request belongs to, as clients and load balancers name it.
 * A name keeps the turns of a session on the appliance that has its pages. It is a hint: nothing is
 * looked up by it, and no answer depends on it. Every reply to a generating request has one, so that a
 * client that sends X-Session-Id back needs nothing else.
 *
 * Threads: api only.
 * Memory:  names lie in the request's arena, or are the request's id. */
#pragma once

#include <jansson.h>

#include "dataplane/answer.h"

enum { CN_AFFINITY_NAME_BYTES_MAX = 128 };

/* Whether a name is harmless in a header, an id and a log. NULL is not. */
bool cn_affinity_is_name(const char *text);

/* Takes the name from the first of X-Session-Id, X-Session-Affinity, X-Dynamo-Session-Id and
 * X-Correlation-ID that has one that is harmless wherever it may be repeated. */
void cn_affinity_read(cn_answer *answer);
/* For a generating request that no header names: prompt_cache_key, else its conversation, else its
 * own id. Errors: CN_E_LIMIT (no memory for the name). */
cn_code cn_affinity_read_body(cn_answer *answer, const json_t *body, cn_err *err);

/* Adds X-Session-Id and those of the headers above that the client sent, once. */
void cn_affinity_reply(cn_answer *answer);
