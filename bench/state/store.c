/* bench/state/store.c: what the store costs, beside what the disk and a bare client cost.
 *
 *   bench_store sync DIRECTORY                    one append of 2 KB and one fdatasync, 1,000 times
 *   bench_store commits ADDRESS IN_FLIGHT SECONDS a turn of 2 KB, then its head, both acknowledged
 *   bench_store pages ADDRESS PAGE_BYTES SECONDS  pages out and in by the store, and by a client
 * that does nothing but pipeline SET and GET; in turns Each prints one line of JSON. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/histogram.h"
#include "state/store_redis.h"

enum { RECORD_BYTES = 2048, IN_FLIGHT_MAX = 256, DEPTH = 8, KEYS = 64, ROUNDS = 4 };

static cn_clock clock_;
static cn_histogram latency;

static uint64_t now_ns(void) { return cn_clock_now_ns(&clock_); }

static _Noreturn void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static void check(const cn_store_op *op)
{
    if (op->code == CN_OK) return;
    fprintf(stderr, "bench_store: an operation failed: %s\n", cn_err_info(op->code)->name);
    exit(1);
}

static double quantile_us(double q) { return (double)cn_histogram_quantile(&latency, q) / 1000; }

// ---- the disk

static void measure_sync(const char *directory)
{
    char path[512];
    static const char record[RECORD_BYTES];
    snprintf(path, sizeof path, "%s/sync", directory);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) give_up(path);
    for (int i = 0; i < 1000; i++) {
        const uint64_t start = now_ns();
        if (write(fd, record, sizeof record) != (ssize_t)sizeof record || fdatasync(fd) != 0)
            give_up(path);
        cn_histogram_add(&latency, now_ns() - start);
    }
    close(fd);
    unlink(path);
    printf("{\"sync_us_p50\": %.0f, \"sync_us_p99\": %.0f}\n", quantile_us(0.5), quantile_us(0.99));
}

// ---- the store

static cn_store *open_store(const char *log, const char *pages, uint64_t page_bytes)
{
    cn_store *store;
    cn_err err;
    cn_store_state state;
    const cn_store_redis_options options = {
        .log = log,
        .pages = pages,
        .user = "",
        .password = "",
        .durability = CN_DURABILITY_FSYNC,
        .page_bytes = page_bytes,
        .port_count = 1,
        .op_max = 2 * IN_FLIGHT_MAX,
        .connection_count = 12,
        .log_timeout_ns = 2000000000,
        .page_timeout_ns = 2000000000,
        .clock = clock_,
        .random = cn_random_system(),
    };
    if (cn_store_redis_open(&options, &store, &err) != CN_OK) {
        fprintf(stderr, "bench_store: %s\n", err.text);
        exit(1);
    }
    const uint64_t end = now_ns() + 5000000000u;
    do {
        store->ops->poll(store, 10000000);
        store->ops->state(store, &state);
        if (now_ns() > end) {
            fprintf(stderr, "bench_store: %s\n", state.text);
            exit(1);
        }
    } while (log[0] ? !state.log_up : !state.pages_up);
    return store;
}

typedef struct conversation {
    cn_store_op turn, head;
    char from[16], to[16];
    uint64_t rev, begun_ns;
} conversation;

static void commit(cn_store_port *port, conversation *c, int index)
{
    static char record[RECORD_BYTES];
    c->rev++;
    memcpy(c->from, c->to, sizeof c->from);
    snprintf(c->to, sizeof c->to, "%" PRIu64, c->rev);
    snprintf(c->turn.key, sizeof c->turn.key, "bench:turn:%d:%d:%" PRIu64, (int)getpid(), index,
             c->rev);
    snprintf(c->head.key, sizeof c->head.key, "bench:head:%d:%d", (int)getpid(), index);
    c->turn.kind = CN_STORE_PUT_NEW;
    c->turn.value = record;
    c->turn.value_len = RECORD_BYTES;
    c->turn.life_ms = c->head.life_ms = 60000;
    c->head.kind = CN_STORE_SWAP;
    c->head.value = c->to;
    c->head.value_len = (uint32_t)strlen(c->to);
    c->head.expected = c->rev > 1 ? c->from : NULL;
    c->head.expected_len = (uint32_t)strlen(c->from);
    c->turn.then = &c->head;
    c->head.user = c;
    c->begun_ns = now_ns();
    c->turn.deadline_ns = c->head.deadline_ns = c->begun_ns + 10000000000u;
    if (!cn_store_port_submit(port, &c->turn)) give_up("submit");
}

static void measure_commits(const char *address, int in_flight, double seconds)
{
    static conversation all[IN_FLIGHT_MAX];
    cn_store *store = open_store(address, "", 16);
    cn_store_port *port = cn_store_port_at(store, 0);
    uint64_t commits = 0;
    const uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < in_flight; i++) commit(port, &all[i], i);
    for (int busy = in_flight; busy > 0;) {
        store->ops->poll(store, 1000000);
        for (cn_store_op *op; (op = cn_store_port_next(port));) {
            conversation *c = op->user;
            if (!c) continue;                    // a turn; its head follows
            check(op);
            cn_histogram_add(&latency, now_ns() - c->begun_ns);
            commits++;
            if (now_ns() < end) commit(port, c, (int)(c - all));
            else busy--;
        }
    }
    printf("{\"in_flight\": %d, \"commits_per_s\": %.0f, \"commit_us_p50\": %.0f, "
           "\"commit_us_p99\": %.0f}\n",
           in_flight, (double)commits * 1e9 / (double)(now_ns() - start), quantile_us(0.5),
           quantile_us(0.99));
    store->ops->close(store);
}

// ---- pages, by the store

typedef struct traffic {
    char *pages[DEPTH];
    uint64_t page_bytes, done;
    bool puts;
} traffic;

static void move_pages(cn_store *store, traffic *t, double seconds)
{
    static cn_store_op ops[DEPTH];
    cn_store_port *port = cn_store_port_at(store, 0);
    uint32_t next = 0;
    const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    int busy = 0;
    for (int i = 0; i < DEPTH; i++) {
        ops[i] = (cn_store_op){.kind = t->puts ? CN_STORE_PAGE_PUT : CN_STORE_PAGE_GET,
                               .page = t->pages[i]};
        ops[i].page_key.bytes[0] = (uint8_t)(next++ % KEYS);
        ops[i].deadline_ns = now_ns() + 10000000000u;
        busy += cn_store_port_submit(port, &ops[i]);
    }
    while (busy > 0) {
        store->ops->poll(store, 1000000);
        for (cn_store_op *op; (op = cn_store_port_next(port));) {
            check(op);
            t->done++;
            op->page_key.bytes[0] = (uint8_t)(next++ % KEYS);
            op->deadline_ns = now_ns() + 10000000000u;
            if (now_ns() >= end || !cn_store_port_submit(port, op)) busy--;
        }
    }
}

// ---- pages, by a client that does nothing else

static int connect_bare(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const int bytes = 1 << 20, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) give_up(path);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    return fd;
}

static void send_all(int fd, struct iovec *iov, int count)
{
    while (count > 0) {
        ssize_t sent = writev(fd, iov, count);
        if (sent < 0) give_up("writev");
        for (; count > 0 && (size_t)sent >= iov->iov_len; iov++, count--)
            sent -= (ssize_t)iov->iov_len;
        if (count > 0) {
            iov->iov_base = (char *)iov->iov_base + sent;
            iov->iov_len -= (size_t)sent;
        }
    }
}

static void receive_all(int fd, char *to, size_t len)
{
    if (recv(fd, to, len, MSG_WAITALL) != (ssize_t)len) give_up("recv");
}

static void ask_bare(int fd, traffic *t, uint32_t n)
{
    char head[128];
    const int len =
        t->puts
            ? snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$7\r\nbare:%02u\r\n$%" PRIu64 "\r\n",
                       n % KEYS, t->page_bytes)
            : snprintf(head, sizeof head, "*2\r\n$3\r\nGET\r\n$7\r\nbare:%02u\r\n", n % KEYS);
    char end[] = "\r\n";
    struct iovec iov[] = {{head, (size_t)len}, {t->pages[n % DEPTH], t->page_bytes}, {end, 2}};
    send_all(fd, iov, t->puts ? 3 : 1);
}

static void hear_bare(int fd, traffic *t, uint32_t n)
{
    char line[32];
    const int head = t->puts ? 5 : snprintf(line, sizeof line, "$%" PRIu64 "\r\n", t->page_bytes);
    receive_all(fd, line, (size_t)head);
    if (line[0] != (t->puts ? '+' : '$')) give_up("an answer");
    if (t->puts) return;
    receive_all(fd, t->pages[n % DEPTH], t->page_bytes);
    receive_all(fd, line, 2);
}

static void move_bare(const char *path, traffic *t, double seconds)
{
    const int fd = connect_bare(path);
    const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    uint32_t asked = 0, heard = 0;
    while (asked < DEPTH) ask_bare(fd, t, asked++);
    while (heard < asked) {
        hear_bare(fd, t, heard++);
        t->done++;
        if (now_ns() < end) ask_bare(fd, t, asked++);
    }
    close(fd);
}

static double cpu_s(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

// Ways and directions take turns, so that a busy machine slows down all of them; the best round
// counts.
static void measure_pages(const char *address, uint64_t page_bytes, double seconds)
{
    double best[2][2] = {{0}}, least[2][2] = {{1e9, 1e9}, {1e9, 1e9}}; // GB/s; CPU seconds per GB
    traffic t = {.page_bytes = page_bytes};
    cn_store *store = open_store("", address, page_bytes);
    for (int i = 0; i < DEPTH; i++) {
        t.pages[i] = malloc(page_bytes);
        if (!t.pages[i]) give_up("malloc");
        memset(t.pages[i], i + 1, page_bytes);
    }
    for (int round = 0; round < ROUNDS * 4; round++) {
        const int bare = round % 2, gets = round / 2 % 2;
        t.puts = !gets;
        const uint64_t start = now_ns();
        const double cpu_start = cpu_s();
        t.done = 0;
        if (bare) move_bare(address + strlen("unix:"), &t, seconds / ROUNDS);
        else move_pages(store, &t, seconds / ROUNDS);
        const double gigabytes = (double)(t.done * t.page_bytes) / 1e9;
        const double rate = gigabytes * 1e9 / (double)(now_ns() - start),
                     cost = (cpu_s() - cpu_start) / gigabytes;
        if (rate > best[bare][gets]) best[bare][gets] = rate;
        if (cost < least[bare][gets]) least[bare][gets] = cost;
    }
    printf("{\"page_bytes\": %" PRIu64, page_bytes);
    for (int gets = 0; gets < 2; gets++) {
        const char *name = gets ? "get" : "put";
        printf(", \"%s_gb_per_s\": %.2f, \"%s_bare\": %.2f, \"%s_share\": %.2f, "
               "\"%s_cpu_s_per_gb\": %.3f, "
               "\"%s_bare_cpu\": %.3f",
               name, best[0][gets], name, best[1][gets], name, best[0][gets] / best[1][gets], name,
               least[0][gets], name, least[1][gets]);
    }
    printf("}\n");
    for (int i = 0; i < DEPTH; i++) free(t.pages[i]);
    store->ops->close(store);
}

int main(int argc, char **argv)
{
    clock_ = cn_clock_system();
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "sync") == 0) {
        measure_sync(argv[2]);
    } else if (argc == 5 && strcmp(argv[1], "commits") == 0 && atoi(argv[3]) <= IN_FLIGHT_MAX) {
        measure_commits(argv[2], atoi(argv[3]), atof(argv[4]));
    } else if (argc == 5 && strcmp(argv[1], "pages") == 0 && strncmp(argv[2], "unix:", 5) == 0) {
        measure_pages(argv[2], strtoull(argv[3], NULL, 10), atof(argv[4]));
    } else {
        fprintf(stderr, "usage: bench_store sync DIRECTORY | commits ADDRESS IN_FLIGHT SECONDS | "
                        "pages unix:PATH PAGE_BYTES SECONDS\n");
        return 2;
    }
    return 0;
}
