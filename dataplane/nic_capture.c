#include "dataplane/nic_capture.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/ring.h"

/* How it works. The net thread copies frames into a ring per queue, if the flag says that somebody
 * wants them; the reader's thread empties the rings into its buffer and the buffer into the socket.
 * It looks every LOOK_MS instead of being woken: a wake would cost the net thread a system call per
 * burst, and nobody who watches packets needs them sooner.
 *
 * The thread's life is one loop over accept. Whatever is left in the rings from the reader before is
 * thrown away before the flag is raised. */

enum {
    RING_FRAMES = 2048,
    QUEUE_MAX = 16,
    BATCH_BYTES = 128 * 1024,
    FRAME_BYTES_MAX = 9600 + 18,
    LOOK_MS = 10,
    FLUSH_MS = 1000,                         // for the last bytes to a reader that wants to end
    PCAP_MAGIC_NS = (int)0xa1b23c4d,
    PCAP_ETHERNET = 1
};

typedef struct pcap_head {
    uint32_t magic;
    uint16_t major, minor;
    uint32_t zone, accuracy, snap_bytes, link_type;
} pcap_head;
static_assert(sizeof(pcap_head) == 24, "the head of a pcap file, in the order of bytes of its magic");

typedef struct pcap_record {
    uint32_t seconds, nanoseconds, incl_len, orig_len;
} pcap_record;
static_assert(sizeof(pcap_record) == 16, "the head of a pcap record");

typedef struct copy {                        // a place of the ring, cut to frame_bytes
    uint64_t wall_ns;
    uint32_t len;
    uint8_t data[FRAME_BYTES_MAX];
} copy;

typedef struct capture {
    cn_nic base;
    cn_nic *below;
    cn_clock clock;
    uint32_t frame_bytes;
    uint16_t queue_count;
    cn_ring *rings[QUEUE_MAX];
    copy *scratch[QUEUE_MAX];                // of the queue's thread
    _Atomic bool has_reader;                 // release by the reader's thread, acquire by the queues':
                                             // old frames are out of the rings before new ones come
    // Relaxed: figures of their own.
    _Atomic uint64_t captured, dropped;
    struct sockaddr_un address;
    int listener;
    cn_wake stop;
    _Atomic bool stops;
    pthread_t thread;
    bool has_thread;
    uint8_t *batch;
    size_t batch_len;
} capture;

// ---- the net thread's side

static void copy_frames(capture *c, uint16_t queue, const cn_frame *frames, uint32_t count)
{
    if (!atomic_load_explicit(&c->has_reader, memory_order_acquire)) return;
    copy *to = c->scratch[queue];
    uint32_t lost = 0;
    to->wall_ns = cn_clock_wall_ns(&c->clock);
    for (uint32_t i = 0; i < count; i++) {
        to->len = frames[i].len < c->frame_bytes ? frames[i].len : c->frame_bytes;
        memcpy(to->data, frames[i].data, to->len);
        lost += !cn_ring_push(c->rings[queue], to);
    }
    atomic_fetch_add_explicit(&c->captured, count - lost, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->dropped, lost, memory_order_relaxed);
}

static uint32_t capture_receive(cn_nic *nic, uint16_t queue, cn_frame *frames, uint32_t max)
{
    capture *c = (capture *)nic;
    const uint32_t count = c->below->ops->receive(c->below, queue, frames, max);
    if (count) copy_frames(c, queue, frames, count);
    return count;
}

static void capture_send(cn_nic *nic, uint16_t queue, const cn_frame *frames, uint32_t count)
{
    capture *c = (capture *)nic;
    copy_frames(c, queue, frames, count);
    c->below->ops->send(c->below, queue, frames, count);
}

static bool capture_alloc(cn_nic *nic, uint16_t queue, cn_frame *out)
{
    const capture *c = (const capture *)nic;
    return c->below->ops->alloc(c->below, queue, out);
}

static void capture_free(cn_nic *nic, const cn_frame *frame)
{
    const capture *c = (const capture *)nic;
    c->below->ops->free(c->below, frame);
}

static void capture_wait(cn_nic *nic, uint16_t queue, cn_wake *wake, uint64_t timeout_ns)
{
    const capture *c = (const capture *)nic;
    c->below->ops->wait(c->below, queue, wake, timeout_ns);
}

static void capture_info(const cn_nic *nic, cn_nic_info *out)
{
    const capture *c = (const capture *)nic;
    c->below->ops->info(c->below, out);
}

static void capture_stats(const cn_nic *nic, cn_nic_stats *out)
{
    const capture *c = (const capture *)nic;
    c->below->ops->stats(c->below, out);
}

static cn_code capture_recover(cn_nic *nic, cn_err *err)
{
    const capture *c = (const capture *)nic;
    return c->below->ops->recover(c->below, err);
}

