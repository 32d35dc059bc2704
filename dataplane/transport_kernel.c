#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "dataplane/transport.h"
#include "dataplane/transport_address_int.h"

/* How it works. A place per connection, and every place is in exactly one of these states:
 *
 *     free ──accept──▶ open ──finish──▶ lingering ──peer's end, or LINGER_NS──▶ free
 *                        └──peer gone, abort──────────────────────────────────▶ free
 *
 * Everything is level-triggered and what epoll watches is changed as seldom as possible. A busy
 * connection costs one recv and one send per request, and its share of one epoll_wait:
 *
 * - One recv into the one shared buffer per event; what is left in the socket is reported again.
 * - What the handler does not take is copied to a block of its own, at most READ_BYTES. Only when
 *   yet more arrives for such a connection is its EPOLLIN taken away, so that a peer that sends one
 *   request ahead costs no epoll_ctl; resume gives it back.
 * - EPOLLRDHUP is always watched: a held or busy connection notices that its peer has gone.
 * - EPOLLOUT is watched only after a send that did not take everything.
 * - The listener is not watched while every place is taken, or for ACCEPT_PAUSE_NS after the system
 *   had no descriptor or memory for us. Clients then wait in the backlog, and nothing spins.
 *
 * An event carries index and generation, so one that is left over from a connection that ended
 * earlier in the same batch names nobody. The eventfd of the wake is edge-triggered: it ends a wait
 * once per signal, whether or not somebody reads it.
 *
 * Options are set on the listener and accepted sockets inherit them: TCP_NODELAY, and what notices
 * a peer that vanished without a word: keep-alive probes while nothing is sent, a limit on the age
 * of unacknowledged bytes while something is. */

enum {
    READ_BYTES = 32 * 1024,
    EVENT_COUNT_MAX = 256,           // taken from epoll at once
    ACCEPT_COUNT_MAX = 64,           // accepted at once, so that a flood leaves time for the others
    BACKLOG = 4096,                  // the system cuts it to net.core.somaxconn
    LINGER_READ_MAX = 4,             // blocks discarded per event
    INDEX_LISTENER = -1,
    INDEX_WAKE = -2
};
static const uint64_t LINGER_NS = 2000000000;
static const uint64_t ACCEPT_PAUSE_NS = 100000000;
static const uint32_t NONE = UINT32_MAX;

static const struct socket_option {
    int level, name, value;
} listener_options[] = {
    {SOL_SOCKET, SO_REUSEADDR, 1},
    {SOL_SOCKET, SO_KEEPALIVE, 1},
    {IPPROTO_TCP, TCP_NODELAY, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, 60},             // s: 60 + 4 * 15 until a silent peer is given up
    {IPPROTO_TCP, TCP_KEEPINTVL, 15},
    {IPPROTO_TCP, TCP_KEEPCNT, 4},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 120000},     // ms
};

typedef enum place_state { FREE, OPEN, LINGERING } place_state;

typedef struct place {
    int fd;
    uint32_t generation;
    place_state state;
    uint32_t watched;                // EPOLLIN, EPOLLOUT, EPOLLRDHUP
    bool write_blocked;              // a send did not take everything since the last EPOLLOUT
    char *held;                      // what the handler did not take; NULL if it took all
    uint32_t held_at, held_len;
    uint32_t next, prev;             // of the free places (next only), or of the lingering ones
    uint64_t linger_until_ns;
} place;

typedef struct kernel {
    cn_transport base;
    cn_transport_handler handler;
    cn_clock clock;
    int epoll_fd, listen_fd;
    bool accepting;                  // the listener is watched
    uint64_t accept_again_ns;        // end of a pause; 0: none
    uint32_t place_max, place_count; // place_count: places that were ever used
    uint32_t taken;                  // places that are not free
    uint32_t free_first;
    uint32_t linger_first, linger_last;
    place *places;
    char address[CN_TRANSPORT_ADDRESS_BYTES];
    char buffer[READ_BYTES];
} kernel;

