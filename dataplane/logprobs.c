#include "dataplane/logprobs.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "model/detokenizer.h"

/* How it works. A record is a header and `top_count` alternatives, one after another; 16 bytes and
 * 8 per alternative, against some 80 of JSON each. */

enum { TOKEN_BYTES_MAX = 1024 };

typedef struct record {
    int32_t token;
    float logprob;
    uint32_t text_offset;
    uint16_t top_count;
    uint16_t known;
} record;

typedef struct cursor {
    const cn_buf *records;
    size_t at;
    record head;
    const char *top;             // head.top_count cn_logprob, not aligned
} cursor;

void cn_logprobs_add(cn_buf *records, const cn_logprobs_entry *entry)
{
    const record head = {
        .token = entry->token,
        .logprob = entry->logprob,
        .text_offset = entry->text_offset,
        .top_count = (uint16_t)entry->top_count,
        .known = entry->known,
    };
    const size_t top_bytes = entry->top_count * sizeof *entry->top;
    char *at = cn_buf_reserve(records, sizeof head + top_bytes);
    if (!at) return;                 // a record is there whole or not at all
    memcpy(at, &head, sizeof head);
    if (top_bytes) memcpy(at + sizeof head, entry->top, top_bytes);
    cn_buf_advance(records, sizeof head + top_bytes);
}

static bool next(cursor *c)
{
    if (c->at == c->records->len) return false;
    memcpy(&c->head, c->records->data + c->at, sizeof c->head);
    c->top = c->records->data + c->at + sizeof c->head;
    c->at += sizeof c->head + c->head.top_count * sizeof(cn_logprob);
    return true;
}

static cn_logprob top_at(const cursor *c, uint32_t index)
{
    cn_logprob top;
    memcpy(&top, c->top + index * sizeof top, sizeof top);
    return top;
}

typedef struct token_text {
    char memory[TOKEN_BYTES_MAX];
    cn_buf bytes;                // in `memory`
} token_text;

static void read_token(const cn_tokenizer *tokenizer, int32_t token, token_text *out)
{
    // As large as its bound, so it never reallocates.
    out->bytes = (cn_buf){.data = out->memory, .capacity = sizeof out->memory,
                          .bytes_max = sizeof out->memory};
    cn_detokenizer_bytes(tokenizer, token, &out->bytes);
}

static bool is_utf8(const cn_buf *bytes)
{
    for (size_t at = 0; at < bytes->len;) {
        const size_t step = cn_utf8_len(bytes->data + at, bytes->len - at);
        if (!step) return false;
        at += step;
    }
    return true;
}

// What has no chance at all is -9999, as elsewhere: JSON has no infinity.
static void write_logprob(float logprob, cn_buf *out)
{
    cn_buf_add_float(out, logprob < -9999.0f ? -9999.0f : logprob);
}

static void write_id(int32_t token, cn_buf *out)
{
    cn_buf_add_text(out, "\"token_id:");
    cn_buf_add_u64(out, (uint64_t)token);
    cn_buf_add_char(out, '"');
}

// ---- chat

static void write_bytes(const cn_buf *bytes, cn_buf *out)
{
    cn_buf_add_char(out, '[');
    for (size_t i = 0; i < bytes->len; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, (unsigned char)bytes->data[i]);
    }
    cn_buf_add_char(out, ']');
}

static void write_chat_token(const cn_logprobs_style *style, int32_t token, float logprob,
                             cn_buf *out)
{
    token_text text;
    read_token(style->tokenizer, token, &text);
    cn_buf_add_text(out, "{\"token\":");
    if (style->tokens_as_ids) write_id(token, out);
    else cn_buf_add_json(out, text.bytes.data, text.bytes.len);
    cn_buf_add_text(out, ",\"logprob\":");
    write_logprob(logprob, out);
    cn_buf_add_text(out, ",\"bytes\":");
    write_bytes(&text.bytes, out);
}

