#include "state/redis_lane_int.h"

#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"

/* How it works. Requests wait, are written one after another (at most CN_REDIS_LANE_WINDOW ahead of
 * their replies), and are answered in that order:
 *
 *    waiting: [being written] [..] [..]      sent: [being answered] [..] [..]
 *
 * Writing a page: RESP head and blob header from `head`, the page from its memory, checksum and CR
 * LF from `tail`, all by one sendmsg where the socket takes it. The checksum runs PIECE_BYTES ahead
 * of what is written, so that a page passes the cache once.
 *
 * Reading: small things come through `buffer`. While a page is read, what is in the buffer is moved
 * and the rest is read straight into page memory, with the buffer behind it for what follows: of a
 * page of 2 MiB less than one in a hundred bytes is copied.
 *
 * Page memory belongs to its user again as soon as the operation is given back. A read that is late
 * goes on into the buffer and is thrown away; a write of which a part has left cannot go on without
 * its memory, so the connection ends with it.
 *
 * Nothing is repeated here: a page that was not stored or not found is computed again. While a
 * server is away, requests fail at once and do not wait for it. */

enum { PIECE_BYTES = 256 * 1024, ROUND_BYTES = 1024 * 1024, SOCKET_BYTES = 1024 * 1024 };
enum { BLOB_VERSION = 1, CHECKSUM_BYTES = 8, END_BYTES = CHECKSUM_BYTES + 2 };
static const uint64_t PAUSE_MIN_NS = 10000000, PAUSE_MAX_NS = 1000000000;
static const char key_prefix[] = "cairn:page:";
static const char blob_magic[4] = {'C', 'N', 'p', 'g'};

// ---- lists

static void push(cn_redis_page_list *list, cn_redis_page_request *r)
{
    r->next = NULL;
    if (list->last) list->last->next = r;
    else list->first = r;
    list->last = r;
    list->count++;
}

static cn_redis_page_request *pop(cn_redis_page_list *list)
{
    cn_redis_page_request *r = list->first;
    list->first = r->next;
    if (!r->next) list->last = NULL;
    list->count--;
    return r;
}

// A request that has left both lists.
static void finish(cn_redis_lane *lane, cn_redis_page_request *r, cn_code code, bool corrupt)
{
    if (r->kind == CN_REDIS_PAGE_GREETING) return;
    lane->options.done(lane->options.self, r, code, corrupt);
    lane->options.over(lane->options.self, r);
}

static void break_lane(cn_redis_lane *lane, const char *why)
{
    if (!lane->broken) snprintf(lane->why, sizeof lane->why, "%s", why);
    lane->broken = true;
}

// ---- life

cn_code cn_redis_lane_open(cn_redis_lane *lane, const cn_redis_lane_options *options)
{
    *lane = (cn_redis_lane){.options = *options, .fd = -1};
    lane->out_hash = XXH3_createState();
    lane->in_hash = XXH3_createState();
    return lane->out_hash && lane->in_hash ? CN_OK : CN_E_MEMORY;
}

static void disconnect(cn_redis_lane *lane)
{
    if (lane->fd >= 0) close(lane->fd);
    lane->fd = -1;
    lane->state = CN_REDIS_DOWN;
    lane->connecting = lane->broken = lane->blocked = lane->in_corrupt = false;
    lane->head_len = lane->head_at = lane->tail_at = 0;
    lane->reading = CN_REDIS_READ_LINE;
    lane->buffer_at = lane->buffer_len = 0;
}

void cn_redis_lane_close(cn_redis_lane *lane)
{
    disconnect(lane);
    XXH3_freeState(lane->out_hash);
    XXH3_freeState(lane->in_hash);
    lane->out_hash = lane->in_hash = NULL;
}

static void fall(cn_redis_lane *lane, uint64_t now)
{
    const cn_redis_settings *s = lane->options.settings;
    if (lane->state == CN_REDIS_UP && s->metrics) cn_metrics_add(&s->metrics->store_reconnects, 1);
    disconnect(lane);
    lane->pause_ns = lane->pause_ns ? lane->pause_ns * 2 : PAUSE_MIN_NS;
    if (lane->pause_ns > PAUSE_MAX_NS) lane->pause_ns = PAUSE_MAX_NS;
    lane->again_ns = now + lane->pause_ns / 2 + cn_random_u64(&s->random) % (lane->pause_ns / 2);
    while (lane->sent.count) finish(lane, pop(&lane->sent), CN_E_STORE, false);
    while (lane->waiting.count) finish(lane, pop(&lane->waiting), CN_E_STORE, false);
}