static uint64_t event_key(uint32_t index, uint32_t generation)
{
    return (uint64_t)generation << 32 | index;
}

static place *open_place(kernel *k, cn_conn conn)
{
    CN_ASSERT(conn.index < k->place_max);
    place *p = &k->places[conn.index];
    return p->state == OPEN && p->generation == conn.generation ? p : NULL;
}

static void watch(kernel *k, place *p, uint32_t events)
{
    if (p->watched == events) return;
    struct epoll_event event = {.events = events,
                                .data.u64 = event_key((uint32_t)(p - k->places), p->generation)};
    const int rc = epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, p->fd, &event);
    CN_ASSERT(rc == 0);              // only a descriptor that is not ours or not added can fail
    p->watched = events;
}

static void watch_listener(kernel *k, bool on)
{
    if (k->listen_fd < 0 || k->accepting == on) return;
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.u64 = (uint32_t)INDEX_LISTENER};
    const int rc = epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, k->listen_fd, &event);
    CN_ASSERT(rc == 0);
    k->accepting = on;
    k->accept_again_ns = 0;
}

static void linger_unlink(kernel *k, const place *p)
{
    *(p->prev == NONE ? &k->linger_first : &k->places[p->prev].next) = p->next;
    *(p->next == NONE ? &k->linger_last : &k->places[p->next].prev) = p->prev;
}

static void linger_append(kernel *k, place *p)
{
    const uint32_t index = (uint32_t)(p - k->places);
    p->prev = k->linger_last;
    p->next = NONE;
    *(p->prev == NONE ? &k->linger_first : &k->places[p->prev].next) = index;
    k->linger_last = index;
}

static void release(kernel *k, place *p)
{
    CN_ASSERT(p->state != FREE);
    if (p->state == LINGERING) linger_unlink(k, p);
    close(p->fd);                    // takes it out of the epoll set too
    free(p->held);
    *p = (place){.fd = -1, .generation = p->generation, .next = k->free_first};
    k->free_first = (uint32_t)(p - k->places);
    k->taken--;
    watch_listener(k, true);         // a place and a descriptor are free again
}

// The peer has gone.
static void gone(kernel *k, place *p)
{
    const cn_conn conn = {(uint32_t)(p - k->places), p->generation};
    k->handler.closed(k->handler.self, conn);
    if (open_place(k, conn)) release(k, p);
}

static place *take_place(kernel *k)
{
    if (k->taken == k->place_max) return NULL;
    uint32_t index = k->free_first;
    if (index != NONE) k->free_first = k->places[index].next;
    else index = k->place_count++;
    place *p = &k->places[index];
    *p = (place){.generation = p->generation + 1, .state = OPEN, .watched = EPOLLIN | EPOLLRDHUP};
    k->taken++;
    return p;
}

static void accepted(kernel *k, int fd, const cn_transport_sockaddr *peer)
{
    place *p = take_place(k);
    CN_ASSERT(p);
    p->fd = fd;
    const cn_conn conn = {(uint32_t)(p - k->places), p->generation};
    struct epoll_event event = {.events = p->watched,
                                .data.u64 = event_key(conn.index, conn.generation)};
    if (epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        release(k, p);               // no memory in the kernel: the client sees a closed connection
        return;
    }
    char text[CN_TRANSPORT_ADDRESS_BYTES];
    cn_transport_address_write(peer, text);
    k->handler.opened(k->handler.self, conn, text);
}

