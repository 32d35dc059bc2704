/* dataplane/http_int.h: what the sources of http share.
 *   http.c           open, close, one round, deadlines, what goes to the api
 *   http_conn.c      bytes that come in, to whole requests
 *   http_answer.c    messages of the api, to bytes that go out
 *   http_exchange.c  the api's side of the rings
 *
 * Threads: all of cn_http belongs to the net thread, but for the rings' other ends and `api_sent`.
 * Memory:  cn_http_open's: places for all connections, and the rings. Beyond: the output of a
 *          connection while it has some, and requests, which are used again. */
#pragma once

#include "base/buf.h"
#include "base/ring.h"
#include "dataplane/http.h"
#include "dataplane/http_chunk_int.h"
#include "dataplane/http_parse_int.h"
#include "dataplane/http_scan_int.h"

enum {
    CN_HTTP_NONE = -1,                   // no connection, in a list of indices
    CN_HTTP_SPARE_MAX = 128,             // requests kept for reuse
    CN_HTTP_SPARE_BYTES_MAX = 256 * 1024 // ... with arenas of at most this size
};

typedef enum cn_http_state {
    CN_HTTP_CLOSED,
    CN_HTTP_PROXY,                       // its PROXY header is not whole
    CN_HTTP_IDLE,                        // no byte of a request
    CN_HTTP_HEAD,                        // some of a head
    CN_HTTP_BODY,                        // some of a body
    CN_HTTP_WAITING,                     // whole, but the ring to the api is full
    CN_HTTP_ANSWERING,                   // with the api
    CN_HTTP_CLOSING                      // the last answer is complete; ends when it has left
} cn_http_state;

/* Lists of connections; those of one list share a duration and so stand in the order of their
 * deadlines. */
typedef enum cn_http_timer {
    CN_HTTP_NO_TIMER,
    CN_HTTP_RECEIVE,                     // http_receive_ms, from the first byte of a request or header
    CN_HTTP_KEEP,                        // http_idle_ms, while idle or reading the end of an answer
    CN_HTTP_FRESH,                       // a second, without a request when a drain begins
    CN_HTTP_TIMERS
} cn_http_timer;

/* How the body of an answer is delimited. */
typedef enum cn_http_delimiter {
    CN_HTTP_NO_BODY,                     // HEAD, 204, 304
    CN_HTTP_BY_LENGTH,
    CN_HTTP_BY_CHUNKS,
    CN_HTTP_BY_CLOSE
} cn_http_delimiter;

typedef struct cn_http_conn {
    cn_conn conn;
    uint8_t state;                       // cn_http_state
    uint8_t timer;                       // cn_http_timer: the list it is in
    bool dirty;                          // in the list of those to be flushed this round
    bool write_blocked;                  // the transport took less; writable goes on
    bool queued;                         // in the queue of messages for a full ring
    bool is_fresh;                       // nothing has come yet
    bool is_forwarder;                   // its X-Forwarded-For is believed
    bool gone_waiting;                   // an exchange of this place ended, the api is not told yet
    uint32_t timer_prev, timer_next;
    uint32_t queue_next;
    uint32_t gone_generation;            // of that exchange
    uint64_t deadline_ns;

    cn_http_request *request;            // being received or waiting; NULL otherwise
    cn_http_scan scan;
    cn_http_chunk chunk;
    cn_http_framing framing;
    char *head;                          // in the request's arena, as is the body
    char *body;
    uint32_t head_len, head_capacity;
    uint64_t body_len, body_capacity;

    uint32_t exchange_generation;        // of the newest exchange; goes on with the next connection
    uint16_t status;                     // of the answer; 0 before its start
    uint8_t delimiter;                   // cn_http_delimiter
    uint64_t answer_left;                // BY_LENGTH: bytes that the api has not sent yet
    uint64_t output_bytes_max;           // http_output_bytes, and the length of a whole answer
    cn_buf output;                       // output.data + output_sent: what has not left
    size_t output_sent;
    char peer[56];
} cn_http_conn;

/* One message from api to net, eight cache lines. What does not fit goes on in messages of the same
 * kind without `first`. */
typedef enum cn_http_answer_kind { CN_HTTP_START, CN_HTTP_BYTES, CN_HTTP_END } cn_http_answer_kind;

