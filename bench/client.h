/* bench/client.h: many HTTP/1.1 requests at once over non-blocking sockets, for a load generator:
 * connections are kept alive and used again, answers are read as streams of events or whole, and
 * the time of every token goes into the tally. One thread, one epoll, no allocation per event.
 *
 * Threads: one.
 * Memory:  about 1 KiB per open connection, and the request until it is sent. A request's turn of
 *          the tally must stay where it is until the request has ended. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "bench/tally.h"

typedef struct cn_client cn_client;
typedef struct cn_client_exchange cn_client_exchange;    // a request under way

typedef struct cn_client_url {
    char host[256], port[8];
    char prefix[256];            // of every path: what follows the port, without a slash at its end
    char authority[272];
} cn_client_url;

typedef struct cn_client_options {
    cn_client_url url;
    cn_clock clock;
    uint64_t timeout_ns;         // for connecting in open
    /* A request has ended by itself: its turn has the outcome, `id` is what the server named it.
     * Must not send: cn_client_send itself may call it. */
    void (*on_end)(void *self, void *tag, const char *id);
    void *self;
} cn_client_options;

typedef struct cn_client_request {
    const cn_buf *bytes;         // head and body, copied
    cn_tally_turn *turn;         // filled in; due_ns and ready_ns are the caller's
    void *tag;                   // given back in on_end
    bool stream;                 // the answer is a stream of events
    bool keep_text;              // turn->text gets the answer
    bool slow;                   // reads only what cn_client_allow grants, on its own connection
} cn_client_request;

/* "http://host:port/prefix" to its parts. Errors: CN_E_INVALID, CN_E_UNSUPPORTED (https). */
cn_code cn_client_parse_url(const char *text, cn_client_url *out, cn_err *err);

/* Resolves the host; of its addresses takes the first that accepts a connection, else the first.
 * Raises the limit of open files to what the system allows. Errors: CN_E_IO, CN_E_MEMORY. */
cn_code cn_client_open(const cn_client_options *options, cn_client **out, cn_err *err);
void cn_client_close(cn_client *client);

/* Sends. A failure becomes the turn's outcome; if that is so at once, on_end has been called and
 * the result is NULL. Otherwise it is valid until on_end or cancel. */
cn_client_exchange *cn_client_send(cn_client *client, const cn_client_request *request);

/* Ends a request with this outcome, without on_end; its connection is closed. */
void cn_client_cancel(cn_client *client, cn_client_exchange *exchange, cn_outcome outcome);

/* Lets a slow request read `bytes` more. */
void cn_client_allow(cn_client *client, cn_client_exchange *exchange, uint32_t bytes);

/* What the server named the response, "" until it did, and the number of its last event that was
 * read, -1 where there was none. */
const char *cn_client_id(const cn_client_exchange *exchange);
int64_t cn_client_sequence(const cn_client_exchange *exchange);

/* Loses the connection of a request under way and asks for the rest of its stream with `bytes` on a
 * fresh one. The request goes on: its turn, its tag and its digest stay. May call on_end. */
void cn_client_resume(cn_client *client, cn_client_exchange *exchange, const cn_buf *bytes);

/* Waits for the network until `until_ns` of the clock and handles what came; returns early so that
 * a caller who wants to send at `until_ns` is not late. */
void cn_client_poll(cn_client *client, uint64_t until_ns);

/* What went through the client so far. */
typedef struct cn_client_counts {
    uint64_t events, received_bytes, connections;
} cn_client_counts;
cn_client_counts cn_client_count(const cn_client *client);