static void accept_batch(kernel *k)
{
    for (uint32_t n = 0; n < ACCEPT_COUNT_MAX; n++) {
        if (k->taken == k->place_max) {
            watch_listener(k, false);
            return;
        }
        cn_transport_sockaddr peer = {0};
        socklen_t len = sizeof peer;
        const int fd = accept4(k->listen_fd, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted(k, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            watch_listener(k, false);
            k->accept_again_ns = cn_clock_now_ns(&k->clock) + ACCEPT_PAUSE_NS;
            return;
        } else if (errno == EAGAIN) {
            return;
        }                            // anything else concerns that one client, who has gone
    }
}

// Shows bytes to the handler; returns how many it took, or `len` if it ended the connection.
static size_t show(kernel *k, place *p, const char *data, size_t len)
{
    const cn_conn conn = {(uint32_t)(p - k->places), p->generation};
    const size_t took = k->handler.received(k->handler.self, conn, data, len);
    CN_ASSERT(took <= len);
    return open_place(k, conn) ? took : len;
}

static void receive(kernel *k, place *p)
{
    const ssize_t got = recv(p->fd, k->buffer, sizeof k->buffer, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        gone(k, p);
        return;
    }
    if (got < 0) return;
    const size_t len = (size_t)got, took = show(k, p, k->buffer, len);
    if (took == len) return;
    p->held = malloc(len - took);
    if (!p->held) {
        gone(k, p);
        return;
    }
    memcpy(p->held, k->buffer + took, len - took);
    p->held_at = 0;
    p->held_len = (uint32_t)(len - took);
}

// Discards what a peer sends that has had its last answer.
static void discard(kernel *k, place *p)
{
    ssize_t got = 0;
    for (int n = 0; n < LINGER_READ_MAX; n++) {
        got = recv(p->fd, k->buffer, sizeof k->buffer, 0);
        if (got <= 0) break;
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) release(k, p);
}

static void connection_event(kernel *k, uint32_t index, uint32_t generation, uint32_t events)
{
    const cn_conn conn = {index, generation};
    CN_ASSERT(index < k->place_count);
    place *p = &k->places[index];
    if (p->generation != generation || p->state == FREE) return;
    if (p->state == LINGERING) {
        discard(k, p);
        return;
    }
    if (events & (EPOLLERR | EPOLLHUP)) {
        gone(k, p);
        return;
    }
    if (events & EPOLLOUT) {
        p->write_blocked = false;
        k->handler.writable(k->handler.self, conn);
        if (!open_place(k, conn)) return;
        if (!p->write_blocked) watch(k, p, p->watched & ~(uint32_t)EPOLLOUT);
    }
    if (!p->held) {
        if (events & (EPOLLIN | EPOLLRDHUP)) receive(k, p);
    } else if (events & EPOLLRDHUP) {
        gone(k, p);
    } else if (events & EPOLLIN) {
        watch(k, p, p->watched & ~(uint32_t)EPOLLIN);
    }
}

// ---- the interface -----------------------------------------------------------------------------

static void kernel_close(cn_transport *transport)
{
    kernel *k = (kernel *)transport;
    if (!k) return;
    for (uint32_t i = 0; i < k->place_count; i++) {
        if (k->places[i].state == FREE) continue;
        close(k->places[i].fd);
        free(k->places[i].held);
    }
    if (k->listen_fd >= 0) close(k->listen_fd);
    if (k->epoll_fd >= 0) close(k->epoll_fd);
    free(k->places);
    free(k);
}

static bool set_options(int fd, int family)
{
    const int no = 0;
    for (size_t i = 0; i < sizeof listener_options / sizeof *listener_options; i++) {
        const struct socket_option *o = &listener_options[i];
        if (setsockopt(fd, o->level, o->name, &o->value, sizeof o->value) != 0) return false;
    }
    // "[::]" serves IPv4 too, whatever the system's default says.
    return family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) == 0;
}

