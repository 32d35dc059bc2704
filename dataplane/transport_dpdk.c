#include "dataplane/transport_dpdk.h"

#include <stdlib.h>
#include <string.h>

#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>

#include "base/assert.h"
#include "dataplane/lwip_pool.h"
#include "dataplane/stack_int.h"
#include "dataplane/transport_address_int.h"
#include "dataplane/transport_held_int.h"

/* How it works. A place per connection, as in transport_kernel.c, and every place is in exactly one of
 * these states:
 *
 *     free ──accept──▶ open ──finish──▶ lingering ──peer's end, or LINGER_NS──▶ free
 *                        └──peer gone, abort──────────────────────────────────▶ free
 *
 * A connection of lwIP (pcb) outlives its place while its last bytes, its FIN or its TIME_WAIT need
 * it; it then has no callbacks, and the stack's timers end it. Half-open connections have no place
 * yet, but there are never more of them than free places, so accepting one cannot fail.
 *
 * One round of poll: send what was written since the last one, take a burst of frames (lwIP calls
 * back from within: accepted, received, sent, failed), run timers, send what that gave. All streams'
 * tokens of a step are written between two rounds, so they leave together.
 *
 * Received bytes are shown where they lie in the frame. What the handler leaves is copied into the
 * stack's memory (held), because the frame must go back; more that comes is appended, and as none of
 * it is reported as received, the peer's window closes.
 *
 * A write is cut by three bounds: lwIP's send buffer, the share of the stack's memory that one
 * connection may use at its present fill, and that memory itself. What was cut by the first two goes
 * on when the peer has acknowledged enough. A connection that got nothing at all and waits for no
 * acknowledgement is starved, and is asked again every tick.
 *
 * An idle poll spins for `idle_polls` empty bursts, so that a busy server never sleeps, and then
 * waits in the port until a frame, the wake or the next timer. */

enum {
    HALF_OPEN_MAX = 16384,
    WRITE_BYTES = 16 * 1024,             // given to lwIP at once
    WRITE_BYTES_LEAST = 256,             // smaller pieces would use up what answers are made of
    WRITABLE_SHARE = 4,                  // of the send buffer must be free before writing goes on
    IDLE_POLLS = 1000,
    SPINS_PER_CLOCK = 16,
    BURSTS_MAX = 32,                     // received in one round
    CLOSING_SPARE = 1024,                // connections that only still close, at least
};
static const uint64_t LINGER_NS = 2000000000;
static const uint64_t STARVED_NS = 10000000;
static const uint64_t TIMERS_WAIT_NS = 100000000;
static const uint32_t NONE = UINT32_MAX;

typedef enum place_state { FREE, OPEN, LINGERING } place_state;

typedef struct place {
    struct tcp_pcb *pcb;                 // NULL: has ended
    cn_transport_held held;              // what the handler did not take
    uint64_t linger_until_ns;
    uint32_t generation;
    place_state state;
    bool write_blocked, dirty, starved;
    uint32_t next, prev;                 // of the free places (next only), or of the lingering ones
} place;

typedef struct dpdk {
    cn_transport base;
    cn_transport_handler handler;
    cn_nic *nic;
    cn_clock clock;
    cn_wake *wake;
    uint32_t idle_polls;
    struct tcp_pcb *listener;
    uint32_t place_max, place_count;     // place_count: places that were ever used
    uint32_t taken;
    uint32_t free_first, linger_first, linger_last;
    place *places;
    uint32_t *dirty, *starved;           // [place_max] indices; a place is in each at most once
    uint32_t dirty_count, starved_count;
    uint64_t starved_again_ns;
    struct tcp_pcb *called_back;         // whose callback is running
    bool called_back_aborted;
    bool something_happened;
    bool frames_wait;                    // the port had more than one round takes
    uint64_t frames_wait_since_ns;
    _Atomic uint64_t connections_dropped, sleeps;
    char address[CN_TRANSPORT_ADDRESS_BYTES];
} dpdk;

static cn_transport_dpdk_options next_options;

// ---- places ------------------------------------------------------------------------------------

static place *open_place(dpdk *d, cn_conn conn)
{
    CN_ASSERT(conn.index < d->place_max);
    place *p = &d->places[conn.index];
    return p->state == OPEN && p->generation == conn.generation ? p : NULL;
}

static uint32_t index_of(const dpdk *d, const place *p) { return (uint32_t)(p - d->places); }

static cn_conn conn_of(const dpdk *d, const place *p)
{
    return (cn_conn){index_of(d, p), p->generation};
}

