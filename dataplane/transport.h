/* dataplane/transport.h: connections, below HTTP.
 * One interface, several ways to move bytes: `kernel` (epoll sockets: a laptop, and the baseline of
 * benchmarks), later `dpdk` (packets and TCP in user space) and `sim` (tests).
 *
 * Received bytes are shown to the handler where they lie; it says how much it took. The rest holds the
 * connection: nothing more is read, the peer's window closes, until resume shows the rest again.
 *
 * Threads: one, the net thread, for everything but wake.
 * Memory:  all of the transport's own, bounded by connection_max; data shown to a handler is borrowed
 *          until it returns. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wake.h"

/* Names one connection for the life of the process: the index of its place, which is below
 * connection_max and free for arrays of the user, and a generation that tells its users apart. */
typedef struct cn_conn {
    uint32_t index;
    uint32_t generation;
} cn_conn;

typedef struct cn_transport_handler {
    void *self;
    void (*opened)(void *self, cn_conn conn, const char *peer);
    /* Returns how many of the bytes it took. */
    size_t (*received)(void *self, cn_conn conn, const char *data, size_t len);
    /* A write that did not take everything can go on. */
    void (*writable)(void *self, cn_conn conn);
    /* The peer has gone (reset, or closed its side); `conn` is free once this returns. Not called for
     * connections that close was called for. */
    void (*closed)(void *self, cn_conn conn);
} cn_transport_handler;

typedef struct cn_transport cn_transport;

typedef struct cn_transport_options {
    const char *address;         // "127.0.0.1:8000", "[::1]:8000", "0.0.0.0:0"
    uint32_t connection_max;
    cn_transport_handler handler;
    cn_wake *wake;               // a signal ends a poll that waits; borrowed
} cn_transport_options;

typedef struct cn_transport_ops {
    const char *name;
    /* Listens. Errors: CN_E_INVALID (address), CN_E_IO (in use, not allowed: named). */
    cn_code (*open)(const cn_transport_options *options, cn_transport **out, cn_err *err);
    /* Ends every connection. */
    void (*close)(cn_transport *transport);
    /* The address that it listens on, with the port that the system chose for port 0. */
    const char *(*address)(const cn_transport *transport);
    /* Waits at most `timeout_ns` for something to happen and calls the handler for it. With timeout 0
     * never blocks. Returns false if nothing happened. */
    bool (*poll)(cn_transport *transport, uint64_t timeout_ns);
    /* Takes a prefix of the bytes; the handler's writable says when more may be taken. 0 also if the
     * connection has gone. */
    size_t (*write)(cn_transport *transport, cn_conn conn, const void *data, size_t len);
    /* Shows bytes that received did not take again, with what has come since. */
    void (*resume)(cn_transport *transport, cn_conn conn);
    /* Ends a connection after what was written has left: closes our side, then discards what the peer
     * still sends, for a bounded time, so that it can read our last answer (RFC 9112, 9.6). */
    void (*finish)(cn_transport *transport, cn_conn conn);
    /* Ends a connection at once, with a reset. */
    void (*abort)(cn_transport *transport, cn_conn conn);
    /* Stops accepting; open connections go on. */
    void (*stop_listening)(cn_transport *transport);
} cn_transport_ops;

/* Every implementation begins with this. */
struct cn_transport {
    const cn_transport_ops *ops;
};

/* epoll sockets (dataplane/transport_kernel.c). */
extern const cn_transport_ops cn_transport_kernel_ops;