static cn_code listen_on(kernel *k, const char *address, cn_err *err)
{
    cn_transport_sockaddr at;
    socklen_t len;
    const cn_code code = cn_transport_address_parse(address, &at, &len, err);
    if (code) return code;
    const int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    k->listen_fd = fd;
    if (fd < 0) return cn_err_set(err, CN_E_IO, "socket for %s: %s", address, strerror(errno));
    if (!set_options(fd, at.any.sa_family) || bind(fd, &at.any, len) != 0 ||
        listen(fd, BACKLOG) != 0) {
        return cn_err_set(err, CN_E_IO, "listen on %s: %s", address, strerror(errno));
    }
    if (getsockname(fd, &at.any, &len) != 0) {
        return cn_err_set(err, CN_E_IO, "address of %s: %s", address, strerror(errno));
    }
    cn_transport_address_write(&at, k->address);
    return CN_OK;
}

static cn_code watch_first(kernel *k, const cn_wake *wake, cn_err *err)
{
    struct epoll_event listener = {.events = EPOLLIN, .data.u64 = (uint32_t)INDEX_LISTENER};
    struct epoll_event waker = {.events = EPOLLIN | EPOLLET, .data.u64 = (uint32_t)INDEX_WAKE};
    k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (k->epoll_fd < 0 ||
        epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, k->listen_fd, &listener) != 0 ||
        (wake && epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, wake->fd, &waker) != 0)) {
        return cn_err_set(err, CN_E_IO, "epoll: %s", strerror(errno));
    }
    k->accepting = true;
    return CN_OK;
}

static cn_code kernel_open(const cn_transport_options *options, cn_transport **out, cn_err *err)
{
    *out = NULL;
    kernel *k = malloc(sizeof *k);
    if (!k) return cn_err_set(err, CN_E_MEMORY, "transport: no memory");
    memset(k, 0, offsetof(kernel, buffer));
    k->base.ops = &cn_transport_kernel_ops;
    k->handler = options->handler;
    k->clock = cn_clock_system();    // sockets live in real time, whatever the rest is made to see
    k->epoll_fd = k->listen_fd = -1;
    k->place_max = options->connection_max;
    k->free_first = k->linger_first = k->linger_last = NONE;
    // calloc of that size is untouched zero pages: places cost memory when they are first used.
    k->places = calloc(k->place_max, sizeof *k->places);
    cn_code code = CN_OK;
    if (!k->places) {
        code = cn_err_set(err, CN_E_MEMORY, "transport: no memory for %u connections", k->place_max);
    }
    if (!code) code = listen_on(k, options->address, err);
    if (!code) code = watch_first(k, options->wake, err);
    if (code) {
        kernel_close(&k->base);
        return code;
    }
    *out = &k->base;
    return CN_OK;
}

static const char *kernel_address(const cn_transport *transport)
{
    return ((const kernel *)transport)->address;
}

static void end_lingering(kernel *k, uint64_t now_ns)
{
    while (k->linger_first != NONE && k->places[k->linger_first].linger_until_ns <= now_ns) {
        release(k, &k->places[k->linger_first]);
    }
}