void cn_logprobs_write_entries(const cn_buf *records, const cn_logprobs_style *style, cn_buf *out)
{
    for (cursor c = {.records = records}; next(&c);) {
        if (c.top != records->data + sizeof c.head) cn_buf_add_char(out, ',');
        write_chat_token(style, c.head.token, c.head.logprob, out);
        cn_buf_add_text(out, ",\"top_logprobs\":[");
        for (uint32_t i = 0; i < c.head.top_count; i++) {
            const cn_logprob top = top_at(&c, i);
            if (i) cn_buf_add_char(out, ',');
            write_chat_token(style, top.token, top.logprob, out);
            cn_buf_add_char(out, '}');
        }
        cn_buf_add_text(out, "]}");
    }
}

void cn_logprobs_write_chat(const cn_buf *records, const cn_logprobs_style *style, cn_buf *out)
{
    cn_buf_add_text(out, "{\"content\":[");
    cn_logprobs_write_entries(records, style, out);
    cn_buf_add_text(out, "],\"refusal\":null}");
}

// ---- completions

static void write_completion_token(const cn_logprobs_style *style, int32_t token, cn_buf *out)
{
    token_text text;
    if (style->tokens_as_ids) {
        write_id(token, out);
        return;
    }
    read_token(style->tokenizer, token, &text);
    if (is_utf8(&text.bytes)) {
        cn_buf_add_json(out, text.bytes.data, text.bytes.len);
        return;
    }
    cn_buf_add_text(out, "\"bytes:");
    for (size_t i = 0; i < text.bytes.len; i++) {
        char escape[8];
        snprintf(escape, sizeof escape, "\\\\x%02x", (unsigned char)text.bytes.data[i]);
        cn_buf_add_text(out, escape);
    }
    cn_buf_add_char(out, '"');
}

static void write_pair(const cn_logprobs_style *style, int32_t token, float logprob, bool first,
                       cn_buf *out)
{
    if (!first) cn_buf_add_char(out, ',');
    write_completion_token(style, token, out);
    cn_buf_add_char(out, ':');
    write_logprob(logprob, out);
}

static void write_top(const cn_logprobs_style *style, const cursor *c, cn_buf *out)
{
    bool has_token = false;
    if (!c->head.known) {
        cn_buf_add_text(out, "null");
        return;
    }
    cn_buf_add_char(out, '{');
    for (uint32_t i = 0; i < c->head.top_count; i++) {
        const cn_logprob top = top_at(c, i);
        has_token |= top.token == c->head.token;
        write_pair(style, top.token, top.logprob, i == 0, out);
    }
    if (!has_token) {
        write_pair(style, c->head.token, c->head.logprob, c->head.top_count == 0, out);
    }
    cn_buf_add_char(out, '}');
}

typedef enum column { TOKENS, TOKEN_LOGPROBS, TOP_LOGPROBS, TEXT_OFFSETS } column;

static void write_cell(const cn_logprobs_style *style, const cursor *c, column what, cn_buf *out)
{
    switch (what) {
    case TOKENS: write_completion_token(style, c->head.token, out); break;
    case TOKEN_LOGPROBS:
        if (c->head.known) write_logprob(c->head.logprob, out);
        else cn_buf_add_text(out, "null");
        break;
    case TOP_LOGPROBS: write_top(style, c, out); break;
    case TEXT_OFFSETS: cn_buf_add_u64(out, c->head.text_offset); break;
    }
}

static void write_column(const cn_buf *const parts[2], const cn_logprobs_style *style, column what,
                         const char *name, cn_buf *out)
{
    bool first = true;
    cn_buf_add_text(out, name);
    for (uint32_t i = 0; i < 2; i++) {
        for (cursor c = {.records = parts[i]}; next(&c); first = false) {
            if (!first) cn_buf_add_char(out, ',');
            write_cell(style, &c, what, out);
        }
    }
    cn_buf_add_char(out, ']');
}

void cn_logprobs_write_completion(const cn_buf *before, const cn_buf *records,
                                  const cn_logprobs_style *style, cn_buf *out)
{
    const cn_buf *const parts[2] = {before, records};
    write_column(parts, style, TOKENS, "{\"tokens\":[", out);
    write_column(parts, style, TOKEN_LOGPROBS, ",\"token_logprobs\":[", out);
    write_column(parts, style, TOP_LOGPROBS, ",\"top_logprobs\":[", out);
    write_column(parts, style, TEXT_OFFSETS, ",\"text_offset\":[", out);
    cn_buf_add_char(out, '}');
}
