#include "tests/dataplane/tcp_script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dataplane/tcp_wire.h"
#include "tests/unit/cmocka_all.h"

enum { WORDS_MAX = 24, OPEN_MAX = 16, PORTS_MAX = 8 };

typedef struct run {
    const tcp_script *script;
    const char *line;                    // that is being run
    char line_text[160];
    wire wire;
    uint16_t port;
    uint32_t far_isn, near_isn;
    bool near_isn_known;
    uint32_t near_isns[PORTS_MAX];       // of the other ports
    bool near_isns_known[PORTS_MAX];
    // What the handler sees. One connection at a time is written to.
    cn_conn conn;
    uint32_t opened, closed, writable;
    uint64_t got;
    uint64_t take;
    uint64_t written;
    bool is_open[OPEN_MAX];
} run;

#define FAIL(r, ...)                                                                               \
    do {                                                                                           \
        char why[256];                                                                             \
        snprintf(why, sizeof why, __VA_ARGS__);                                                    \
        fail_msg("%s%s: at \"%s\": %s", (r)->script->name, (r)->wire.v6 ? " (v6)" : "",            \
                 (r)->line_text, why);                                                             \
    } while (0)

// What either end sends as byte `at` of its stream.
static uint8_t pattern(uint64_t at) { return (uint8_t)(at * 31 + (at >> 8) * 7 + 3); }

// ---- the handler -------------------------------------------------------------------------------

static void on_opened(void *self, cn_conn conn, const char *peer)
{
    run *r = self;
    char want[64];
    snprintf(want, sizeof want, r->wire.v6 ? "[fd00::2]:%u" : "198.18.0.2:%u", r->port);
    if (strcmp(peer, want) != 0) FAIL(r, "opened by %s and not %s", peer, want);
    if (r->is_open[conn.index]) FAIL(r, "opened twice");
    r->is_open[conn.index] = true;
    r->conn = conn;
    r->opened++;
    r->got = r->written = 0;
}

static size_t on_received(void *self, cn_conn conn, const char *data, size_t len)
{
    run *r = self;
    if (!r->is_open[conn.index]) FAIL(r, "bytes for a connection that is closed");
    if (len == 0) FAIL(r, "shown nothing");
    const size_t take = len < r->take ? len : (size_t)r->take;
    for (size_t i = 0; i < take; i++) {
        if ((uint8_t)data[i] != pattern(r->got + i)) FAIL(r, "byte %zu is wrong", (size_t)r->got + i);
    }
    r->got += take;
    return take;
}

static void on_writable(void *self, cn_conn conn)
{
    run *r = self;
    if (!r->is_open[conn.index]) FAIL(r, "writable and closed");
    r->writable++;
}

static void on_closed(void *self, cn_conn conn)
{
    run *r = self;
    if (!r->is_open[conn.index]) FAIL(r, "closed twice");
    r->is_open[conn.index] = false;
    r->closed++;
}

// ---- steps -------------------------------------------------------------------------------------

typedef struct words {
    char text[160];
    char *at[WORDS_MAX];
    int count;
} words;