// New connections are let in as far as there are places for them.
static void set_backlog(dpdk *d)
{
    if (!d->listener) return;
    const uint32_t left = d->place_max - d->taken;
    ((struct tcp_pcb_listen *)d->listener)->backlog =
        (u16_t)(left < HALF_OPEN_MAX ? left : HALF_OPEN_MAX);
}

static void linger_unlink(dpdk *d, const place *p)
{
    *(p->prev == NONE ? &d->linger_first : &d->places[p->prev].next) = p->next;
    *(p->next == NONE ? &d->linger_last : &d->places[p->next].prev) = p->prev;
}

static void linger_append(dpdk *d, place *p)
{
    p->prev = d->linger_last;
    p->next = NONE;
    *(p->prev == NONE ? &d->linger_first : &d->places[p->prev].next) = index_of(d, p);
    d->linger_last = index_of(d, p);
}

static place *take_place(dpdk *d)
{
    CN_ASSERT(d->taken < d->place_max);
    uint32_t index = d->free_first;
    if (index != NONE) d->free_first = d->places[index].next;
    else index = d->place_count++;
    place *p = &d->places[index];
    // The lists may still have the index of its last user; an entry that is there already stays.
    *p = (place){.generation = p->generation + 1, .state = OPEN, .dirty = p->dirty,
                 .starved = p->starved};
    d->taken++;
    set_backlog(d);
    return p;
}

static void detach(struct tcp_pcb *pcb)
{
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
}

// Frees the place; its connection, if there is one, must have been taken from it.
static void release(dpdk *d, place *p)
{
    CN_ASSERT(p->state != FREE && !p->pcb);
    if (p->state == LINGERING) linger_unlink(d, p);
    cn_transport_held_drop(&p->held);
    p->state = FREE;
    p->next = d->free_first;
    d->free_first = index_of(d, p);
    d->taken--;
    set_backlog(d);
}

// Closes our side and leaves the rest to the stack.
static void let_go(dpdk *d, place *p)
{
    struct tcp_pcb *pcb = p->pcb;
    p->pcb = NULL;
    detach(pcb);
    // Without memory for a FIN the stack tries again by itself.
    const err_t rc = tcp_close(pcb);
    CN_ASSERT(rc == ERR_OK);
    release(d, p);
}

static void abort_connection(dpdk *d, place *p)
{
    struct tcp_pcb *pcb = p->pcb;
    p->pcb = NULL;
    if (pcb) {
        detach(pcb);
        if (pcb == d->called_back) d->called_back_aborted = true;
        tcp_abort(pcb);
    }
    release(d, p);
}

static bool same(const place *p, uint32_t generation)
{
    return p->state != FREE && p->generation == generation;
}

// The peer has gone; the handler learns it first.
static void gone(dpdk *d, place *p)
{
    const uint32_t generation = p->generation;
    d->handler.closed(d->handler.self, conn_of(d, p));
    if (!same(p, generation) || p->state != OPEN) return;
    if (p->pcb) let_go(d, p);
    else release(d, p);
}

// ---- receiving ---------------------------------------------------------------------------------

// Shows bytes to the handler; returns how many it took, or `len` if it ended the connection.
static size_t show(dpdk *d, place *p, const void *data, size_t len)
{
    const cn_conn conn = conn_of(d, p);
    const size_t took = d->handler.received(d->handler.self, conn, data, len);
    CN_ASSERT(took <= len);
    return open_place(d, conn) ? took : len;
}

// One stretch of received bytes; false if the connection has ended.
static bool received_bytes(dpdk *d, place *p, const uint8_t *data, size_t len)
{
    const cn_conn conn = conn_of(d, p);
    size_t took = 0;
    if (!p->held.first) {
        took = show(d, p, data, len);
        if (!open_place(d, conn)) return false;
        if (took) tcp_recved(p->pcb, (tcpwnd_size_t)took);
    }
    if (took == len || cn_transport_held_add(&p->held, data + took, (uint32_t)(len - took))) return true;
    atomic_fetch_add_explicit(&d->connections_dropped, 1, memory_order_relaxed);
    d->handler.closed(d->handler.self, conn);
    if (open_place(d, conn)) abort_connection(d, p);
    return false;
}

// What lwIP must be told at the end of a callback.
static err_t called_back(dpdk *d)
{
    const bool aborted = d->called_back_aborted;
    d->called_back = NULL;
    d->called_back_aborted = false;
    d->something_happened = true;
    return aborted ? ERR_ABRT : ERR_OK;
}

