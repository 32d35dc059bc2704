#include "bench/delta.h"

#include <string.h>

/* How it works. A recursive walk over the text that knows in which `place` it is. The table says
 * what a key means in a place: another place to go on in, or a value to take. Elements of an array
 * are in the place of the array. What the table does not have is walked over in the place NOWHERE,
 * where no key means anything. */
typedef enum place {
    NOWHERE,
    ROOT,
    CHOICE,
    DELTA,
    TOOL,
    FUNCTION,
    USAGE,
    DETAILS,
    ERROR,
    RESPONSE,
    OUTPUT,
    PART,
    IDS,
    TAKE_TEXT,
    TAKE_ID,
    TAKE_TYPE,
    TAKE_MESSAGE,
    TAKE_INPUT,
    TAKE_OUTPUT,
    TAKE_CACHED,
    TAKE_SEQUENCE
} place;

static const struct {
    place in;
    const char *key;
    place means;
} table[] = {
    {ROOT, "choices", CHOICE},              {ROOT, "usage", USAGE},
    {ROOT, "error", ERROR},                 {ROOT, "response", RESPONSE},
    {ROOT, "delta", TAKE_TEXT},             {ROOT, "id", TAKE_ID},
    {ROOT, "type", TAKE_TYPE},              {ROOT, "message", TAKE_MESSAGE},
    {ROOT, "output", OUTPUT},               {ROOT, "sequence_number", TAKE_SEQUENCE},
    {CHOICE, "delta", DELTA},               {CHOICE, "message", DELTA},
    {CHOICE, "text", TAKE_TEXT},            {CHOICE, "token_ids", IDS},
    {DELTA, "content", TAKE_TEXT},          {DELTA, "reasoning_content", TAKE_TEXT},
    {DELTA, "reasoning", TAKE_TEXT},        {DELTA, "tool_calls", TOOL},
    {TOOL, "function", FUNCTION},           {FUNCTION, "arguments", TAKE_TEXT},
    {USAGE, "prompt_tokens", TAKE_INPUT},   {USAGE, "completion_tokens", TAKE_OUTPUT},
    {USAGE, "input_tokens", TAKE_INPUT},    {USAGE, "output_tokens", TAKE_OUTPUT},
    {USAGE, "prompt_tokens_details", DETAILS}, {USAGE, "input_tokens_details", DETAILS},
    {DETAILS, "cached_tokens", TAKE_CACHED},
    {ERROR, "message", TAKE_MESSAGE},
    {RESPONSE, "id", TAKE_ID},              {RESPONSE, "usage", USAGE},
    {RESPONSE, "error", ERROR},
    {OUTPUT, "content", PART},              {PART, "text", TAKE_TEXT},
};

enum { DEPTH_MAX = 64 };

typedef struct walk {
    const char *at, *end;
    cn_delta *out;
} walk;

static void skip_space(walk *w)
{
    while (w->at < w->end &&
           (*w->at == ' ' || *w->at == '\n' || *w->at == '\r' || *w->at == '\t')) {
        w->at++;
    }
}

static bool take_char(walk *w, char c)
{
    skip_space(w);
    if (w->at == w->end || *w->at != c) return false;
    w->at++;
    return true;
}

// A string, its quotes left out.
static bool take_string(walk *w, cn_delta_slice *out)
{
    if (!take_char(w, '"')) return false;
    const char *start = w->at;
    for (; w->at < w->end && *w->at != '"'; w->at++) {
        if (*w->at == '\\' && ++w->at == w->end) return false;
    }
    if (w->at == w->end) return false;
    *out = (cn_delta_slice){start, (size_t)(w->at++ - start)};
    return true;
}

static place find_place(place in, const cn_delta_slice *key)
{
    if (in == NOWHERE) return NOWHERE;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].in == in && strlen(table[i].key) == key->len &&
            memcmp(table[i].key, key->at, key->len) == 0) {
            return table[i].means;
        }
    }
    return NOWHERE;
}

static void take_text(walk *w, place at, const cn_delta_slice *value)
{
    cn_delta *out = w->out;
    switch (at) {
    case TAKE_TEXT:
        if (value->len > 0 && out->text_count < CN_DELTA_TEXTS)
            out->texts[out->text_count++] = *value;
        break;
    case TAKE_ID: out->id = *value; break;
    case TAKE_TYPE: out->type = *value; break;
    case TAKE_MESSAGE: out->error = *value; break;
    case ERROR:                  // some servers write "error": "text"
        out->has_error = true;
        out->error = *value;
        break;
    default: break;
    }
}

static void take_number(walk *w, place at, int64_t value)
{
    switch (at) {
    case TAKE_INPUT: w->out->input_tokens = value; break;
    case TAKE_OUTPUT: w->out->output_tokens = value; break;
    case TAKE_CACHED: w->out->cached_tokens = value; break;
    case TAKE_SEQUENCE: w->out->sequence = value; break;
    case IDS: w->out->id_count++; break;
    default: break;
    }
}

