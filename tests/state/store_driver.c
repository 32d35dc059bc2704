/* tests/state/store_driver.c: writers of conversations over a store, for tests that break the
 * servers beneath. Until SIGTERM or a count, each of a number of conversations commits one turn
 * after another (PUT_NEW of the turn, SWAP of the head), and after an unknown end reads the head
 * again, as an appliance does. Then everything is read back: every acknowledged turn must be in the
 * chain that begins at its head, at the place that it was acknowledged for. The result is one line
 * of JSON.
 *
 * Several drivers may race on the same conversations; each checks its own turns. With --acks, what
 * was acknowledged is in a file before anything else happens, so that a driver that is killed can
 * be followed by one that checks the turns of both.
 *
 *   store_driver --log ADDRESS [--acks FILE] [--durability D] [--conversations N] [--count TURNS]
 *                [--bytes N] [--deadline_ms N] [--timeout_ms N] [--password P] [--pause_us N] */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/histogram.h"
#include "state/store_redis.h"

enum { CONVERSATIONS_MAX = 256, TEXT_BYTES = 96, OPS = 2 * CONVERSATIONS_MAX };

typedef struct conversation {
    uint32_t index;
    bool busy, reading, walking;
    uint64_t rev;                    // of the head, as last seen
    char head[TEXT_BYTES];           // its value: "REV TURN"; "" for none
    char turn[TEXT_BYTES];           // of the turn that is under way, or walked to
    char next_head[TEXT_BYTES];
    char *value;                     // of the turn
    uint64_t begun_ns;
    uint64_t *acked;                 // by revision: hash of our turn's id, 0: not ours
    uint64_t acked_room, acked_max;
    cn_store_op put, swap, get;
} conversation;

typedef struct driver {
    const char *log, *acks, *durability, *password;
    FILE *ack_file;
    uint64_t run;                    // tells the turns of one run from those of others
    uint64_t conversations, count, bytes, deadline_ms, timeout_ms, pause_us;
    cn_clock clock;
    cn_store *store;
    cn_store_port *port;
    conversation all[CONVERSATIONS_MAX];
    uint64_t sequence, in_flight, started;
    uint64_t acked, unknown, conflicts, refused, lost, broken, corrupt;
    uint64_t last_ack_ns, gap_ns_max;
    cn_histogram latency_ns;
} driver;

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "store_driver: %s\n", why);
    exit(2);
}

static uint64_t now_ns(const driver *d) { return cn_clock_now_ns(&d->clock); }

static void submit(driver *d, cn_store_op *op)
{
    const uint64_t deadline = now_ns(d) + d->deadline_ms * 1000000u;
    for (cn_store_op *at = op; at; at = at->then) {
        at->deadline_ns = deadline;
        d->in_flight++;
    }
    if (!cn_store_port_submit(d->port, op)) give_up("the port is full");
}

static void read_key(driver *d, conversation *c, const char *key)
{
    c->get.kind = CN_STORE_GET;
    snprintf(c->get.key, sizeof c->get.key, "%s", key);
    c->get.user = c;
    c->busy = true;
    submit(d, &c->get);
}

static void read_head(driver *d, conversation *c)
{
    char key[TEXT_BYTES];
    snprintf(key, sizeof key, "test:head:%u", c->index);
    c->reading = true;
    read_key(d, c, key);
}

// "REV TURN" of a head; false if it is no such thing.
static bool parse_head(const char *text, uint64_t *rev, char turn[TEXT_BYTES])
{
    return sscanf(text, "%" SCNu64 " %95s", rev, turn) == 2;
}

