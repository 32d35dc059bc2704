/* dataplane/tracing.h: where the time of one request went, and the trace that it belongs to.
 * A client may name its trace (W3C Trace Context, `traceparent`); otherwise a new one is made.
 * The time between a request's first byte and its last is told apart into phases that add up to
 * the whole.
 *
 * Threads: any; plain values.
 * Memory:  none of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/random.h"

/*  id       name       what the time went into */
#define CN_TRACING_PHASES(X)                                                                       \
    X(PREPARE, "prepare", "check, history, template and tokenizer")                                \
    X(QUEUE,   "queue",   "waiting for a place in the batch")                                      \
    X(RESTORE, "restore", "bringing pages back from host memory or Redis")                         \
    X(PREFILL, "prefill", "computing the prompt, up to the first token")                           \
    X(DECODE,  "decode",  "from the first token to the last")                                      \
    X(WRITE,   "write",   "durable write of the turn")                                             \
    X(NETWORK, "network", "the request on its way in, the answer on its way out")

typedef enum cn_tracing_phase {
#define X(id, name, what) CN_TRACING_##id,
    CN_TRACING_PHASES(X)
#undef X
    CN_TRACING_PHASE_COUNT
} cn_tracing_phase;

enum { CN_TRACING_PARENT_BYTES = 56, CN_TRACING_ID_BYTES = 33, CN_TRACING_SPAN_BYTES = 17 };

typedef struct cn_tracing {
    char id[CN_TRACING_ID_BYTES];          // 32 hexadecimal digits
    char parent[CN_TRACING_SPAN_BYTES];    // the client's span; "" if it named none
    char span[CN_TRACING_SPAN_BYTES];      // ours
    bool sampled;                        // the client's wish; true if it had none
} cn_tracing;

/* What happened when, by one monotonic clock; 0: not, or not yet. */
typedef struct cn_tracing_marks {
    uint64_t first_byte_ns, received_ns; // of the request
    uint64_t submitted_ns, started_ns;   // to the engine; first place in the batch
    uint64_t restore_ns;                 // of the wait in between: the time that pages took
    uint64_t first_token_ns, last_token_ns;
    uint64_t write_ns, written_ns;       // the turn went to the store; it acknowledged
} cn_tracing_marks;

enum {
    CN_TRACING_REQUEST_ID_BYTES = 136,
    CN_TRACING_ROUTE_BYTES = 32,
    CN_TRACING_METHOD_BYTES = 8
};

/* One request that has ended, for whoever looks at them. */
typedef struct cn_tracing_record {
    cn_tracing trace;
    char request_id[CN_TRACING_REQUEST_ID_BYTES];
    char route[CN_TRACING_ROUTE_BYTES];    // of the table, or "-"
    char method[CN_TRACING_METHOD_BYTES];
    uint32_t status;                     // 499: the client went away
    uint64_t end_wall_ns;
    uint64_t phase_ns[CN_TRACING_PHASE_COUNT];
    uint64_t prompt_tokens, completion_tokens;
    uint64_t cached_tokens;              // of the prompt, not computed; of these
    uint64_t host_tokens, store_tokens;  // from host memory, and from the store
    uint64_t session;                    // tells stored conversations apart; 0: none
} cn_tracing_record;

/* Starts a trace, or joins the one that `traceparent` names; what is not valid, or NULL, names
 * none. */
void cn_tracing_open(cn_tracing *trace, const char *traceparent, const cn_random *random);
/* The field `traceparent` for whoever we answer: our span of the trace. */
void cn_tracing_write(const cn_tracing *trace, char out[CN_TRACING_PARENT_BYTES]);

const char *cn_tracing_phase_name(cn_tracing_phase phase);
/* The phases up to `now_ns`; they add up to the time since the first byte. */
void cn_tracing_phases(const cn_tracing_marks *marks, uint64_t now_ns,
                     uint64_t out[CN_TRACING_PHASE_COUNT]);
/* {"prepare":0.412,...}: those phases in milliseconds. */
void cn_tracing_phases_write(const uint64_t phase_ns[CN_TRACING_PHASE_COUNT], cn_buf *out);
/* The record as one line of OTLP/JSON (TracesData): a span for the request, and one for each phase
 * that took time, one after another. */
void cn_tracing_otlp_write(const cn_tracing_record *record, cn_buf *out);