static void split(const char *line, words *w)
{
    snprintf(w->text, sizeof w->text, "%s", line);
    w->count = 0;
    char *save = NULL;
    for (char *t = strtok_r(w->text, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
        if (w->count == WORDS_MAX) fail_msg("too many words: %s", line);
        w->at[w->count++] = t;
    }
}

static uint64_t number(run *r, const char *text)
{
    char *end;
    const long long value = strtoll(text, &end, 0);
    if (end == text || *end) FAIL(r, "%s is not a number", text);
    return (uint64_t)value;
}

static uint8_t parse_flags(run *r, const char *text)
{
    static const char letters[] = "FSRP.U";
    uint8_t flags = 0;
    if (strcmp(text, "-") == 0) return 0;
    for (; *text; text++) {
        const char *at = strchr(letters, *text);
        if (!at) FAIL(r, "flag %c", *text);
        flags |= (uint8_t)(1 << (at - letters));
    }
    return flags;
}

typedef struct wanted {
    wire_segment s;
    bool has_ack, has_window, has_sack;
    uint8_t raw[40];
} wanted;

static void parse_range(run *r, char *text, uint32_t base, uint32_t out[2])
{
    char *dash = strchr(text + 1, '-');
    if (!dash) FAIL(r, "%s is no range", text);
    *dash = '\0';
    out[0] = base + (uint32_t)number(r, text);
    out[1] = base + (uint32_t)number(r, dash + 1);
}

// `sent`: by the far end; then acknowledgements are in the stack's numbers, else the other way round.
static void parse_segment(run *r, words *w, bool sent, wanted *out)
{
    const uint32_t own = sent ? r->far_isn : r->near_isn, other = sent ? r->near_isn : r->far_isn;
    memset(out, 0, sizeof *out);
    if (w->count < 3) FAIL(r, "must have flags and a sequence number");
    char *plus = strchr(w->at[2], '+');
    if (plus) *plus = '\0';
    wire_segment *s = &out->s;
    *s = wire_segment_of(parse_flags(r, w->at[1]), own + (uint32_t)number(r, w->at[2]), 0);
    s->far_port = r->port;
    s->len = plus ? (uint32_t)number(r, plus + 1) : 0;
    for (int i = 3; i < w->count; i++) {
        const char *key = w->at[i];
        if (!strcmp(key, "sackok")) {
            s->sack_permitted = true;
            continue;
        }
        if (!strcmp(key, "badsum")) {
            s->bad_checksum = true;
            continue;
        }
        if (++i == w->count) FAIL(r, "%s has no value", key);
        char *value = w->at[i];
        if (!strcmp(key, "ack")) {
            s->ack = other + (uint32_t)number(r, value);
            out->has_ack = true;
        } else if (!strcmp(key, "win")) {
            s->window = (uint32_t)number(r, value);
            out->has_window = true;
        } else if (!strcmp(key, "mss")) {
            s->mss = !strcmp(value, "mtu") ? r->wire.v6 ? 1440 : 1460 : (int)number(r, value);
        } else if (!strcmp(key, "scale")) {
            s->scale = (int)number(r, value);
        } else if (!strcmp(key, "words")) {
            s->header_words = (int)number(r, value);
        } else if (!strcmp(key, "sack")) {
            out->has_sack = true;
            if (strcmp(value, "no")) parse_range(r, value, other, s->sacks[s->sack_count++]);
        } else if (!strcmp(key, "raw")) {
            s->raw_option_bytes = (uint32_t)strlen(value) / 2;
            for (uint32_t k = 0; k < s->raw_option_bytes; k++) {
                const char hex[] = {value[2 * k], value[2 * k + 1], '\0'};
                out->raw[k] = (uint8_t)strtoul(hex, NULL, 16);
            }
            s->raw_options = out->raw;
        } else {
            FAIL(r, "what is %s?", key);
        }
    }
}

static void send_step(run *r, words *w)
{
    wanted want;
    static uint8_t data[WIRE_PAYLOAD_MAX];
    parse_segment(r, w, true, &want);
    for (uint32_t i = 0; i < want.s.len; i++) data[i] = pattern(want.s.seq + i - r->far_isn - 1);
    want.s.data = data;
    wire_send(&r->wire, &want.s);
    wire_poll(&r->wire);
}

// `count` bytes from `from` on, in segments of 1000 that nobody waits for.
static void bulk_step(run *r, uint32_t from, uint32_t count)
{
    static uint8_t data[1000];
    wire_segment s, answer;
    for (uint32_t at = 0; at < count; at += s.len) {
        s = wire_segment_of(TCP_ACK, r->far_isn + from + at, r->near_isn + 1);
        s.far_port = r->port;
        s.len = count - at < sizeof data ? count - at : sizeof data;
        for (uint32_t i = 0; i < s.len; i++) data[i] = pattern(from + at + i - 1);
        s.data = data;
        wire_send(&r->wire, &s);
        wire_poll(&r->wire);
        // The answer to the last one stays, to be compared.
        while (at + s.len < count && wire_receive(&r->wire, &answer)) continue;
    }
}

static const char *segment_text(run *r, const wire_segment *s, char *out, size_t bytes)
{
    int n = snprintf(out, bytes, "flags %02x seq %d+%u ack %d win %u mss %d scale %d sackok %d",
                     s->flags, (int)(s->seq - r->near_isn), s->len, (int)(s->ack - r->far_isn),
                     s->window, s->mss, s->scale, s->sack_permitted);
    for (uint32_t i = 0; i < s->sack_count; i++) {
        n += snprintf(out + n, bytes - (size_t)n, " sack %d-%d", (int)(s->sacks[i][0] - r->far_isn),
                      (int)(s->sacks[i][1] - r->far_isn));
    }
    return out;
}

static void expect_step(run *r, words *w)
{
    wire_segment s;
    wanted want;
    char text[400];
    if (!wire_receive(&r->wire, &s)) {
        wire_poll(&r->wire);
        if (!wire_receive(&r->wire, &s)) FAIL(r, "the stack has sent nothing");
    }
    if (!r->near_isn_known && (s.flags & TCP_SYN)) {
        r->near_isn_known = true;
        r->near_isn = s.seq;
    }
    parse_segment(r, w, false, &want);
    const wire_segment *x = &want.s;
    bool same = (s.flags & ~TCP_PSH) == (x->flags & ~TCP_PSH) && s.seq == x->seq &&
                s.len == x->len && s.far_port == r->port;
    same &= !want.has_ack || s.ack == x->ack;
    same &= !want.has_window || s.window == x->window;
    same &= s.mss == x->mss && s.scale == x->scale && s.sack_permitted == x->sack_permitted;
    same &= !want.has_sack || s.sack_count == x->sack_count;
    for (uint32_t i = 0; i < x->sack_count; i++) {
        same &= s.sacks[i][0] == x->sacks[i][0] && s.sacks[i][1] == x->sacks[i][1];
    }
    if (!same) FAIL(r, "the stack sent %s", segment_text(r, &s, text, sizeof text));
    for (uint32_t i = 0; i < s.len; i++) {
        if (s.data[i] != pattern(s.seq + i - r->near_isn - 1)) FAIL(r, "byte %u is wrong", i);
    }
}

static void expect_nothing(run *r)
{
    wire_segment s;
    char text[400];
    if (wire_receive(&r->wire, &s)) {
        FAIL(r, "the stack has sent %s", segment_text(r, &s, text, sizeof text));
    }
}

static void write_step(run *r, uint64_t len, uint64_t want)
{
    static uint8_t data[1 << 20];
    assert_true(len <= sizeof data);
    for (uint64_t i = 0; i < len; i++) data[i] = pattern(r->written + i);
    const size_t took = r->wire.transport->ops->write(r->wire.transport, r->conn, data, len);
    if (took != want) FAIL(r, "took %zu", took);
    r->written += took;
    wire_poll(&r->wire);
}

static void count_step(run *r, const char *what, uint64_t have, const words *w)
{
    const uint64_t want = w->count > 1 ? number(r, w->at[1]) : 1;
    if (have != want) FAIL(r, "%s is %llu", what, (unsigned long long)have);
}

static void call_step(run *r, const words *w)
{
    const char *name = w->at[0];
    cn_transport *t = r->wire.transport;
    if (!strcmp(name, "write")) {
        const uint64_t len = number(r, w->at[1]);
        write_step(r, len, w->count > 3 ? number(r, w->at[3]) : len);
        return;
    }
    if (!strcmp(name, "finish")) {
        t->ops->finish(t, r->conn);
        r->is_open[r->conn.index] = false;
    } else if (!strcmp(name, "abort")) {
        t->ops->abort(t, r->conn);
        r->is_open[r->conn.index] = false;
    } else if (!strcmp(name, "resume")) {
        t->ops->resume(t, r->conn);
    } else if (!strcmp(name, "stop")) {
        t->ops->stop_listening(t);
    } else {
        FAIL(r, "what is %s?", name);
    }
    wire_poll(&r->wire);
}

static void switch_port(run *r, uint16_t port)
{
    r->near_isns[r->port % PORTS_MAX] = r->near_isn;
    r->near_isns_known[r->port % PORTS_MAX] = r->near_isn_known;
    r->port = port;
    r->near_isn = r->near_isns[port % PORTS_MAX];
    r->near_isn_known = r->near_isns_known[port % PORTS_MAX];
}

static void step(run *r, words *w)
{
    const char *name = w->at[0];
    wire_segment s;
    if (!strcmp(name, ">")) {
        expect_step(r, w);
        return;
    }
    if (!strcmp(name, "drain")) {
        while (wire_receive(&r->wire, &s)) continue;
        return;
    }
    if (!strcmp(name, "opened")) count_step(r, name, r->opened, w);
    else if (!strcmp(name, "closed")) count_step(r, name, r->closed, w);
    else if (!strcmp(name, "got")) count_step(r, name, r->got, w);
    else if (!strcmp(name, "writable")) count_step(r, name, r->writable, w);
    else if (!strcmp(name, "take")) r->take = !strcmp(w->at[1], "all") ? UINT64_MAX : number(r, w->at[1]);
    else {
        expect_nothing(r);                   // whatever else happens: all answers have been named
        if (!strcmp(name, "<")) {
            send_step(r, w);
        } else if (name[0] == '+') {
            for (uint64_t ms = number(r, name + 1); ms; ms--) {
                wire_advance(&r->wire, 1000000);
                wire_poll(&r->wire);
            }
        } else if (!strcmp(name, "bulk")) {
            bulk_step(r, (uint32_t)number(r, w->at[1]), (uint32_t)number(r, w->at[2]));
        } else if (!strcmp(name, "near")) {
            r->wire.near_port = (uint16_t)number(r, w->at[1]);
        } else if (!strcmp(name, "port")) {
            switch_port(r, (uint16_t)number(r, w->at[1]));
        } else if (!strcmp(name, "isn")) {
            r->far_isn += (uint32_t)number(r, w->at[1]);
            r->near_isn_known = false;
        } else if (strcmp(name, "none")) {
            call_step(r, w);
        }
    }
}

void tcp_script_run(const tcp_script *script, const tcp_script_setting *setting)
{
    static run r;
    memset(&r, 0, sizeof r);
    r.script = script;
    r.far_isn = setting->isn;
    r.port = 40000;
    r.take = UINT64_MAX;
    const wire_options options = {
        .v6 = setting->v6, .vlan = setting->vlan, .seed = setting->isn + 1,
        .begin_ns = setting->begin_ns,
        .connection_max = script->connection_max ? script->connection_max : 4,
        .handler = {&r, on_opened, on_received, on_writable, on_closed}};
    wire_open(&r.wire, &options);
    const char *at = script->text;
    while (*at) {
        const char *end = strchr(at, '\n');
        const size_t len = end ? (size_t)(end - at) : strlen(at);
        snprintf(r.line_text, sizeof r.line_text, "%.*s", (int)len, at);
        words w;
        split(r.line_text, &w);
        if (w.count) step(&r, &w);
        at += len + (end != NULL);
    }
    expect_nothing(&r);
    wire_close(&r.wire);
}