static dpdk *current;                    // the one transport: there is one stack per process

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *data, err_t error)
{
    dpdk *d = current;
    place *p = arg;
    (void)error;
    d->called_back = pcb;
    if (!data) {                         // the peer has closed its side
        if (p->state == LINGERING) let_go(d, p);
        else gone(d, p);
    } else if (p->state == LINGERING) {
        tcp_recved(pcb, data->tot_len);
    } else {
        const struct pbuf *q = data;
        while (q && (!q->len || received_bytes(d, p, q->payload, q->len))) q = q->next;
    }
    if (data) pbuf_free(data);
    return called_back(d);
}

// ---- sending -----------------------------------------------------------------------------------

static void mark_dirty(dpdk *d, place *p)
{
    if (p->dirty) return;
    p->dirty = true;
    d->dirty[d->dirty_count++] = index_of(d, p);
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    dpdk *d = current;
    place *p = arg;
    (void)len;
    d->called_back = pcb;
    if (p->state == OPEN && p->write_blocked && pcb->snd_buf >= TCP_SND_BUF / WRITABLE_SHARE) {
        p->write_blocked = false;
        d->handler.writable(d->handler.self, conn_of(d, p));
    }
    return called_back(d);
}

// Bytes that one connection may have under way: less and less as the memory fills, so that with the
// memory that is the default every one can have the least share. The last of the memory is for what
// must be answered: acknowledgements and handshakes.
static uint32_t send_share(void)
{
    const uint32_t fill = cn_lwip_pool_fill(1460);
    if (cn_lwip_pool_fill(1) >= 240) return 0;
    if (fill < 96) return TCP_SND_BUF;
    if (fill < 128) return TCP_SND_BUF / 8;
    return fill < 160 ? TCP_SND_BUF / 32 : TCP_SND_BUF / 128;
}

static size_t dpdk_write(cn_transport *transport, cn_conn conn, const void *data, size_t len)
{
    dpdk *d = (dpdk *)transport;
    place *p = open_place(d, conn);
    if (!p || !p->pcb || len == 0) return 0;
    const uint32_t share = send_share(), queued = TCP_SND_BUF - p->pcb->snd_buf;
    const size_t room = share > queued ? share - queued : 0;
    size_t took = 0, at_once = WRITE_BYTES;
    while (took < len && took < room && at_once >= WRITE_BYTES_LEAST) {
        size_t n = len - took < room - took ? len - took : room - took;
        if (n > at_once) n = at_once;
        const u8_t more = took + n < len ? TCP_WRITE_FLAG_MORE : 0;
        if (tcp_write(p->pcb, (const char *)data + took, (u16_t)n, TCP_WRITE_FLAG_COPY | more)) {
            at_once = n / 2;             // all or nothing: perhaps less can be had
        } else {
            took += n;
        }
    }
    if (took) mark_dirty(d, p);
    if (took == len) return took;
    p->write_blocked = true;
    if (!p->pcb->unsent && !p->pcb->unacked && !p->starved) {
        p->starved = true;
        d->starved[d->starved_count++] = conn.index;
    }
    return took;
}

static void send_dirty(dpdk *d)
{
    for (uint32_t i = 0; i < d->dirty_count; i++) {
        place *p = &d->places[d->dirty[i]];
        p->dirty = false;
        if (p->state != FREE && p->pcb) tcp_output(p->pcb);
    }
    d->dirty_count = 0;
}

static void feed_starved(dpdk *d, uint64_t now_ns)
{
    if (!d->starved_count || now_ns < d->starved_again_ns) return;
    d->starved_again_ns = now_ns + STARVED_NS;
    // Those that stay hungry are appended again, behind the ones that are looked at now.
    const uint32_t count = d->starved_count;
    for (uint32_t i = 0; i < count; i++) {
        place *p = &d->places[d->starved[i]];
        p->starved = false;
        if (p->state != OPEN || !p->write_blocked) continue;
        p->write_blocked = false;
        d->something_happened = true;
        d->handler.writable(d->handler.self, conn_of(d, p));
    }
    d->starved_count -= count;
    memmove(d->starved, d->starved + count, d->starved_count * sizeof *d->starved);
}

// ---- connections come and fail -----------------------------------------------------------------

static void on_error(void *arg, err_t error)
{
    dpdk *d = current;
    place *p = arg;
    (void)error;
    p->pcb = NULL;                       // is freed already
    d->something_happened = true;
    if (p->state == LINGERING) release(d, p);
    else gone(d, p);
}

