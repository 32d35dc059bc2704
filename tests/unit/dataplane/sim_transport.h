/* tests/unit/dataplane/sim_transport.h: connections without a network.
 * A test makes clients, lets them send and go away, and limits what they read; poll shows all that
 * to the handler as the kernel's transport would. One at a time.
 *
 * Threads: one.
 * Memory:  a client's output is the test's until sim_close. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "dataplane/transport.h"
#include "tests/unit/cmocka_all.h"

enum { SIM_CLIENT_MAX = 4096 };

typedef struct sim_client {
    bool used, open, held, leaving, blocked;
    bool finished, aborted;          // how the server ended it
    cn_conn conn;
    cn_buf inbox;                    // sent by the client, not taken by the server
    size_t inbox_at;
    size_t piece_bytes;              // at most so much is shown at once
    cn_buf output;                   // what the client got
    size_t room;                     // what it would still read
    uint32_t write_count;
} sim_client;

typedef struct sim {
    cn_transport base;
    cn_transport_handler handler;
    uint32_t connection_max;
    bool listening;
    uint32_t client_count;
    sim_client clients[SIM_CLIENT_MAX];
    sim_client **places;             // by index; NULL: free
    uint32_t *generations;
} sim;

static sim *sim_now;                 // the one that was opened last

static inline sim_client *sim_client_of(sim *s, cn_conn conn)
{
    assert_true(conn.index < s->connection_max);
    sim_client *c = s->places[conn.index];
    return c && c->open && c->conn.generation == conn.generation ? c : NULL;
}

static inline sim_client *sim_connect(void)
{
    assert_true(sim_now->client_count < SIM_CLIENT_MAX);
    sim_client *c = &sim_now->clients[sim_now->client_count++];
    *c = (sim_client){.used = true, .room = SIZE_MAX, .piece_bytes = SIZE_MAX};
    cn_buf_init(&c->inbox, SIZE_MAX / 2);
    cn_buf_init(&c->output, SIZE_MAX / 2);
    return c;
}

static inline void sim_send(sim_client *c, const void *data, size_t len)
{
    cn_buf_add(&c->inbox, data, len);
}

static inline void sim_text(sim_client *c, const char *text) { sim_send(c, text, strlen(text)); }

// What the client got so far, terminated.
static inline const char *sim_output(sim_client *c)
{
    cn_buf_add_char(&c->output, '\0');
    c->output.len--;
    return c->output.data;
}

static inline void sim_release(sim *s, sim_client *c)
{
    s->places[c->conn.index] = NULL;
    c->open = false;
}

static inline bool sim_open_client(sim *s, sim_client *c)
{
    for (uint32_t i = 0; i < s->connection_max && s->listening; i++) {
        if (s->places[i]) continue;
        c->conn = (cn_conn){i, ++s->generations[i]};
        c->open = true;
        s->places[i] = c;
        s->handler.opened(s->handler.self, c->conn, "192.0.2.7:40001");
        return true;
    }
    return false;
}

static inline void sim_show(sim *s, sim_client *c)
{
    while (c->open && c->inbox_at < c->inbox.len) {
        const size_t left = c->inbox.len - c->inbox_at;
        const size_t len = left < c->piece_bytes ? left : c->piece_bytes;
        // A copy of exactly that size, so that a read beyond it is seen by ASan.
        char *piece = malloc(len);
        memcpy(piece, c->inbox.data + c->inbox_at, len);
        const size_t took = s->handler.received(s->handler.self, c->conn, piece, len);
        free(piece);
        assert_true(took <= len);
        c->inbox_at += took;
        c->held = took < len;
        if (c->held) return;
    }
}

static inline bool sim_poll(cn_transport *transport, uint64_t timeout_ns)
{
    sim *s = (sim *)transport;
    bool did = false;
    (void)timeout_ns;
    for (uint32_t i = 0; i < s->client_count; i++) {
        sim_client *c = &s->clients[i];
        if (c->finished || c->aborted) continue;
        if (!c->open && !c->conn.generation) did |= sim_open_client(s, c);
        if (c->open && c->blocked && c->room) {
            c->blocked = false;
            s->handler.writable(s->handler.self, c->conn);
            did = true;
        }
        if (c->open && !c->held && c->inbox_at < c->inbox.len) {
            sim_show(s, c);
            did = true;
        }
        if (c->open && c->leaving) {
            s->handler.closed(s->handler.self, c->conn);
            sim_release(s, c);
            did = true;
        }
    }
    return did;
}

static inline size_t sim_write(cn_transport *transport, cn_conn conn, const void *data, size_t len)
{
    sim_client *c = sim_client_of((sim *)transport, conn);
    if (!c) return 0;
    const size_t took = len < c->room ? len : c->room;
    cn_buf_add(&c->output, data, took);
    c->room -= c->room == SIZE_MAX ? 0 : took;
    c->blocked = took < len;
    c->write_count++;
    return took;
}

static inline void sim_resume(cn_transport *transport, cn_conn conn)
{
    sim_client *c = sim_client_of((sim *)transport, conn);
    if (!c || !c->held) return;
    c->held = false;
    sim_show((sim *)transport, c);
}

static inline void sim_finish(cn_transport *transport, cn_conn conn)
{
    sim_client *c = sim_client_of((sim *)transport, conn);
    assert_non_null(c);
    c->finished = true;
    sim_release((sim *)transport, c);
}

static inline void sim_abort(cn_transport *transport, cn_conn conn)
{
    sim_client *c = sim_client_of((sim *)transport, conn);
    assert_non_null(c);
    c->aborted = true;
    sim_release((sim *)transport, c);
}

static inline void sim_stop_listening(cn_transport *transport)
{
    ((sim *)transport)->listening = false;
}

static inline const char *sim_address(const cn_transport *transport)
{
    (void)transport;
    return "192.0.2.1:8000";
}

static inline void sim_close(cn_transport *transport)
{
    sim *s = (sim *)transport;
    for (uint32_t i = 0; i < s->client_count; i++) {
        cn_buf_close(&s->clients[i].inbox);
        cn_buf_close(&s->clients[i].output);
    }
    free(s->places);
    free(s->generations);
    free(s);
}

static inline cn_code sim_open(const cn_transport_options *options, cn_transport **out,
                               cn_err *err);

static const cn_transport_ops sim_ops = {
    "sim", sim_open, sim_close, sim_address, sim_poll,
    sim_write, sim_resume, sim_finish, sim_abort, sim_stop_listening,
};

static inline cn_code sim_open(const cn_transport_options *options, cn_transport **out,
                               cn_err *err)
{
    (void)err;
    sim_now = calloc(1, sizeof *sim_now);
    sim_now->base.ops = &sim_ops;
    sim_now->handler = options->handler;
    sim_now->connection_max = options->connection_max;
    sim_now->listening = true;
    sim_now->places = calloc(options->connection_max, sizeof *sim_now->places);
    sim_now->generations = calloc(options->connection_max, sizeof *sim_now->generations);
    *out = &sim_now->base;
    return CN_OK;
}