static void set_options(int fd, bool tcp)
{
    const int one = 1, bytes = SOCKET_BYTES;
    // The system may give less; it is a matter of speed alone.
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void open_socket(cn_redis_lane *lane, int family, const struct sockaddr *to, socklen_t len)
{
    lane->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (lane->fd < 0) {
        break_lane(lane, strerror(errno));
        return;
    }
    set_options(lane->fd, family != AF_UNIX);
    if (connect(lane->fd, to, len) == 0) return;
    if (errno == EINPROGRESS) lane->connecting = true;
    else break_lane(lane, strerror(errno));
}

static void begin_connecting(cn_redis_lane *lane)
{
    const cn_redis_address *a = lane->options.address;
    lane->state = CN_REDIS_GREETING;
    lane->why[0] = '\0';
    if (a->port == 0) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        memcpy(to.sun_path, a->host, strlen(a->host) + 1);
        open_socket(lane, AF_UNIX, (struct sockaddr *)&to, sizeof to);
        return;
    }
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    snprintf(port, sizeof port, "%u", (unsigned)a->port);
    const int failure = getaddrinfo(a->host, port, &hints, &found);
    if (failure) {
        break_lane(lane, gai_strerror(failure));
        return;
    }
    open_socket(lane, found->ai_family, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
}

static void add_greetings(cn_redis_lane *lane)
{
    const uint32_t count = 1 + (lane->options.settings->password[0] != '\0') +
                           (lane->options.settings->database != 0);
    // At the front: what already waits is behind the greeting.
    for (uint32_t i = count; i-- > 0;) {
        cn_redis_page_request *r = &lane->greetings[i];
        *r = (cn_redis_page_request){.kind = CN_REDIS_PAGE_GREETING, .next = lane->waiting.first};
        lane->waiting.first = r;
        if (!lane->waiting.last) lane->waiting.last = r;
        lane->waiting.count++;
    }
}

// ---- writing

static uint32_t write_words(char *out, size_t room, const char *const *words, uint32_t count)
{
    size_t len = (size_t)snprintf(out, room, "*%u\r\n", count);
    for (uint32_t i = 0; i < count && len < room; i++)
        len +=
            (size_t)snprintf(out + len, room - len, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    return len < room ? (uint32_t)len : 0;
}

// AUTH if there is a password, SELECT if there is a database, PING.
static uint32_t write_greeting(cn_redis_lane *lane, const cn_redis_page_request *r)
{
    const cn_redis_settings *s = lane->options.settings;
    uint32_t index = (uint32_t)(r - lane->greetings);
    char database[16];
    if (s->password[0] && index-- == 0) {
        const char *words[] = {"AUTH", s->user, s->password};
        if (s->user[0]) return write_words(lane->head, sizeof lane->head, words, 3);
        words[1] = s->password;
        return write_words(lane->head, sizeof lane->head, words, 2);
    }
    if (s->database && index-- == 0) {
        snprintf(database, sizeof database, "%u", s->database);
        return write_words(lane->head, sizeof lane->head, (const char *[]){"SELECT", database}, 2);
    }
    return write_words(lane->head, sizeof lane->head, (const char *[]){"PING"}, 1);
}

static void write_key(const cn_page_key *key, char out[sizeof key_prefix + 2 * CN_KEY_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    memcpy(out, key_prefix, sizeof key_prefix);
    char *at = out + sizeof key_prefix - 1;
    for (int i = 0; i < CN_KEY_BYTES; i++) {
        *at++ = hex[key->bytes[i] >> 4];
        *at++ = hex[key->bytes[i] & 15];
    }
    *at = '\0';
}

static cn_redis_blob blob_of(const cn_redis_lane *lane, const cn_page_key *key)
{
    cn_redis_blob blob = {.version = htole32(BLOB_VERSION),
                          .page_bytes = htole64(lane->options.page_bytes)};
    memcpy(blob.magic, blob_magic, sizeof blob.magic);
    memcpy(blob.key, key->bytes, sizeof blob.key);
    return blob;
}

static uint64_t blob_bytes(const cn_redis_lane *lane)
{
    return sizeof(cn_redis_blob) + lane->options.page_bytes + CHECKSUM_BYTES;
}

static void begin_request(cn_redis_lane *lane, const cn_redis_page_request *r)
{
    char key[sizeof key_prefix + 2 * CN_KEY_BYTES];
    write_key(&r->key, key);
    lane->head_at = lane->tail_at = 0;
    lane->out_at = lane->out_hashed = 0;
    switch (r->kind) {
    case CN_REDIS_PAGE_GREETING: lane->head_len = write_greeting(lane, r); break;
    case CN_REDIS_PAGE_GET:
        lane->head_len =
            write_words(lane->head, sizeof lane->head, (const char *[]){"GET", key}, 2);
        break;
    case CN_REDIS_PAGE_UNLINK:
        lane->head_len =
            write_words(lane->head, sizeof lane->head, (const char *[]){"UNLINK", key}, 2);
        break;
    case CN_REDIS_PAGE_PUT: {
        const cn_redis_blob blob = blob_of(lane, &r->key);
        const int len =
            snprintf(lane->head, sizeof lane->head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%llu\r\n",
                     strlen(key), key, (unsigned long long)blob_bytes(lane));
        CN_ASSERT((size_t)len + sizeof blob <= sizeof lane->head);
        memcpy(lane->head + len, &blob, sizeof blob);
        lane->head_len = (uint32_t)len + (uint32_t)sizeof blob;
        XXH3_64bits_reset(lane->out_hash);
        XXH3_64bits_update(lane->out_hash, &blob, sizeof blob);
    }
    }
    if (lane->head_len == 0) break_lane(lane, "state.password_file: the password is too long");
}

// Lets the checksum run ahead of what is written, and makes the tail when it has seen everything.
static void hash_ahead(cn_redis_lane *lane, const char *page)
{
    const uint64_t bytes = lane->options.page_bytes;
    if (lane->out_hashed == bytes || lane->out_hashed > lane->out_at) return;
    const uint64_t piece =
        bytes - lane->out_hashed < PIECE_BYTES ? bytes - lane->out_hashed : PIECE_BYTES;
    XXH3_64bits_update(lane->out_hash, page + lane->out_hashed, piece);
    lane->out_hashed += piece;
    if (lane->out_hashed < bytes) return;
    const uint64_t sum = htole64(XXH3_64bits_digest(lane->out_hash));
    memcpy(lane->tail, &sum, CHECKSUM_BYTES);
    memcpy(lane->tail + CHECKSUM_BYTES, "\r\n", 2);
}

// One sendmsg of the request at the front; false if the socket takes no more, or broke.
static bool write_some(cn_redis_lane *lane, cn_redis_page_request *r)
{
    const bool is_put = r->kind == CN_REDIS_PAGE_PUT;
    const uint64_t bytes = lane->options.page_bytes;
    char *page = is_put ? r->op->page : NULL;
    if (is_put) hash_ahead(lane, page);
    struct iovec iov[3];
    struct msghdr message = {.msg_iov = iov};
    if (lane->head_at < lane->head_len)
        iov[message.msg_iovlen++] =
            (struct iovec){lane->head + lane->head_at, lane->head_len - lane->head_at};
    if (is_put && lane->out_at < lane->out_hashed)
        iov[message.msg_iovlen++] =
            (struct iovec){page + lane->out_at, lane->out_hashed - lane->out_at};
    if (is_put && lane->out_hashed == bytes)
        iov[message.msg_iovlen++] =
            (struct iovec){lane->tail + lane->tail_at, END_BYTES - lane->tail_at};
    const ssize_t got = sendmsg(lane->fd, &message, MSG_NOSIGNAL);
    if (got < 0) {
        lane->blocked = errno == EAGAIN || errno == EINTR;
        if (!lane->blocked) break_lane(lane, strerror(errno));
        return false;
    }
    uint64_t left = (uint64_t)got;
    const uint64_t head =
        left < lane->head_len - lane->head_at ? left : lane->head_len - lane->head_at;
    lane->head_at += (uint32_t)head;
    left -= head;
    const uint64_t body =
        left < lane->out_hashed - lane->out_at ? left : lane->out_hashed - lane->out_at;
    lane->out_at += body;
    lane->tail_at += (uint32_t)(left - body);
    return true;
}

static bool write_lane(cn_redis_lane *lane)
{
    bool wrote = false;
    const uint64_t round_max = ROUND_BYTES / PIECE_BYTES;        // others want their turn
    for (uint64_t round = 0; round < round_max && !lane->broken && !lane->connecting &&
                             !lane->blocked && lane->waiting.count &&
                             lane->sent.count < CN_REDIS_LANE_WINDOW;) {
        cn_redis_page_request *r = lane->waiting.first;
        if (lane->state == CN_REDIS_GREETING && r->kind != CN_REDIS_PAGE_GREETING) break;
        if (lane->head_len == 0) begin_request(lane, r);
        if (lane->broken || !write_some(lane, r)) break;
        round += r->kind == CN_REDIS_PAGE_PUT;
        wrote = true;
        const bool whole = lane->head_at == lane->head_len &&
                           (r->kind != CN_REDIS_PAGE_PUT || lane->tail_at == END_BYTES);
        if (!whole) continue;
        lane->head_len = 0;
        push(&lane->sent, pop(&lane->waiting));
    }
    return wrote;
}

// ---- reading

static void answered(cn_redis_lane *lane, cn_code code, bool corrupt)
{
    cn_redis_page_request *r = pop(&lane->sent);
    lane->reading = CN_REDIS_READ_LINE;
    lane->in_corrupt = false;
    if (r->kind == CN_REDIS_PAGE_GREETING) {
        const bool last = !lane->sent.count && (!lane->waiting.count || lane->waiting.first->kind !=
                                                                            CN_REDIS_PAGE_GREETING);
        if (last) lane->state = CN_REDIS_UP;
    } else {
        lane->pause_ns = 0;          // it does its work: the next pause begins small
    }
    finish(lane, r, code, corrupt);
}

// A value that is not a blob of ours is read to its end and forgotten.
static void skip_value(cn_redis_lane *lane, uint64_t bytes)
{
    lane->reading = CN_REDIS_READ_SKIP;
    lane->skip_bytes = bytes;
    lane->in_corrupt = true;
}

static void read_error(cn_redis_lane *lane, const cn_redis_page_request *r, const char *line)
{
    if (r->kind == CN_REDIS_PAGE_GREETING) {
        break_lane(lane, line + 1);
    } else if (strncmp(line, "-WRONGTYPE", 10) == 0) {
        answered(lane, CN_E_NOT_FOUND, true);
    } else if (strncmp(line, "-OOM", 4) == 0) {
        answered(lane, CN_E_STORE_FULL, false);
    } else {
        const bool away = strncmp(line, "-NOAUTH", 7) == 0 || strncmp(line, "-READONLY", 9) == 0 ||
                          strncmp(line, "-LOADING", 8) == 0;
        answered(lane, CN_E_STORE, false);
        if (away) break_lane(lane, line + 1);
    }
}

static void read_line(cn_redis_lane *lane, const char *line)
{
    const cn_redis_page_request *r = lane->sent.first;
    char *end;
    if (!r) {
        break_lane(lane, "an answer without a question");
    } else if (line[0] == '-') {
        read_error(lane, r, line);
    } else if (line[0] == '$' && r->kind == CN_REDIS_PAGE_GET) {
        const long long bytes = strtoll(line + 1, &end, 10);
        if (bytes == -1) {
            answered(lane, CN_E_NOT_FOUND, false);
        } else if (bytes < 0 || *end) {
            break_lane(lane, "an answer that is not RESP");
        } else if ((uint64_t)bytes != blob_bytes(lane)) {
            skip_value(lane, (uint64_t)bytes + 2);
        } else {
            lane->reading = CN_REDIS_READ_BLOB;
            lane->in_at = 0;
            XXH3_64bits_reset(lane->in_hash);
        }
    } else if ((line[0] == '+' || line[0] == ':') && r->kind != CN_REDIS_PAGE_GET) {
        answered(lane, CN_OK, false);
    } else {
        break_lane(lane, "an answer that does not fit its question");
    }
}

static void take_buffer(cn_redis_lane *lane, uint64_t bytes)
{
    lane->buffer_at += (uint32_t)bytes;
    lane->buffer_len -= (uint32_t)bytes;
    if (lane->buffer_len == 0) lane->buffer_at = 0;
}

static void read_blob(cn_redis_lane *lane, const char *at)
{
    const cn_redis_blob wanted = blob_of(lane, &lane->sent.first->key);
    XXH3_64bits_update(lane->in_hash, at, sizeof wanted);
    if (memcmp(at, &wanted, sizeof wanted) != 0)
        skip_value(lane, lane->options.page_bytes + END_BYTES);
    else lane->reading = CN_REDIS_READ_PAGE;
    take_buffer(lane, sizeof wanted);
}

static void add_page_bytes(cn_redis_lane *lane, const char *bytes, uint64_t len)
{
    XXH3_64bits_update(lane->in_hash, bytes, len);
    lane->in_at += len;
    if (lane->in_at == lane->options.page_bytes) lane->reading = CN_REDIS_READ_END;
}

static void read_end(cn_redis_lane *lane, const char *at)
{
    const uint64_t sum = htole64(XXH3_64bits_digest(lane->in_hash));
    const bool good = memcmp(at, &sum, CHECKSUM_BYTES) == 0;
    const bool ends = memcmp(at + CHECKSUM_BYTES, "\r\n", 2) == 0;
    take_buffer(lane, END_BYTES);
    if (!ends) break_lane(lane, "an answer that is not RESP");
    answered(lane, good ? CN_OK : CN_E_NOT_FOUND, !good);
}

// One thing from the buffer; false if more bytes are needed.
static bool parse_some(cn_redis_lane *lane)
{
    char *at = lane->buffer + lane->buffer_at;
    const uint64_t len = lane->buffer_len, page_left = lane->options.page_bytes - lane->in_at;
    if (len == 0) return false;
    switch (lane->reading) {
    case CN_REDIS_READ_LINE: {
        char *end = memchr(at, '\n', len);
        if (!end) {
            if (len == CN_REDIS_LANE_IN_BYTES) break_lane(lane, "an answer that is not RESP");
            return false;
        }
        *end = '\0';
        if (end > at && end[-1] == '\r') end[-1] = '\0';
        take_buffer(lane, (uint64_t)(end - at) + 1);
        read_line(lane, at);
        return true;
    }
    case CN_REDIS_READ_BLOB:
        if (len < sizeof(cn_redis_blob)) return false;
        read_blob(lane, at);
        return true;
    case CN_REDIS_READ_PAGE: {
        const uint64_t n = len < page_left ? len : page_left;
        cn_store_op *op = lane->sent.first->op;
        if (op) memcpy((char *)op->page + lane->in_at, at, n);
        add_page_bytes(lane, at, n);
        take_buffer(lane, n);
        return true;
    }
    case CN_REDIS_READ_END:
        if (len < END_BYTES) return false;
        read_end(lane, at);
        return true;
    case CN_REDIS_READ_SKIP: {
        const uint64_t n = len < lane->skip_bytes ? len : lane->skip_bytes;
        take_buffer(lane, n);
        lane->skip_bytes -= n;
        if (lane->skip_bytes == 0) answered(lane, CN_E_NOT_FOUND, true);
        return true;
    }
    }
    return false;
}

// Reads into the page that is under way and, behind it, into the buffer.
static ssize_t read_some(cn_redis_lane *lane)
{
    struct iovec iov[2];
    int count = 0;
    uint64_t page_left = 0;
    cn_store_op *op = lane->reading == CN_REDIS_READ_PAGE ? lane->sent.first->op : NULL;
    if (op) {
        page_left = lane->options.page_bytes - lane->in_at;
        if (page_left > PIECE_BYTES) page_left = PIECE_BYTES;
        iov[count++] = (struct iovec){(char *)op->page + lane->in_at, page_left};
    }
    // The buffer is empty while a page is read; otherwise what is in it moves to its front.
    if (lane->buffer_at) memmove(lane->buffer, lane->buffer + lane->buffer_at, lane->buffer_len);
    lane->buffer_at = 0;
    if (!op || page_left == lane->options.page_bytes - lane->in_at) {
        iov[count++] = (struct iovec){lane->buffer + lane->buffer_len,
                                      CN_REDIS_LANE_IN_BYTES - lane->buffer_len};
    }
    const ssize_t got = readv(lane->fd, iov, count);
    if (got <= 0) return got;
    const uint64_t in_page = (uint64_t)got < page_left ? (uint64_t)got : page_left;
    if (in_page) add_page_bytes(lane, iov[0].iov_base, in_page);
    lane->buffer_len += (uint32_t)((uint64_t)got - in_page);
    return got;
}

static void read_lane(cn_redis_lane *lane)
{
    for (uint64_t round = 0; !lane->broken && round < ROUND_BYTES;) {
        const ssize_t got = read_some(lane);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) {
            break_lane(lane, got == 0 ? "closed the connection" : strerror(errno));
            return;
        }
        round += (uint64_t)got;
        lane->moved_ns = cn_clock_now_ns(&lane->options.settings->clock);
        while (!lane->broken && parse_some(lane)) continue;
    }
}

// ---- rounds

void cn_redis_lane_add(cn_redis_lane *lane, cn_redis_page_request *request)
{
    const bool away = lane->state == CN_REDIS_DOWN && lane->pause_ns > 0;
    if (away) {
        finish(lane, request, CN_E_STORE, false);
        return;
    }
    // From here on an answer is expected.
    if (!lane->waiting.count && !lane->sent.count)
        lane->moved_ns = cn_clock_now_ns(&lane->options.settings->clock);
    push(&lane->waiting, request);
}

static void end_late_waiting(cn_redis_lane *lane, uint64_t now, uint64_t *due_ns)
{
    cn_redis_page_list kept = {0};
    bool is_first = true;
    while (lane->waiting.count) {
        cn_redis_page_request *r = pop(&lane->waiting);
        const bool writes = is_first && lane->head_len > 0;
        const bool late = r->op && now >= r->op->deadline_ns;
        is_first = false;
        if (late && writes && lane->head_at > 0) break_lane(lane, "a page was written too slowly");
        if (late && writes) lane->head_len = 0;
        if (late) {
            finish(lane, r, CN_E_STORE, false);
        } else {
            if (r->op && r->op->deadline_ns < *due_ns) *due_ns = r->op->deadline_ns;
            push(&kept, r);
        }
    }
    lane->waiting = kept;
}

void cn_redis_lane_end_late(cn_redis_lane *lane, uint64_t now, uint64_t *due_ns)
{
    end_late_waiting(lane, now, due_ns);
    for (cn_redis_page_request *r = lane->sent.first; r; r = r->next) {
        if (!r->op) continue;
        if (now < r->op->deadline_ns) {
            if (r->op->deadline_ns < *due_ns) *due_ns = r->op->deadline_ns;
            continue;
        }
        // Its reply is still to come, but nobody waits for it.
        lane->options.done(lane->options.self, r, CN_E_STORE, false);
    }
    if (lane->broken) fall(lane, now);
}

static uint64_t patience_ns(const cn_redis_lane *lane)
{
    return lane->options.settings->page_timeout_ns + lane->options.page_bytes * 2;    // 0.5 GB/s
}

bool cn_redis_lane_tend(cn_redis_lane *lane, uint64_t now)
{
    bool worked = false;
    if (lane->state == CN_REDIS_DOWN) {
        if (now < lane->again_ns) return false;
        begin_connecting(lane);
        add_greetings(lane);
        lane->moved_ns = now;
        worked = true;
    }
    if (write_lane(lane)) {
        lane->moved_ns = now;
        worked = true;
    }
    const bool expects = lane->connecting || lane->sent.count || lane->waiting.count;
    if (!lane->broken && expects && now >= lane->moved_ns + patience_ns(lane)) {
        char why[64];
        snprintf(why, sizeof why, "no answer for %llu ms",
                 (unsigned long long)(patience_ns(lane) / 1000000));
        break_lane(lane, why);
    }
    if (lane->broken) fall(lane, now);
    return worked;
}

uint64_t cn_redis_lane_due_ns(const cn_redis_lane *lane)
{
    if (lane->broken) return 0;
    if (lane->state == CN_REDIS_DOWN) return lane->again_ns;
    const bool expects = lane->connecting || lane->sent.count || lane->waiting.count;
    return expects ? lane->moved_ns + patience_ns(lane) : UINT64_MAX;
}

struct pollfd cn_redis_lane_pollfd(const cn_redis_lane *lane)
{
    const int events = lane->connecting ? POLLOUT : POLLIN | (lane->blocked ? POLLOUT : 0);
    return (struct pollfd){.fd = lane->fd, .events = (short)events};
}

void cn_redis_lane_events(cn_redis_lane *lane, short events)
{
    if (lane->connecting && events) {
        int failure = 0;
        socklen_t len = sizeof failure;
        getsockopt(lane->fd, SOL_SOCKET, SO_ERROR, &failure, &len);
        lane->connecting = false;
        if (failure) break_lane(lane, strerror(failure));
        return;
    }
    if (events & (POLLOUT | POLLERR | POLLHUP)) lane->blocked = false;
    if (events & (POLLIN | POLLERR | POLLHUP)) read_lane(lane);
}