// ---- the reader's side

static void add(capture *c, const void *data, size_t len)
{
    memcpy(c->batch + c->batch_len, data, len);
    c->batch_len += len;
}

static void add_record(capture *c, uint64_t wall_ns, uint32_t incl_len, uint32_t orig_len)
{
    const pcap_record record = {(uint32_t)(wall_ns / 1000000000u), (uint32_t)(wall_ns % 1000000000u),
                                incl_len, orig_len};
    add(c, &record, sizeof record);
}

/* Moves frames from the rings to the batch while there is room for the largest; true if any. */
static bool collect(capture *c)
{
    const size_t before = c->batch_len;
    for (uint16_t i = 0; i < c->queue_count; i++) {
        const copy *from;
        while (c->batch_len + sizeof(pcap_record) + c->frame_bytes <= BATCH_BYTES &&
               (from = cn_ring_peek(c->rings[i]))) {
            add_record(c, from->wall_ns, from->len, from->len);
            add(c, from->data, from->len);
            cn_ring_pop(c->rings[i]);
        }
    }
    return c->batch_len > before;
}

// Writes what the socket takes; false if the reader has gone.
static bool write_batch(capture *c, int reader)
{
    if (c->batch_len == 0) return true;
    const ssize_t sent = send(reader, c->batch, c->batch_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    c->batch_len -= (size_t)sent;
    memmove(c->batch, c->batch + sent, c->batch_len);
    return true;
}

static void refuse_another(const capture *c)
{
    const int other = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
    if (other >= 0) close(other);
}

static uint64_t dropped(const capture *c)
{
    return atomic_load_explicit(&c->dropped, memory_order_relaxed);
}

// What is left, and the trailer, to a reader that has asked for the end.
static void finish_reader(capture *c, int reader, uint64_t dropped_before)
{
    struct pollfd writable = {.fd = reader, .events = POLLOUT};
    bool is_there = true;
    while (is_there && (collect(c) || c->batch_len > BATCH_BYTES / 2)) {
        is_there = write_batch(c, reader) && poll(&writable, 1, FLUSH_MS) > 0;
    }
    const uint64_t lost = dropped(c) - dropped_before;
    add_record(c, 0, (uint32_t)CN_NIC_CAPTURE_TRAILER, lost < UINT32_MAX ? (uint32_t)lost : UINT32_MAX);
    while (is_there && c->batch_len) {
        is_there = write_batch(c, reader) && poll(&writable, 1, FLUSH_MS) > 0;
    }
}

static void serve_reader(capture *c, int reader)
{
    const pcap_head head = {(uint32_t)PCAP_MAGIC_NS, 2, 4, 0, 0, c->frame_bytes, PCAP_ETHERNET};
    const uint64_t dropped_before = dropped(c);
    bool is_there = true, wants_end = false;
    do c->batch_len = 0;
    while (collect(c));                      // frames of the reader before
    c->batch_len = 0;
    add(c, &head, sizeof head);
    atomic_store_explicit(&c->has_reader, true, memory_order_release);
    while (is_there && !wants_end && !atomic_load(&c->stops)) {
        const bool found = collect(c);
        is_there = write_batch(c, reader);
        struct pollfd fds[] = {{.fd = reader, .events = POLLIN},
                               {.fd = c->listener, .events = POLLIN},
                               {.fd = c->stop.fd, .events = POLLIN}};
        if (c->batch_len) fds[0].events |= POLLOUT;
        if (poll(fds, 3, found && !c->batch_len ? 0 : LOOK_MS) <= 0) continue;
        if (fds[1].revents & POLLIN) refuse_another(c);
        char byte;
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
            wants_end = recv(reader, &byte, 1, MSG_DONTWAIT) <= 0;
    }
    atomic_store_explicit(&c->has_reader, false, memory_order_release);
    if (is_there) finish_reader(c, reader, dropped_before);
}

static void *run(void *argument)
{
    capture *c = argument;
    while (!atomic_load(&c->stops)) {
        struct pollfd fds[] = {{.fd = c->listener, .events = POLLIN},
                               {.fd = c->stop.fd, .events = POLLIN}};
        if (poll(fds, 2, -1) <= 0 || !(fds[0].revents & POLLIN)) continue;
        const int reader = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
        if (reader < 0) continue;
        serve_reader(c, reader);
        close(reader);
    }
    return NULL;
}

// ---- life

static void capture_close(cn_nic *nic)
{
    capture *c = (capture *)nic;
    if (!c) return;
    if (c->has_thread) {
        atomic_store(&c->stops, true);
        cn_wake_prepare(&c->stop);           // on the thread's behalf: its eventfd stays readable
        cn_wake_signal(&c->stop);
        pthread_join(c->thread, NULL);
    }
    if (c->listener >= 0) {
        close(c->listener);
        unlink(c->address.sun_path);
    }
    cn_wake_close(&c->stop);
    for (uint16_t i = 0; i < c->queue_count; i++) {
        if (c->rings[i]) cn_ring_close(c->rings[i]);
        free(c->scratch[i]);
    }
    free(c->batch);
    c->below->ops->close(c->below);
    free(c);
}

static const cn_nic_ops capture_ops = {
    .close = capture_close, .info = capture_info, .receive = capture_receive,
    .alloc = capture_alloc, .send = capture_send, .free = capture_free, .wait = capture_wait,
    .stats = capture_stats, .recover = capture_recover,
};

static cn_code open_memory(capture *c, cn_err *err)
{
    const size_t copy_bytes = offsetof(copy, data) + c->frame_bytes;
    bool has_all = (c->batch = malloc(BATCH_BYTES)) != NULL;
    for (uint16_t i = 0; i < c->queue_count && has_all; i++) {
        // The ring copies whole places, so a place is as long as the longest frame of this port.
        has_all = (c->scratch[i] = calloc(1, sizeof(copy))) &&
                  cn_ring_open(RING_FRAMES, (uint32_t)((copy_bytes + 7) / 8 * 8), &c->rings[i]) == CN_OK;
    }
    return has_all ? CN_OK : cn_err_set(err, CN_E_MEMORY, "capture: no memory for its rings");
}

// Whether somebody accepts connections at the path.
static bool is_served(const struct sockaddr_un *address)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool served = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (fd >= 0) close(fd);
    return served;
}

