/* dataplane/reply.h: what is still to be sent of one answer.
 * The ring to the net thread may be full at any moment; a reply keeps what did not fit and goes on
 * when it is pumped again. Body bytes are appended to `out` and leave with the next pump, so that
 * all frames of a round leave together.
 *
 * Threads: api only.
 * Memory:  one buffer, bounded by bytes_max and kept for the next reply while it is small. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "dataplane/http.h"

typedef enum cn_reply_state {
    CN_REPLY_IDLE,               // no status yet
    CN_REPLY_STARTING,           // has one; the ring has not taken it
    CN_REPLY_OPEN,
    CN_REPLY_ENDED               // complete in the ring, or the client has gone
} cn_reply_state;

enum { CN_REPLY_EXTRA_BYTES = 2048 };

typedef struct cn_reply {
    cn_http *http;
    cn_exchange exchange;
    cn_reply_state state;
    unsigned status;
    const char *content_type;
    int64_t length;
    char extra[CN_REPLY_EXTRA_BYTES];    // header lines
    cn_buf out;                  // body; the first `sent` bytes have left
    size_t sent;
    bool complete;               // nothing more will be appended
    bool gone;                   // the client is
} cn_reply;

/* Starts with nothing to send; keeps the buffer that an earlier reply in this memory had. */
void cn_reply_init(cn_reply *reply, cn_http *http, cn_exchange exchange, size_t bytes_max);
void cn_reply_close(cn_reply *reply);

/* Appends a header line; `value` must be free of control bytes. Before start. */
void cn_reply_header(cn_reply *reply, const char *name, const char *value);
/* Begins a stream of unknown length. */
void cn_reply_stream(cn_reply *reply, unsigned status, const char *content_type);
/* Answers with what is in `out`, and that is all. */
void cn_reply_whole(cn_reply *reply, unsigned status, const char *content_type);
/* Ends a stream. */
void cn_reply_end(cn_reply *reply);
/* The client has gone: nothing is sent any more. */
void cn_reply_drop(cn_reply *reply);

/* Sends what the ring takes; false if something is left for another time. */
bool cn_reply_pump(cn_reply *reply);
