/* bench/tally.h: what came of every turn of a plan: its times, tokens, outcome and digest.
 * Times are of the monotonic clock. Each turn has three that could be called its beginning:
 *   due     when the plan wanted it: what a user would have waited from
 *   ready   when nothing but the generator stood in its way: later than due where --max-concurrency
 *           held it back
 *   sent    when its first byte, or the connection for it, went to the kernel
 * Latency counts from due, beside it from sent; sent - ready is the generator's own lateness.
 *
 * Threads: one.
 * Memory:  one record per turn of the plan; gaps and texts on the heap until close. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*  id           name            what it means */
#define CN_OUTCOMES(X)                                                                             \
    X(UNSENT,     "unsent",       "the run, or the conversation, ended before it could be sent")   \
    X(OK,         "ok",           "answered")                                                      \
    X(CANCELLED,  "cancelled",    "the plan cancelled it")                                         \
    X(REFUSED,    "refused",      "the connection was refused")                                    \
    X(CONNECT,    "connect",      "no connection for another reason")                              \
    X(RESET,      "reset",        "the connection was reset")                                      \
    X(CUT,        "cut",          "the connection ended before the answer did")                    \
    X(TIMEOUT,    "timeout",      "no whole answer within the time limit")                         \
    X(HTTP_4XX,   "http_4xx",     "refused with a status of 400 to 499")                           \
    X(HTTP_5XX,   "http_5xx",     "refused with a status of 500 to 599")                           \
    X(HTTP_OTHER, "http_other",   "answered with a status that is none of 200, 4xx, 5xx")          \
    X(BAD_HTTP,   "bad_http",     "bytes that are not HTTP/1.1")                                   \
    X(BAD_EVENT,  "bad_event",    "an event or answer that is not JSON as the API writes it")      \
    X(ERROR,      "error_event",  "the server reported an error in its stream")                    \
    X(EMPTY,      "empty",        "an answer without a single token")                              \
    X(DESCRIPTOR, "descriptor",   "the generator had no free descriptor or memory")

typedef enum cn_outcome {
#define X(id, name, what) CN_OUTCOME_##id,
    CN_OUTCOMES(X)
#undef X
    CN_OUTCOME_COUNT
} cn_outcome;

enum { CN_TALLY_DIGEST_BYTES = 16, CN_TALLY_ERROR_BYTES = 160 };

typedef struct cn_tally_turn {
    uint64_t due_ns, ready_ns, sent_ns, first_ns, last_ns, end_ns;
    float *gaps_s;               // between tokens, or between events that carry several
    char *text;                  // the answer, kept on request; terminated
    char *error;                 // what the server or the system said; NULL: nothing
    uint32_t gap_count, gap_capacity;
    uint32_t event_count;        // events with text or token ids
    int64_t input_tokens, output_tokens, cached_tokens;  // as the server told; -1: it did not
    uint16_t status;             // HTTP
    bool resumed;                // its stream was lost and taken up again
    cn_outcome outcome;
    unsigned char digest[CN_TALLY_DIGEST_BYTES];         // BLAKE2b of its tokens or text
} cn_tally_turn;

typedef struct cn_tally {
    cn_tally_turn *turns;        // as in the plan
    uint32_t turn_count;
    uint64_t start_ns, end_ns;   // of the run
    uint64_t start_wall_ns;
    double cpu_s;                // of this process, in the run
    uint64_t event_count, received_bytes, connection_count;
    bool realtime;               // it had real-time priority
} cn_tally;

/* Errors: CN_E_MEMORY. */
cn_code cn_tally_open(uint32_t turn_count, cn_tally *out, cn_err *err);
void cn_tally_close(cn_tally *tally);

const char *cn_tally_outcome_name(cn_outcome outcome);
const char *cn_tally_outcome_what(cn_outcome outcome);

/* An event with tokens came; false if there is no memory for its time. */
bool cn_tally_event(cn_tally_turn *turn, uint64_t now_ns);

/* Keeps what was said about a failure, cut to CN_TALLY_ERROR_BYTES. */
void cn_tally_error(cn_tally_turn *turn, const char *text, size_t len);

/* Tokens in the answer: as the server told, else as many as there were events. */
static inline uint64_t cn_tally_output_tokens(const cn_tally_turn *turn)
{
    return turn->output_tokens >= 0 ? (uint64_t)turn->output_tokens : turn->event_count;
}