static cn_code open_socket(capture *c, const char *path, cn_err *err)
{
    if (strlen(path) >= sizeof c->address.sun_path)
        return cn_err_set(err, CN_E_INVALID, "capture: the socket %s has %zu bytes; at most %zu", path,
                          strlen(path), sizeof c->address.sun_path - 1);
    c->address.sun_family = AF_UNIX;
    memcpy(c->address.sun_path, path, strlen(path) + 1);
    if (is_served(&c->address))
        return cn_err_set(err, CN_E_IO, "capture: %s is served by another process; each needs a "
                          "directory of its own", path);
    struct stat old;
    if (lstat(path, &old) == 0 && S_ISSOCK(old.st_mode)) unlink(path);   // of a process that died
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // The mode of the descriptor is that of the file that bind makes: nobody else ever may connect.
    if (fd >= 0 && fchmod(fd, S_IRUSR | S_IWUSR) == 0 &&
        bind(fd, (struct sockaddr *)&c->address, sizeof c->address) == 0 && listen(fd, 4) == 0) {
        c->listener = fd;
        return CN_OK;
    }
    const int why = errno;
    if (fd >= 0) close(fd);
    return cn_err_set(err, CN_E_IO, "capture: %s: %s", path, strerror(why));
}

static cn_code open_thread(capture *c, cn_err *err)
{
    const int failure = pthread_create(&c->thread, NULL, run, c);
    if (failure)
        return cn_err_set(err, CN_E_IO, "capture: no thread: %s", strerror(failure));
    pthread_setname_np(c->thread, "capture");
    c->has_thread = true;
    return CN_OK;
}

cn_code cn_nic_capture_open(const cn_nic_capture_options *options, cn_nic **out, cn_err *err)
{
    *out = NULL;
    cn_nic_info info;
    capture *c = calloc(1, sizeof *c);
    if (!c) {
        options->below->ops->close(options->below);
        return cn_err_set(err, CN_E_MEMORY, "capture: no memory");
    }
    options->below->ops->info(options->below, &info);
    c->base.ops = &capture_ops;
    c->below = options->below;
    c->clock = options->clock;
    c->frame_bytes = info.mtu + 18u < FRAME_BYTES_MAX ? info.mtu + 18u : FRAME_BYTES_MAX;
    c->queue_count = info.queue_count < QUEUE_MAX ? info.queue_count : QUEUE_MAX;
    c->listener = -1;
    c->stop.fd = -1;
    cn_code code = open_memory(c, err);
    if (code == CN_OK) code = cn_wake_open(&c->stop, err);
    if (code == CN_OK) code = open_socket(c, options->path, err);
    if (code == CN_OK) code = open_thread(c, err);
    if (code != CN_OK) capture_close(&c->base);
    else *out = &c->base;
    return code;
}

void cn_nic_capture_counted(const cn_nic *nic, cn_nic_capture_counts *out)
{
    const capture *c = (const capture *)nic;
    *out = (cn_nic_capture_counts){
        .captured = atomic_load_explicit(&c->captured, memory_order_relaxed), .dropped = dropped(c),
        .has_reader = atomic_load_explicit(&c->has_reader, memory_order_relaxed)};
}