static void commit(driver *d, conversation *c)
{
    const uint64_t sequence = ++d->sequence;
    uint64_t unused;
    char parent[TEXT_BYTES] = "-", turn[64];
    if (c->head[0]) parse_head(c->head, &unused, parent);
    snprintf(turn, sizeof turn, "%" PRIx64 "-%u-%" PRIu64, d->run, c->index, sequence);
    memcpy(c->turn, turn, sizeof turn);
    snprintf(c->next_head, sizeof c->next_head, "%" PRIu64 " %s", c->rev + 1, turn);
    const int len = snprintf(c->value, d->bytes, "%" PRIu64 " %s %s ", c->rev + 1, turn, parent);
    memset(c->value + len, 'a' + (int)(sequence % 26), d->bytes - (size_t)len);
    c->put.kind = CN_STORE_PUT_NEW;
    c->swap.kind = CN_STORE_SWAP;
    snprintf(c->put.key, sizeof c->put.key, "test:turn:%s", turn);
    snprintf(c->swap.key, sizeof c->swap.key, "test:head:%u", c->index);
    c->put.value = c->value;
    c->put.value_len = (uint32_t)d->bytes;
    c->swap.value = c->next_head;
    c->swap.value_len = (uint32_t)strlen(c->next_head);
    c->swap.expected = c->head[0] ? c->head : NULL;
    c->swap.expected_len = (uint32_t)strlen(c->head);
    c->put.then = &c->swap;
    c->put.user = c->swap.user = c;
    c->busy = true;
    c->begun_ns = now_ns(d);
    d->started++;
    submit(d, &c->put);
}

static uint64_t hash_of(const char *turn) { return XXH3_64bits(turn, strlen(turn)) | 1; }

static void remember(conversation *c, uint64_t rev, const char *turn)
{
    if (rev >= c->acked_room) {
        const uint64_t room = (rev + 1) * 2;
        c->acked = realloc(c->acked, room * sizeof *c->acked);
        if (!c->acked) give_up("no memory");
        memset(c->acked + c->acked_room, 0, (room - c->acked_room) * sizeof *c->acked);
        c->acked_room = room;
    }
    c->acked[rev] = hash_of(turn);
    if (rev > c->acked_max) c->acked_max = rev;
}

static void acknowledged(driver *d, conversation *c)
{
    remember(c, c->rev, c->turn);
    if (d->ack_file) fprintf(d->ack_file, "%u %" PRIu64 " %s\n", c->index, c->rev, c->turn);
    d->acked++;
    const uint64_t now = now_ns(d);
    if (d->last_ack_ns && now - d->last_ack_ns > d->gap_ns_max)
        d->gap_ns_max = now - d->last_ack_ns;
    d->last_ack_ns = now;
    cn_histogram_add(&d->latency_ns, now - c->begun_ns);
}

// What earlier runs were told.
static void open_acks(driver *d)
{
    uint32_t index;
    uint64_t rev;
    char turn[TEXT_BYTES];
    if (!d->acks) return;
    d->ack_file = fopen(d->acks, "a+");
    if (!d->ack_file) give_up(d->acks);
    while (fscanf(d->ack_file, "%u %" SCNu64 " %95s\n", &index, &rev, turn) == 3) {
        if (index < d->conversations) remember(&d->all[index], rev, turn);
    }
    setvbuf(d->ack_file, NULL, _IOLBF, 0);
}

static void committed(driver *d, conversation *c)
{
    c->busy = false;
    if (c->swap.code == CN_OK) {
        memcpy(c->head, c->next_head, sizeof c->head);
        c->rev++;
        acknowledged(d, c);
        return;
    }
    if (c->swap.code == CN_E_STORE) d->unknown++;
    else if (c->swap.code == CN_E_CONFLICT) d->conflicts++;
    else if (c->swap.code == CN_E_STORE_FULL) d->refused++;
    else d->corrupt++;
    c->reading = true;               // what is the head now?
}

static void head_was_read(driver *d, conversation *c)
{
    c->busy = false;
    if (c->get.code == CN_E_STORE) return;       // again
    c->reading = false;
    c->head[0] = '\0';
    c->rev = 0;
    if (c->get.code == CN_E_NOT_FOUND) return;
    const size_t len = c->get.reply.len < TEXT_BYTES - 1 ? c->get.reply.len : TEXT_BYTES - 1;
    memcpy(c->head, c->get.reply.data, len);
    c->head[len] = '\0';
    char turn[TEXT_BYTES];
    if (c->get.code != CN_OK || !parse_head(c->head, &c->rev, turn)) d->corrupt++;
}