// A number, true, false or null: `value` is what its digits say before a point.
static bool take_word(walk *w, place at)
{
    const char *start = w->at;
    int64_t value = 0;
    bool digits_only = true;
    for (; w->at < w->end && !strchr(",]} \n\r\t", *w->at); w->at++) {
        digits_only = digits_only && *w->at >= '0' && *w->at <= '9';
        if (digits_only && value < INT64_MAX / 100) value = value * 10 + (*w->at - '0');
    }
    const size_t len = (size_t)(w->at - start);
    if (len == 0) return false;
    if (digits_only) take_number(w, at, value);
    return digits_only || (len == 4 && memcmp(start, "null", 4) == 0) ||
           (len == 4 && memcmp(start, "true", 4) == 0) ||
           (len == 5 && memcmp(start, "false", 5) == 0) || *start == '-' ||
           (*start >= '0' && *start <= '9');
}

static bool take_value(walk *w, place at, uint32_t depth);

static bool take_object(walk *w, place at, uint32_t depth)
{
    if (at == ERROR) w->out->has_error = true;
    if (take_char(w, '}')) return true;
    do {
        cn_delta_slice key;
        if (!take_string(w, &key) || !take_char(w, ':')) return false;
        if (!take_value(w, find_place(at, &key), depth)) return false;
    } while (take_char(w, ','));
    return take_char(w, '}');
}

static bool take_array(walk *w, place at, uint32_t depth)
{
    const char *start = w->at;
    if (take_char(w, ']')) return true;
    do {
        if (!take_value(w, at, depth)) return false;
    } while (take_char(w, ','));
    if (at == IDS) w->out->ids = (cn_delta_slice){start, (size_t)(w->at - start)};
    return take_char(w, ']');
}

static bool take_value(walk *w, place at, uint32_t depth)
{
    cn_delta_slice text;
    skip_space(w);
    if (w->at == w->end || depth == DEPTH_MAX) return false;
    switch (*w->at) {
    case '{': w->at++; return take_object(w, at, depth + 1);
    case '[': w->at++; return take_array(w, at, depth + 1);
    case '"':
        if (!take_string(w, &text)) return false;
        take_text(w, at, &text);
        return true;
    default: return take_word(w, at);
    }
}

bool cn_delta_parse(const char *text, size_t len, cn_delta *out)
{
    *out = (cn_delta){.input_tokens = -1, .output_tokens = -1, .cached_tokens = -1,
                       .sequence = -1};
    walk w = {text, text + len, out};
    if (!take_char(&w, '{') || !take_object(&w, ROOT, 1)) return false;
    skip_space(&w);
    const cn_delta_slice *type = &out->type;
    if ((type->len == 5 && memcmp(type->at, "error", 5) == 0) ||
        (type->len == 15 && memcmp(type->at, "response.failed", 15) == 0)) {
        out->has_error = true;
    }
    return w.at == w.end;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_unit(const char *at, const char *end, uint32_t *out)
{
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u') return false;
    *out = 0;
    for (int i = 2; i < 6; i++) {
        const int digit = hex_digit(at[i]);
        if (digit < 0) return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static void add_scalar(uint32_t c, cn_buf *out)
{
    if (c < 0x80) {
        cn_buf_add_char(out, (char)c);
        return;
    }
    if (c < 0x800) cn_buf_add_char(out, (char)(0xC0 | c >> 6));
    else if (c < 0x10000) {
        cn_buf_add_char(out, (char)(0xE0 | c >> 12));
        cn_buf_add_char(out, (char)(0x80 | (c >> 6 & 0x3F)));
    } else {
        cn_buf_add_char(out, (char)(0xF0 | c >> 18));
        cn_buf_add_char(out, (char)(0x80 | (c >> 12 & 0x3F)));
        cn_buf_add_char(out, (char)(0x80 | (c >> 6 & 0x3F)));
    }
    cn_buf_add_char(out, (char)(0x80 | (c & 0x3F)));
}

// The escape at `at`; returns its length.
static size_t add_escape(const char *at, const char *end, cn_buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t unit, low;
    const char *letter = end - at >= 2 && at[1] ? strchr(from, at[1]) : NULL;
    if (letter) {
        cn_buf_add_char(out, to[letter - from]);
        return 2;
    }
    if (!read_unit(at, end, &unit)) {
        add_scalar(0xFFFD, out);
        return end - at < 2 ? 1 : 2;
    }
    if (unit >= 0xD800 && unit < 0xDC00 && read_unit(at + 6, end, &low) && low >= 0xDC00 &&
        low < 0xE000) {
        add_scalar(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), out);
        return 12;
    }
    add_scalar(unit >= 0xD800 && unit < 0xE000 ? 0xFFFD : unit, out);
    return 6;
}

void cn_delta_unescape(const cn_delta_slice *slice, cn_buf *out)
{
    const char *at = slice->at, *end = at + slice->len;
    while (at < end) {
        const char *escape = memchr(at, '\\', (size_t)(end - at));
        const char *stop = escape ? escape : end;
        cn_buf_add(out, at, (size_t)(stop - at));
        at = stop;
        if (escape) at += add_escape(at, end, out);
    }
}