static void address_text(const ip_addr_t *ip, uint16_t port, char out[CN_TRANSPORT_ADDRESS_BYTES])
{
    cn_transport_sockaddr at = {0};
    if (IP_IS_V4(ip)) {
        at.v4.sin_family = AF_INET;
        at.v4.sin_port = htons(port);
        at.v4.sin_addr.s_addr = ip_2_ip4(ip)->addr;
    } else {
        at.v6.sin6_family = AF_INET6;
        at.v6.sin6_port = htons(port);
        memcpy(&at.v6.sin6_addr, ip_2_ip6(ip)->addr, sizeof at.v6.sin6_addr);
    }
    cn_transport_address_write(&at, out);
}

static err_t on_accepted(void *arg, struct tcp_pcb *pcb, err_t error)
{
    dpdk *d = arg;
    if (error != ERR_OK || !pcb) return ERR_OK;          // no memory for one more: it will ask again
    place *p = take_place(d);
    p->pcb = pcb;
    tcp_arg(pcb, p);
    tcp_recv(pcb, on_received);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_nagle_disable(pcb);
    char peer[CN_TRANSPORT_ADDRESS_BYTES];
    address_text(&pcb->remote_ip, pcb->remote_port, peer);
    d->called_back = pcb;
    d->handler.opened(d->handler.self, conn_of(d, p), peer);
    return called_back(d);
}

// ---- the interface -----------------------------------------------------------------------------

void cn_transport_dpdk_use(const cn_transport_dpdk_options *options) { next_options = *options; }

void cn_transport_dpdk_stats_read(const cn_transport *transport, cn_transport_dpdk_stats *out)
{
    const dpdk *d = (const dpdk *)transport;
    const cn_stack_counts *c = cn_stack_counted();
#define X(id) .id = atomic_load_explicit(&c->id, memory_order_relaxed),
    *out = (cn_transport_dpdk_stats){
        CN_STACK_COUNTS(X)
        .connections_dropped = atomic_load_explicit(&d->connections_dropped, memory_order_relaxed),
        .sleeps = atomic_load_explicit(&d->sleeps, memory_order_relaxed)};
#undef X
}

static void dpdk_close(cn_transport *transport)
{
    dpdk *d = (dpdk *)transport;
    if (!d) return;
    for (uint32_t i = 0; i < d->place_count; i++) {
        if (d->places[i].state != FREE) abort_connection(d, &d->places[i]);
    }
    if (d->listener) tcp_close(d->listener);
    cn_stack_close();
    current = NULL;
    free(d->places);
    free(d->dirty);
    free(d->starved);
    free(d);
}

static bool to_ip(const cn_transport_sockaddr *at, ip_addr_t *ip, uint16_t *port)
{
    memset(ip, 0, sizeof *ip);
    if (at->any.sa_family == AF_INET) {
        ip_addr_set_ip4_u32(ip, at->v4.sin_addr.s_addr);
        *port = ntohs(at->v4.sin_port);
        return true;
    }
    IP_SET_TYPE(ip, IPADDR_TYPE_V6);
    memcpy(ip_2_ip6(ip)->addr, &at->v6.sin6_addr, sizeof at->v6.sin6_addr);
    *port = ntohs(at->v6.sin6_port);
    return !ip_addr_isany(ip);
}

static cn_code listen_on(dpdk *d, const char *address, cn_err *err)
{
    cn_transport_sockaddr at;
    socklen_t len;
    ip_addr_t ip;
    uint16_t port;
    const cn_code code = cn_transport_address_parse(address, &at, &len, err);
    if (code) return code;
    // "[::]" serves IPv4 too, as in transport_kernel.c.
    const bool one = to_ip(&at, &ip, &port);
    if (one && !cn_stack_serves(&ip)) {
        return cn_err_set(err, CN_E_IO, "listen on %s: the port has no such address", address);
    }
    struct tcp_pcb *pcb = tcp_new_ip_type(one ? IP_GET_TYPE(&ip) : IPADDR_TYPE_ANY);
    CN_ASSERT(pcb);
    err_t rc = tcp_bind(pcb, one ? &ip : IP_ANY_TYPE, port);
    if (rc == ERR_OK) {
        ip_set_option(pcb, SOF_KEEPALIVE);
        tcp_bind_netif(pcb, cn_stack_netif());
        d->listener = tcp_listen_with_backlog_and_err(pcb, HALF_OPEN_MAX, &rc);
    }
    if (!d->listener) {
        tcp_abort(pcb);
        return cn_err_set(err, CN_E_IO, "listen on %s: %s", address,
                          rc == ERR_USE ? "the address is in use" : "no memory");
    }
    tcp_arg(d->listener, d);
    tcp_accept(d->listener, on_accepted);
    set_backlog(d);
    address_text(&d->listener->local_ip, d->listener->local_port, d->address);
    return CN_OK;
}