// Milliseconds to wait, rounded up, with our own deadlines considered.
static int wait_ms(const kernel *k, uint64_t timeout_ns)
{
    uint64_t until_ns = UINT64_MAX;
    if (k->linger_first != NONE) until_ns = k->places[k->linger_first].linger_until_ns;
    if (k->accept_again_ns && k->accept_again_ns < until_ns) until_ns = k->accept_again_ns;
    if (until_ns != UINT64_MAX && timeout_ns != 0) {
        const uint64_t now_ns = cn_clock_now_ns(&k->clock);
        const uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
        if (left_ns < timeout_ns) timeout_ns = left_ns;
    }
    if (timeout_ns == UINT64_MAX) return -1;
    const uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static bool kernel_poll(cn_transport *transport, uint64_t timeout_ns)
{
    kernel *k = (kernel *)transport;
    struct epoll_event events[EVENT_COUNT_MAX];
    const int count = epoll_wait(k->epoll_fd, events, EVENT_COUNT_MAX, wait_ms(k, timeout_ns));
    for (int i = 0; i < count; i++) {
        const uint32_t index = (uint32_t)events[i].data.u64;
        if (index == (uint32_t)INDEX_LISTENER) {
            if (k->listen_fd >= 0) accept_batch(k);
        } else if (index != (uint32_t)INDEX_WAKE) {
            connection_event(k, index, (uint32_t)(events[i].data.u64 >> 32), events[i].events);
        }
    }
    if (k->linger_first != NONE || k->accept_again_ns) {
        const uint64_t now_ns = cn_clock_now_ns(&k->clock);
        end_lingering(k, now_ns);
        if (k->accept_again_ns && k->accept_again_ns <= now_ns) watch_listener(k, true);
    }
    return count > 0;
}

static size_t kernel_write(cn_transport *transport, cn_conn conn, const void *data, size_t len)
{
    kernel *k = (kernel *)transport;
    place *p = open_place(k, conn);
    if (!p || len == 0) return 0;
    const ssize_t sent = send(p->fd, data, len, MSG_NOSIGNAL);
    // A connection that is broken is reported by the next poll; what is written now leads nowhere.
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return 0;
    const size_t took = sent > 0 ? (size_t)sent : 0;
    if (took < len) {
        p->write_blocked = true;
        watch(k, p, p->watched | EPOLLOUT);
    }
    return took;
}

static void kernel_resume(cn_transport *transport, cn_conn conn)
{
    kernel *k = (kernel *)transport;
    place *p = open_place(k, conn);
    if (!p || !p->held) return;
    char *held = p->held;            // ours while it is shown: the handler may end the connection
    p->held = NULL;
    const size_t took = show(k, p, held + p->held_at, p->held_len);
    if (took < p->held_len) {
        p->held = held;
        p->held_at += (uint32_t)took;
        p->held_len -= (uint32_t)took;
        return;
    }
    free(held);
    if (open_place(k, conn)) watch(k, p, p->watched | EPOLLIN);
}

static void kernel_finish(cn_transport *transport, cn_conn conn)
{
    kernel *k = (kernel *)transport;
    place *p = open_place(k, conn);
    if (!p) return;
    free(p->held);
    p->held = NULL;
    if (shutdown(p->fd, SHUT_WR) != 0) {
        release(k, p);               // the peer was faster
        return;
    }
    p->state = LINGERING;
    p->linger_until_ns = cn_clock_now_ns(&k->clock) + LINGER_NS;
    linger_append(k, p);
    watch(k, p, EPOLLIN | EPOLLRDHUP);
}

static void kernel_abort(cn_transport *transport, cn_conn conn)
{
    kernel *k = (kernel *)transport;
    place *p = open_place(k, conn);
    if (!p) return;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    // If this fails the close below is an ordinary one: the peer is told less, nothing is lost.
    (void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    release(k, p);
}

/* Whoever is connected when the listener closes gets a reset, perhaps after a request that nobody may
 * send twice. So SYNs are dropped first, then those who are connected are taken: who was not let in
 * asks again in a second, and is refused. */
static void kernel_stop_listening(cn_transport *transport)
{
    kernel *k = (kernel *)transport;
    enum { FLAGS_OFFSET = 13 };      // RFC 9293, 3.1; a filter sees a segment from its TCP header on
    struct sock_filter no_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_OFFSET),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TH_SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog filter = {sizeof no_syn / sizeof *no_syn, no_syn};
    if (k->listen_fd < 0) return;
    // Without it (a Unix socket, a refusal) there is a short moment in which a client may come too late.
    (void)setsockopt(k->listen_fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
    accept_batch(k);
    close(k->listen_fd);
    k->listen_fd = -1;
    k->accept_again_ns = 0;
}

const cn_transport_ops cn_transport_kernel_ops = {
    .name = "kernel",
    .open = kernel_open,
    .close = kernel_close,
    .address = kernel_address,
    .poll = kernel_poll,
    .write = kernel_write,
    .resume = kernel_resume,
    .finish = kernel_finish,
    .abort = kernel_abort,
    .stop_listening = kernel_stop_listening,
};
