#include "dataplane/tracing.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TRACE_DIGITS = CN_TRACING_ID_BYTES - 1, SPAN_DIGITS = CN_TRACING_SPAN_BYTES - 1,
       PARENT_LEN = CN_TRACING_PARENT_BYTES - 1 };

static const struct {
    const char *name, *what;
} phases[] = {
#define X(id, name, what) {name, what},
    CN_TRACING_PHASES(X)
#undef X
};

const char *cn_tracing_phase_name(cn_tracing_phase phase) { return phases[phase].name; }

// ---- traceparent

// Capitals are not allowed (W3C Trace Context, 3.2.2).
static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (hex_value(text[i]) < 0) return false;
    }
    return true;
}

static bool is_id(const char *text, size_t len)
{
    return is_hex(text, len) && strspn(text, "0") < len;
}

/* 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01: version, trace, span, flags. A later
 * version may have more behind another '-'. */
static bool parse(const char *text, cn_tracing *out)
{
    const size_t len = strlen(text);
    if (len < PARENT_LEN || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
    if (!is_hex(text, 2) || strncmp(text, "ff", 2) == 0) return false;
    if (len > PARENT_LEN && (strncmp(text, "00", 2) == 0 || text[PARENT_LEN] != '-')) return false;
    if (!is_id(text + 3, TRACE_DIGITS) || !is_id(text + 36, SPAN_DIGITS) || !is_hex(text + 53, 2)) {
        return false;
    }
    memcpy(out->id, text + 3, TRACE_DIGITS);
    memcpy(out->parent, text + 36, SPAN_DIGITS);
    out->sampled = hex_value(text[54]) & 1;
    return true;
}

static void write_id(const cn_random *random, char *out, size_t digits)
{
    for (size_t i = 0; i < digits; i += SPAN_DIGITS) {
        const uint64_t part = cn_random_u64(random);
        snprintf(out + i, SPAN_DIGITS + 1, "%016" PRIx64, part ? part : 1);
    }
}

void cn_tracing_open(cn_tracing *trace, const char *traceparent, const cn_random *random)
{
    *trace = (cn_tracing){.sampled = true};
    if (!traceparent || !parse(traceparent, trace)) write_id(random, trace->id, TRACE_DIGITS);
    write_id(random, trace->span, SPAN_DIGITS);
}

void cn_tracing_write(const cn_tracing *trace, char out[CN_TRACING_PARENT_BYTES])
{
    snprintf(out, CN_TRACING_PARENT_BYTES, "00-%s-%s-%02x", trace->id, trace->span, trace->sampled);
}

// ---- phases

// From one mark to the next; what was not reached ends now.
static uint64_t between(uint64_t from_ns, uint64_t to_ns, uint64_t now_ns)
{
    if (!from_ns) return 0;
    if (!to_ns) to_ns = now_ns;
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

void cn_tracing_phases(const cn_tracing_marks *m, uint64_t now_ns,
                       uint64_t out[CN_TRACING_PHASE_COUNT])
{
    const uint64_t wait_ns = between(m->submitted_ns, m->started_ns, now_ns);
    const uint64_t decode_end_ns = m->last_token_ns ? m->last_token_ns : now_ns;
    uint64_t told_ns = 0;
    out[CN_TRACING_PREPARE] = between(m->received_ns, m->submitted_ns, now_ns);
    out[CN_TRACING_RESTORE] = m->restore_ns < wait_ns ? m->restore_ns : wait_ns;
    out[CN_TRACING_QUEUE] = wait_ns - out[CN_TRACING_RESTORE];
    out[CN_TRACING_PREFILL] = between(m->started_ns, m->first_token_ns, decode_end_ns);
    out[CN_TRACING_DECODE] = between(m->first_token_ns, decode_end_ns, now_ns);
    out[CN_TRACING_WRITE] = between(m->write_ns, m->written_ns, now_ns);
    for (int i = 0; i < CN_TRACING_NETWORK; i++) told_ns += out[i];
    const uint64_t whole_ns = between(m->first_byte_ns, now_ns, now_ns);
    out[CN_TRACING_NETWORK] = whole_ns > told_ns ? whole_ns - told_ns : 0;
}

void cn_tracing_phases_write(const uint64_t phase_ns[CN_TRACING_PHASE_COUNT], cn_buf *out)
{
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        cn_buf_add_format(out, "%c\"%s\":%.3f", i ? ',' : '{', phases[i].name,
                          (double)phase_ns[i] / 1e6);
    }
    cn_buf_add_char(out, '}');
}

// ---- OTLP

static void add_text(cn_buf *out, const char *key, const char *value)
{
    cn_buf_add_format(out, "{\"key\":\"%s\",\"value\":{\"stringValue\":", key);
    cn_buf_add_json(out, value, strlen(value));
    cn_buf_add_text(out, "}},");
}

// 64-bit integers are strings in OTLP/JSON, as in all of protobuf's JSON.
static void add_number(cn_buf *out, const char *key, uint64_t value)
{
    cn_buf_add_format(out, "{\"key\":\"%s\",\"value\":{\"intValue\":\"%" PRIu64 "\"}},", key,
                      value);
}

static void open_span(const cn_tracing_record *r, const char *span, const char *parent,
                      const char *name, int kind, uint64_t start_ns, uint64_t end_ns, cn_buf *out)
{
    cn_buf_add_format(out,
                      "{\"traceId\":\"%s\",\"spanId\":\"%s\",\"parentSpanId\":\"%s\","
                      "\"kind\":%d,\"startTimeUnixNano\":\"%" PRIu64
                      "\",\"endTimeUnixNano\":\"%" PRIu64 "\",\"name\":",
                      r->trace.id, span, parent, kind, start_ns, end_ns);
    cn_buf_add_json(out, name, strlen(name));
    cn_buf_add_text(out, ",\"attributes\":[");
}

static void close_span(cn_buf *out, const char *rest)
{
    if (!out->overflowed) out->len--;            // the comma behind the last attribute
    cn_buf_add_char(out, ']');
    cn_buf_add_text(out, rest);
    cn_buf_add_char(out, '}');
}

// Its number follows from ours, so that a line can be written again and be the same.
static void phase_span(const cn_tracing *trace, unsigned phase, char out[CN_TRACING_SPAN_BYTES])
{
    uint64_t id = 0;
    sscanf(trace->span, "%" SCNx64, &id);
    id ^= phase + 1;
    snprintf(out, CN_TRACING_SPAN_BYTES, "%016" PRIx64, id ? id : UINT64_MAX);
}

static void add_request_span(const cn_tracing_record *r, uint64_t start_ns, cn_buf *out)
{
    char name[CN_TRACING_METHOD_BYTES + CN_TRACING_ROUTE_BYTES + 1];
    snprintf(name, sizeof name, "%s %s", r->method, r->route);
    open_span(r, r->trace.span, r->trace.parent, name, 2, start_ns, r->end_wall_ns, out);
    add_text(out, "http.request.method", r->method);
    add_text(out, "http.route", r->route);
    add_text(out, "cairn.request_id", r->request_id);
    add_number(out, "http.response.status_code", r->status);
    add_number(out, "gen_ai.usage.input_tokens", r->prompt_tokens);
    add_number(out, "gen_ai.usage.cache_read.input_tokens", r->cached_tokens);
    add_number(out, "gen_ai.usage.output_tokens", r->completion_tokens);
    close_span(out, r->status >= 500 ? ",\"status\":{\"code\":2}" : "");
}

/* What came in on the network stands before the phases and what went out behind them; only their
 * sum is known, so the network has the end. */
void cn_tracing_otlp_write(const cn_tracing_record *r, cn_buf *out)
{
    uint64_t whole_ns = 0;
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) whole_ns += r->phase_ns[i];
    const uint64_t start_ns = r->end_wall_ns - whole_ns;
    cn_buf_add_text(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
                         "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"cairn\"}},"
                         "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"" CN_VERSION
                         "\"}}]},"
                         "\"scopeSpans\":[{\"scope\":{\"name\":\"cairn\"},\"spans\":[");
    add_request_span(r, start_ns, out);
    uint64_t at_ns = start_ns;
    for (unsigned i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        char span[CN_TRACING_SPAN_BYTES];
        if (r->phase_ns[i] == 0) continue;
        phase_span(&r->trace, i, span);
        cn_buf_add_char(out, ',');
        open_span(r, span, r->trace.span, phases[i].name, 1, at_ns, at_ns + r->phase_ns[i], out);
        add_text(out, "cairn.phase.what", phases[i].what);
        close_span(out, "");
        at_ns += r->phase_ns[i];
    }
    cn_buf_add_text(out, "]}]}]}\n");
}