static cn_code dpdk_open(const cn_transport_options *options, cn_transport **out, cn_err *err)
{
    *out = NULL;
    if (!next_options.stack.nic) {
        return cn_err_set(err, CN_E_INVALID, "transport: no port was given for dpdk");
    }
    dpdk *d = calloc(1, sizeof *d);
    if (!d) return cn_err_set(err, CN_E_MEMORY, "transport: no memory");
    cn_stack_options stack = next_options.stack;
    // Beside the open ones: those that wait in TIME_WAIT or still close. The oldest make room.
    stack.connection_count = 2 * options->connection_max + CLOSING_SPARE;
    d->base.ops = &cn_transport_dpdk_ops;
    d->handler = options->handler;
    d->nic = stack.nic;
    d->clock = stack.clock;
    d->wake = options->wake;
    d->idle_polls = next_options.idle_polls ? next_options.idle_polls : IDLE_POLLS;
    d->place_max = options->connection_max;
    d->free_first = d->linger_first = d->linger_last = NONE;
    cn_code code = cn_stack_open(&stack, err);
    if (code) {
        free(d);
        return code;
    }
    current = d;
    d->places = calloc(d->place_max, sizeof *d->places);
    d->dirty = calloc(d->place_max, sizeof *d->dirty);
    // Twice the places: those that are looked at, and those that stay hungry meanwhile.
    d->starved = calloc(d->place_max, 2 * sizeof *d->starved);
    if (!d->places || !d->dirty || !d->starved) {
        code = cn_err_set(err, CN_E_MEMORY, "transport: no memory for %u connections", d->place_max);
    }
    if (!code) code = listen_on(d, options->address, err);
    if (code) {
        dpdk_close(&d->base);
        return code;
    }
    *out = &d->base;
    return CN_OK;
}

static const char *dpdk_address(const cn_transport *transport)
{
    return ((const dpdk *)transport)->address;
}

/* A net thread that did not run for a while finds acknowledgements in the port that are as old as its
 * timers: those are not run before what waits has been read, or for TIMERS_WAIT_NS at most. */
static bool timers_may_run(const dpdk *d)
{
    return !d->frames_wait ||
           cn_clock_now_ns(&d->clock) - d->frames_wait_since_ns >= TIMERS_WAIT_NS;
}

// What follows a burst of frames: timers, and sending what has been written.
static bool end_round(dpdk *d)
{
    if (timers_may_run(d)) cn_stack_run_timers();
    if (d->starved_count || d->linger_first != NONE) {
        const uint64_t now_ns = cn_clock_now_ns(&d->clock);
        feed_starved(d, now_ns);
        while (d->linger_first != NONE && d->places[d->linger_first].linger_until_ns <= now_ns) {
            let_go(d, &d->places[d->linger_first]);
        }
    }
    send_dirty(d);
    cn_stack_flush();
    return d->something_happened;
}

/* Takes what the port has. One burst would not do: a step of thousands of streams is acknowledged all
 * at once, and acknowledgements that the port drops cost retransmissions. */
static bool receive_bursts(dpdk *d)
{
    uint32_t bursts = 0, frames;
    d->something_happened = false;
    do {
        frames = cn_stack_receive();
        d->something_happened |= frames > 0;
    } while (frames == CN_NIC_BURST_MAX && ++bursts < BURSTS_MAX);
    if (!d->frames_wait) d->frames_wait_since_ns = cn_clock_now_ns(&d->clock);
    d->frames_wait = bursts == BURSTS_MAX;
    return d->something_happened;
}

// One round; true if a handler was called or frames came.
static bool poll_once(dpdk *d)
{
    send_dirty(d);
    cn_stack_flush();
    receive_bursts(d);
    return end_round(d);
}

