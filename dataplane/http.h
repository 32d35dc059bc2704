/* dataplane/http.h: HTTP/1.1 between connections and the api (RFC 9110, RFC 9112).
 * The net side frames: it turns bytes into whole requests, enforces every limit of the wire, refuses
 * what two parsers could read differently (request smuggling), and writes answers in order. It knows
 * no JSON and no route. The api side sees whole requests and sends answers. Between them are two
 * rings; a slow client fills its own bounded buffer and is dropped, it never grows memory and never
 * holds up another.
 *
 * Threads: cn_http_poll and what it calls on the net thread; the functions of the api side on one api
 *          thread.
 * Memory:  a request moves to the api with its arena; answers are copied into the ring. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/metrics.h"
#include "base/wake.h"
#include "dataplane/networks.h"
#include "dataplane/transport.h"

typedef struct cn_http cn_http;

typedef struct cn_http_options {
    const cn_transport_ops *transport;
    const char *address;
    const cn_limits *limits;     // borrowed
    cn_clock clock;
    cn_metrics *metrics;         // borrowed
    cn_wake *net_wake;           // the net thread's
    cn_wake *api_wake;           // signalled when requests arrive
    const cn_networks *proxy_from;       // load balancers that each connection must come from, with a
                                         // PROXY header first; NULL or none: without one. Borrowed
    const cn_networks *forwarded_from;   // ... whose X-Forwarded-For is believed; as above
} cn_http_options;

/* Listens. Errors: as the transport's open; CN_E_MEMORY. */
cn_code cn_http_open(const cn_http_options *options, cn_http **out, cn_err *err);
void cn_http_close(cn_http *http);
const char *cn_http_address(const cn_http *http);

/* One round of the net thread: packets in, requests out, answers in, packets out; waits at most
 * `timeout_ns` (bounded by the next deadline of a connection). False if nothing happened. */
bool cn_http_poll(cn_http *http, uint64_t timeout_ns);

/* Answers with `Connection: close` from now on, so that clients and their pools go elsewhere, and still
 * serves whoever comes. Net thread. */
void cn_http_retire(cn_http *http);
/* Drain: stops listening, closes idle connections (new ones, whose request is on its way,
 * after a second), answers with `Connection: close` from now on.
 * Net thread. */
void cn_http_drain(cn_http *http);
/* Net thread: open connections; 0 after a drain when every answer has left. */
uint32_t cn_http_connection_count(const cn_http *http);

/* ---- the api side ------------------------------------------------------------------------------ */

/* One request and its answer; `index` is below the limit `connections`. */
typedef struct cn_exchange {
    uint32_t index;
    uint32_t generation;
} cn_exchange;

typedef struct cn_http_header {
    const char *name;            // lower case, terminated
    const char *value;           // without surrounding white space, terminated
} cn_http_header;

typedef struct cn_http_request {
    cn_exchange exchange;
    const char *method;          // "GET", "POST", ...
    const char *path;            // without query, percent-encoding left as it came, terminated
    const char *query;           // after '?', "" if there is none
    const cn_http_header *headers;
    uint32_t header_count;
    const char *body;            // terminated beyond body_len
    size_t body_len;
    const char *peer;            // client address
    uint64_t first_byte_ns, received_ns;     // when its first and its last byte came
    cn_arena arena;              // everything above lies here; the api may take more from it
} cn_http_request;

typedef enum cn_http_message_kind {
    CN_HTTP_REQUEST,             // `request` moves to the api
    CN_HTTP_GONE                 // the client of `exchange` has gone; nothing is to be sent any more.
                                 // May cross the end of the answer: then it is to be ignored
} cn_http_message_kind;

typedef struct cn_http_message {
    cn_http_message_kind kind;
    cn_exchange exchange;
    cn_http_request *request;
} cn_http_message;

/* The next message; false if there is none. */
bool cn_http_next(cn_http *http, cn_http_message *out);

/* Value of the first header with this lower-case name; NULL if there is none. */
const char *cn_http_request_header(const cn_http_request *request, const char *name);
/* Gives a request and its arena back (not the exchange: that ends with cn_http_end). */
void cn_http_request_free(cn_http *http, cn_http_request *request);

enum { CN_HTTP_LENGTH_STREAM = -1 };

/* Starts the answer. `length` is its body's length, or CN_HTTP_LENGTH_STREAM for chunks of unknown
 * number (HTTP/1.0 clients get them unframed, ended by close). `extra` is "" or whole header lines,
 * each ended by CRLF. Date, Content-Type, Content-Length or Transfer-Encoding and Connection are
 * added. False if the ring is full: try again later. */
bool cn_http_start(cn_http *http, cn_exchange exchange, unsigned status, const char *content_type,
                   int64_t length, const char *extra);
/* Sends body bytes; returns how many were taken (0 if the ring is full). Bytes given in one call leave
 * as few chunks as the ring allows. */
size_t cn_http_send(cn_http *http, cn_exchange exchange, const char *data, size_t len);
/* Ends the answer; the exchange is no longer the api's. False if the ring is full. */
bool cn_http_end(cn_http *http, cn_exchange exchange);
/* After a batch of the calls above: wakes the net thread if anything was sent. */
void cn_http_flush(cn_http *http);
