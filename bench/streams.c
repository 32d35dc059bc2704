/* bench/streams.c: many connections that wait or stream, for bench/dataplane.
 *   bench_streams ADDRESS:PORT --connections N --hold
 *   bench_streams ADDRESS:PORT --connections N --seconds S --path '/stream?chunks=9&bytes=64&stamp=1'
 * Opens N connections and says how many it got in one JSON line. --hold keeps them until its input ends.
 * Otherwise each connection asks for the path of tests/http/echo_server, whose chunks of 64 bytes begin with the
 * time at which they were sent; prints how many came and the delay from there to here.
 *
 * Threads: one.
 * Memory:  about 100 bytes per connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/histogram.h"

enum { CHUNK_BYTES = 64, EVENT_BYTES = 4 + CHUNK_BYTES + 2, STAMP_BYTES = 16, DIALLED_MAX = 200,
       DIAL_MS = 20000 };            // "40\r\n", the chunk, "\r\n"
static const uint64_t WARM_NS = 2000000000;      // events of the first two seconds are not counted

typedef struct stream {
    int fd;
    bool is_open;
    uint32_t head_left;                      // newlines of the head that have not come
    uint32_t len;
    char part[EVENT_BYTES];
} stream;

static struct {
    stream *streams;
    uint32_t count, open_count, ended;
    int epoll_fd;
    uint64_t events, odd, count_from_ns;
    cn_clock clock;
    cn_histogram delay_ns;
    const char *path;
} the;

static int connect_to(const struct sockaddr_in *address)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Opens all, at most DIALLED_MAX under way at a time, so that no backlog overflows. */
static void open_all(const struct sockaddr_in *address)
{
    struct epoll_event events[256];
    uint32_t started = 0, settled = 0;
    const uint64_t end_ns = cn_clock_now_ns(&the.clock) + DIAL_MS * 1000000ull;
    while (settled < the.count && cn_clock_now_ns(&the.clock) < end_ns) {
        while (started < the.count && started - settled < DIALLED_MAX) {
            stream *s = &the.streams[started];
            *s = (stream){.fd = connect_to(address), .head_left = 2};
            struct epoll_event event = {.events = EPOLLOUT, .data.u32 = started++};
            if (s->fd < 0 || epoll_ctl(the.epoll_fd, EPOLL_CTL_ADD, s->fd, &event) != 0) settled++;
        }
        const int n = epoll_wait(the.epoll_fd, events, 256, 100);
        for (int i = 0; i < n; i++) {
            stream *s = &the.streams[events[i].data.u32];
            struct epoll_event event = {.events = EPOLLIN, .data.u32 = events[i].data.u32};
            epoll_ctl(the.epoll_fd, EPOLL_CTL_MOD, s->fd, &event);
            if (!(events[i].events & EPOLLOUT) || events[i].events & EPOLLERR) {
                settled += (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
                continue;
            }
            settled++;
            the.open_count++;
            s->is_open = true;
        }
    }
}

static void ask_all(void)
{
    char request[512];
    const int len = snprintf(request, sizeof request, "GET %.256s HTTP/1.1\r\nHost: bench\r\n\r\n", the.path);
    for (uint32_t i = 0; i < the.count; i++) {
        const stream *s = &the.streams[i];
        if (s->is_open && send(s->fd, request, (size_t)len, MSG_NOSIGNAL) != len) the.odd++;
    }
}

static void take_event(const char *event, uint64_t now_ns)
{
    char stamp[STAMP_BYTES + 1] = {0};
    memcpy(stamp, event + 4, STAMP_BYTES);
    char *end;
    const uint64_t sent_ns = strtoull(stamp, &end, 16);
    if (memcmp(event, "40\r\n", 4) != 0 || *end || sent_ns > now_ns) {
        the.odd++;
        return;
    }
    if (sent_ns < the.count_from_ns) return;
    the.events++;
    cn_histogram_add(&the.delay_ns, now_ns - sent_ns);
}

static void take(stream *s, const char *data, size_t len, uint64_t now_ns)
{
    while (len && s->head_left) {            // the head ends with an empty line
        s->head_left = *data == '\n' ? s->head_left - 1 : *data == '\r' ? s->head_left : 2;
        data++, len--;
    }
    while (len) {
        const size_t want = EVENT_BYTES - s->len, n = len < want ? len : want;
        memcpy(s->part + s->len, data, n);
        s->len += (uint32_t)n;
        data += n, len -= n;
        if (s->len == 5 && memcmp(s->part, "0\r\n\r\n", 5) == 0) s->len = 0;     // the last chunk
        if (s->len < EVENT_BYTES) continue;
        take_event(s->part, now_ns);
        s->len = 0;
    }
}

static void read_for(double seconds)
{
    static char buffer[1 << 16];
    struct epoll_event events[512];
    the.count_from_ns = cn_clock_now_ns(&the.clock) + WARM_NS;
    const uint64_t end_ns = the.count_from_ns + (uint64_t)(seconds * 1e9);
    for (uint64_t now_ns = 0; now_ns < end_ns && the.ended < the.open_count;) {
        const int n = epoll_wait(the.epoll_fd, events, 512, 50);
        for (int i = 0; i < n; i++) {
            stream *s = &the.streams[events[i].data.u32];
            const ssize_t got = recv(s->fd, buffer, sizeof buffer, 0);
            now_ns = cn_clock_now_ns(&the.clock);
            if (got > 0) {
                take(s, buffer, (size_t)got, now_ns);
            } else if (got == 0 || errno != EAGAIN) {
                the.ended++;
                epoll_ctl(the.epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
            }
        }
        now_ns = cn_clock_now_ns(&the.clock);
    }
}

static double delay_us(double quantile)
{
    return (double)cn_histogram_quantile(&the.delay_ns, quantile) / 1e3;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    double seconds = 5;
    bool holds = false;
    char host[64];
    const char *colon = argc > 1 ? strrchr(argv[1], ':') : NULL;
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--hold") == 0) holds = true;
        else if (strcmp(argv[i], "--connections") == 0) the.count = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--seconds") == 0) seconds = atof(value);
        else if (strcmp(argv[i], "--path") == 0) the.path = value;
    }
    if (!colon || the.count == 0 || (!holds && !the.path)) {
        fprintf(stderr, "usage: %s ADDRESS:PORT --connections N --hold | --seconds S --path P\n", argv[0]);
        return 2;
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - argv[1]), argv[1]);
    inet_pton(AF_INET, host, &address.sin_addr);
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    const struct rlimit files = {the.count + 64, the.count + 64};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) perror("bench_streams: ulimit -n");
    the.clock = cn_clock_system();
    the.streams = calloc(the.count, sizeof *the.streams);
    the.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!the.streams || the.epoll_fd < 0) return 1;
    open_all(&address);
    printf("{\"open\": %u}\n", the.open_count);
    fflush(stdout);
    if (holds) {
        char byte;
        while (read(STDIN_FILENO, &byte, 1) > 0) continue;
        return 0;
    }
    ask_all();
    read_for(seconds);
    printf("{\"events\": %llu, \"odd\": %llu, \"ended\": %u, \"p50_us\": %.0f, \"p99_us\": %.0f, "
           "\"p999_us\": %.0f, \"max_us\": %.0f}\n",
           (unsigned long long)the.events, (unsigned long long)the.odd, the.ended,
           delay_us(0.5), delay_us(0.99), delay_us(0.999), delay_us(1));
    return 0;
}