// Nanoseconds until something of ours is due.
static uint64_t due_in_ns(const dpdk *d, uint64_t now_ns)
{
    uint64_t left_ns = cn_stack_timer_left_ns();
    if (d->linger_first != NONE) {
        const uint64_t until_ns = d->places[d->linger_first].linger_until_ns;
        const uint64_t linger_ns = until_ns > now_ns ? until_ns - now_ns : 0;
        if (linger_ns < left_ns) left_ns = linger_ns;
    }
    return d->starved_count && STARVED_NS < left_ns ? STARVED_NS : left_ns;
}

static bool signalled(const dpdk *d) { return d->wake && !atomic_load(&d->wake->asleep); }

// Looks for frames `idle_polls` times, and at the clock now and then: asking for the time costs as much
// as asking for frames. True if it ended before that: something happened, a signal came, or time is up.
static bool spin(dpdk *d, uint64_t until_ns)
{
    const bool announced = !signalled(d);        // else nobody has announced sleep on the wake
    for (uint32_t i = 1; i <= d->idle_polls; i++) {
        if (announced && signalled(d)) return true;
        if (receive_bursts(d)) {
            end_round(d);
            return true;
        }
        if (i % SPINS_PER_CLOCK == 0 && (end_round(d) || cn_clock_now_ns(&d->clock) >= until_ns)) return true;
    }
    return false;
}

static bool dpdk_poll(cn_transport *transport, uint64_t timeout_ns)
{
    dpdk *d = (dpdk *)transport;
    if (poll_once(d) || timeout_ns == 0) return d->something_happened;
    uint64_t now_ns = cn_clock_now_ns(&d->clock);
    const uint64_t until_ns = timeout_ns < UINT64_MAX - now_ns ? now_ns + timeout_ns : UINT64_MAX;
    if (spin(d, until_ns)) return d->something_happened;
    now_ns = cn_clock_now_ns(&d->clock);
    const uint64_t due_ns = due_in_ns(d, now_ns), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    atomic_fetch_add_explicit(&d->sleeps, 1, memory_order_relaxed);
    d->nic->ops->wait(d->nic, 0, d->wake, due_ns < left_ns ? due_ns : left_ns);
    return poll_once(d);
}

static void dpdk_resume(cn_transport *transport, cn_conn conn)
{
    dpdk *d = (dpdk *)transport;
    place *p = open_place(d, conn);
    if (!p || !p->pcb || !p->held.first) return;
    cn_transport_held held = p->held;    // ours while it is shown: the handler may end the connection
    p->held = (cn_transport_held){0};
    tcpwnd_size_t shown = 0;             // told to lwIP at once, so that one ACK tells the peer
    const uint8_t *data;
    for (uint32_t len; p && (data = cn_transport_held_peek(&held, &len)) != NULL;) {
        const uint32_t took = (uint32_t)show(d, p, data, len);
        p = open_place(d, conn);
        cn_transport_held_pop(&held, took);
        shown += took;
        if (took < len) break;
    }
    if (!p) {
        cn_transport_held_drop(&held);
        return;
    }
    p->held = held;
    if (shown) tcp_recved(p->pcb, shown);
}

static void dpdk_finish(cn_transport *transport, cn_conn conn)
{
    dpdk *d = (dpdk *)transport;
    place *p = open_place(d, conn);
    if (!p) return;
    if (!p->pcb) {
        release(d, p);
        return;
    }
    // What was held counts as received, so that closing later need not be a reset.
    tcp_recved(p->pcb, cn_transport_held_drop(&p->held));
    if (tcp_shutdown(p->pcb, 0, 1) != ERR_OK) {
        abort_connection(d, p);          // the peer was faster
        return;
    }
    p->state = LINGERING;
    p->linger_until_ns = cn_clock_now_ns(&d->clock) + LINGER_NS;
    linger_append(d, p);
    mark_dirty(d, p);
}

static void dpdk_abort(cn_transport *transport, cn_conn conn)
{
    dpdk *d = (dpdk *)transport;
    place *p = open_place(d, conn);
    if (p) abort_connection(d, p);
}

static void dpdk_stop_listening(cn_transport *transport)
{
    dpdk *d = (dpdk *)transport;
    if (!d->listener) return;
    tcp_close(d->listener);
    d->listener = NULL;
}

const cn_transport_ops cn_transport_dpdk_ops = {
    .name = "dpdk",
    .open = dpdk_open,
    .close = dpdk_close,
    .address = dpdk_address,
    .poll = dpdk_poll,
    .write = dpdk_write,
    .resume = dpdk_resume,
    .finish = dpdk_finish,
    .abort = dpdk_abort,
    .stop_listening = dpdk_stop_listening,
};