// ---- reading back

static void begin_walk(driver *d, conversation *c)
{
    c->walking = true;
    if (c->rev < c->acked_max) {
        d->lost += c->acked_max - c->rev;
        fprintf(stderr, "store_driver: head %u is at %" PRIu64 ", acknowledged %" PRIu64 "\n",
                c->index, c->rev, c->acked_max);
    }
    if (!c->head[0]) return;
    char key[TEXT_BYTES + 16];
    uint64_t rev;
    parse_head(c->head, &rev, c->turn);
    snprintf(key, sizeof key, "test:turn:%s", c->turn);
    read_key(d, c, key);
}

static void walked(driver *d, conversation *c)
{
    char id[TEXT_BYTES] = "", parent[TEXT_BYTES] = "", key[TEXT_BYTES + 16];
    uint64_t rev = 0;
    c->busy = false;
    if (c->get.code == CN_E_STORE) {             // again
        snprintf(key, sizeof key, "test:turn:%s", c->turn);
        read_key(d, c, key);
        return;
    }
    cn_buf_add_char(&c->get.reply, '\0');
    const bool whole = c->get.code == CN_OK && c->get.reply.len == d->bytes + 1 &&
                       sscanf(c->get.reply.data, "%" SCNu64 " %95s %95s", &rev, id, parent) == 3 &&
                       rev == c->rev && strcmp(id, c->turn) == 0;
    if (!whole) {
        fprintf(stderr, "store_driver: turn %s (head %u, revision %" PRIu64 ") is not whole\n",
                c->turn, c->index, c->rev);
        d->broken++;
        d->lost += c->rev;           // nothing below can be reached
        return;
    }
    const uint64_t mine = c->rev < c->acked_room ? c->acked[c->rev] : 0;
    if (mine && mine != hash_of(id)) {
        fprintf(stderr,
                "store_driver: %s is at revision %" PRIu64 " of head %u, where another one was "
                "acknowledged\n",
                id, c->rev, c->index);
        d->lost++;
    }
    c->rev--;
    if (strcmp(parent, "-") == 0) {
        d->broken += c->rev != 0;
        return;
    }
    snprintf(c->turn, sizeof c->turn, "%.95s", parent);
    snprintf(key, sizeof key, "test:turn:%s", c->turn);
    read_key(d, c, key);
}

// ---- rounds

static void take_completions(driver *d)
{
    for (cn_store_op *op; (op = cn_store_port_next(d->port));) {
        conversation *c = op->user;
        d->in_flight--;
        if (op == &c->get && c->walking) walked(d, c);
        else if (op == &c->get) head_was_read(d, c);
        else if (op == &c->swap) committed(d, c);
    }
}

static bool enough(const driver *d) { return stop || (d->count && d->started >= d->count); }

static void write_turns(driver *d)
{
    uint64_t next_ns = 0, first = 0;             // the first one that is looked at changes
    while (!enough(d) || d->in_flight > 0) {
        first++;
        for (uint64_t i = 0; i < d->conversations && !enough(d); i++) {
            conversation *c = &d->all[(first + i) % d->conversations];
            if (c->busy) continue;
            if (d->pause_us && now_ns(d) < next_ns && !c->reading) continue;
            if (c->reading) read_head(d, c);
            else commit(d, c);
            next_ns = now_ns(d) + d->pause_us * 1000;
        }
        d->store->ops->poll(d->store, d->pause_us ? d->pause_us * 1000 : 1000000);
        take_completions(d);
    }
}

static void read_back(driver *d)
{
    // First the heads as they are now, then the chains behind them.
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < d->conversations; i++) {
            conversation *c = &d->all[i];
            if (!c->busy && !c->walking && !c->reading) begin_walk(d, c);
            if (!c->busy && c->reading) read_head(d, c);
            more = more || c->busy || !c->walking;
        }
        d->store->ops->poll(d->store, 1000000);
        take_completions(d);
    }
}