enum { CN_HTTP_ANSWER_BYTES = 512 - 25, CN_HTTP_TYPE_BYTES_MAX = 128 };

typedef struct cn_http_answer {
    cn_exchange exchange;
    int64_t total;                       // of the body (first START), of this call (first BYTES)
    uint16_t status;
    uint16_t len;                        // of `bytes`
    uint16_t type_len;                   // first START: the content type is in front of `extra`
    uint8_t kind;
    bool first, last;
    char bytes[CN_HTTP_ANSWER_BYTES];
} cn_http_answer;
_Static_assert(sizeof(cn_http_answer) == 512, "no padding: it is copied for every token");

struct cn_http {
    cn_transport *transport;
    const cn_transport_ops *ops;
    const cn_limits *limits;
    cn_clock clock;
    cn_metrics *metrics;
    cn_wake *net_wake, *api_wake;
    uint32_t conn_max, open_count;
    cn_http_conn *conns;
    const cn_networks *proxy_from, *forwarded_from;      // NULL: none
    bool retiring;                       // answers say Connection: close
    bool draining;                       // ... and nothing new is accepted
    bool api_told;                       // requests were pushed in this round
    uint64_t now_ns;                     // of this round; 0: not asked yet
    uint64_t date_s;                     // second that `date` tells
    char date[32];
    uint32_t timer_first[CN_HTTP_TIMERS], timer_last[CN_HTTP_TIMERS];
    uint64_t timer_ns[CN_HTTP_TIMERS];
    uint32_t queue_first, queue_last;
    uint32_t *dirty, dirty_count;
    uint32_t spare_count;
    cn_http_request *spare[CN_HTTP_SPARE_MAX];
    cn_ring *messages;                   // net to api: cn_http_message
    cn_ring *answers;                    // api to net: cn_http_answer
    cn_ring *spent;                      // api to net: cn_http_request *, to be used again
    _Alignas(64) bool api_sent;          // api thread: something was pushed since the last flush
};

/* cn_http_open with rings of another size, for tests. */
cn_code cn_http_open_sized(const cn_http_options *options, uint32_t message_count,
                           uint32_t answer_count, cn_http **out, cn_err *err);

/* http.c */
uint64_t cn_http_now(cn_http *http);
void cn_http_timer_set(cn_http *http, cn_http_conn *c, cn_http_timer timer);
/* Sends a whole request to the api, or keeps it until the ring has room. */
void cn_http_dispatch(cn_http *http, cn_http_conn *c);
/* Forgets a connection that has ended or is being ended; tells the api if it has an exchange. */
void cn_http_forget(cn_http *http, cn_http_conn *c);
/* Ends a connection with a reset. */
void cn_http_drop(cn_http *http, cn_http_conn *c);
/* A request with an open arena; NULL without memory. */
cn_http_request *cn_http_request_take(cn_http *http);
void cn_http_request_put(cn_http *http, cn_http_request *request);

/* http_conn.c: see cn_transport_handler */
void cn_http_opened(void *self, cn_conn conn, const char *peer);
size_t cn_http_received(void *self, cn_conn conn, const char *data, size_t len);
void cn_http_writable(void *self, cn_conn conn);
void cn_http_closed(void *self, cn_conn conn);

/* http_answer.c */
/* Acts on one message of the api. */
void cn_http_answer_take(cn_http *http, const cn_http_answer *answer);
/* Answers with an error in the shape of OpenAI's and closes. */
void cn_http_refuse(cn_http *http, cn_http_conn *c, const cn_err *err);
/* Has the output leave at the end of this round. */
void cn_http_mark_dirty(cn_http *http, cn_http_conn *c);
/* Bytes that wait to leave. */
static inline size_t cn_http_unsent(const cn_http_conn *c)
{
    return c->output.len - c->output_sent;
}
/* Writes what the transport takes; finishes the connection if that was all and it is closing. */
void cn_http_output_flush(cn_http *http, cn_http_conn *c);
/* Appends; a connection that would go beyond output_bytes_max is dropped. False if it was. */
bool cn_http_output_add(cn_http *http, cn_http_conn *c, const void *data, size_t len);