static void read_arguments(driver *d, int argc, char **argv)
{
    const struct {
        const char *name;
        const char **text;
        uint64_t *number;
    } known[] = {
        {"--log", &d->log, NULL},
        {"--acks", &d->acks, NULL},
        {"--durability", &d->durability, NULL},
        {"--password", &d->password, NULL},
        {"--conversations", NULL, &d->conversations},
        {"--count", NULL, &d->count},
        {"--bytes", NULL, &d->bytes},
        {"--deadline_ms", NULL, &d->deadline_ms},
        {"--timeout_ms", NULL, &d->timeout_ms},
        {"--pause_us", NULL, &d->pause_us},
    };
    for (int i = 1; i + 1 < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(known[k].name, argv[i]) != 0) k++;
        if (k == sizeof known / sizeof *known) give_up(argv[i]);
        if (known[k].text) *known[k].text = argv[i + 1];
        else *known[k].number = strtoull(argv[i + 1], NULL, 10);
    }
    if (!d->log || d->conversations > CONVERSATIONS_MAX || d->bytes < 2 * TEXT_BYTES)
        give_up("arguments");
}

static void open_store(driver *d)
{
    cn_err err = {0};
    const cn_store_redis_options options = {
        .log = d->log, .pages = "", .user = "", .password = d->password,
        .durability = (cn_durability)cn_store_durability_parse(d->durability), .port_count = 1,
        .op_max = OPS, .connection_count = 12, .log_timeout_ns = d->timeout_ms * 1000000u,
        .page_timeout_ns = 1000000000, .clock = d->clock, .random = cn_random_system(),
    };
    if (cn_store_redis_open(&options, &d->store, &err) != CN_OK) give_up(err.text);
    d->port = cn_store_port_at(d->store, 0);
}

int main(int argc, char **argv)
{
    static driver d = {.durability = "fsync", .password = "", .conversations = 16,
                       .bytes = 2048, .deadline_ms = 5000, .timeout_ms = 2000};
    d.clock = cn_clock_system();
    read_arguments(&d, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    open_store(&d);
    const cn_random random = cn_random_system();
    d.run = cn_random_u64(&random);
    open_acks(&d);
    for (uint32_t i = 0; i < d.conversations; i++) {
        conversation *c = &d.all[i];
        c->index = i;
        c->value = malloc(d.bytes + 1);
        if (!c->value) give_up("no memory");
        c->reading = true;           // there may be turns from before
        cn_buf_init(&c->get.reply, 1 << 20);
        cn_buf_init(&c->put.reply, 1 << 20);
        cn_buf_init(&c->swap.reply, 1 << 20);
    }
    printf("ready\n");
    fflush(stdout);
    const uint64_t start_ns = now_ns(&d);
    write_turns(&d);
    const double seconds = (double)(now_ns(&d) - start_ns) / 1e9;
    for (uint32_t i = 0; i < d.conversations; i++) d.all[i].reading = true;
    read_back(&d);
    printf("{\"acked\": %" PRIu64 ", \"unknown\": %" PRIu64 ", \"conflicts\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"broken\": %" PRIu64
           ", \"corrupt\": %" PRIu64 ", \"gap_ms\": %" PRIu64 ", \"p50_us\": %" PRIu64
           ", \"p99_us\": %" PRIu64 ", \"per_s\": %.0f}\n",
           d.acked, d.unknown, d.conflicts, d.refused, d.lost, d.broken, d.corrupt,
           d.gap_ns_max / 1000000, cn_histogram_quantile(&d.latency_ns, 0.5) / 1000,
           cn_histogram_quantile(&d.latency_ns, 0.99) / 1000, (double)d.acked / seconds);
    for (uint32_t i = 0; i < d.conversations; i++) {
        conversation *c = &d.all[i];
        free(c->value);
        free(c->acked);
        cn_buf_close(&c->get.reply);
        cn_buf_close(&c->put.reply);
        cn_buf_close(&c->swap.reply);
    }
    d.store->ops->close(d.store);
    if (d.ack_file) fclose(d.ack_file);
    return d.lost || d.broken || d.corrupt ? 1 : 0;
}
