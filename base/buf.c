#include "base/buf.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"

void cn_buf_init(cn_buf *buf, size_t bytes_max)
{
    *buf = (cn_buf){.bytes_max = bytes_max};
}

void cn_buf_close(cn_buf *buf)
{
    free(buf->data);
    cn_buf_init(buf, buf->bytes_max);
}

void cn_buf_clear(cn_buf *buf)
{
    buf->len = 0;
    buf->overflowed = false;
}

char *cn_buf_reserve(cn_buf *buf, size_t len)
{
    if (buf->overflowed) return NULL;
    if (len <= buf->capacity - buf->len) return buf->data + buf->len;
    if (len > buf->bytes_max || buf->len > buf->bytes_max - len) {
        buf->overflowed = true;
        return NULL;
    }
    size_t capacity = buf->capacity ? buf->capacity * 2 : 256;
    while (capacity < buf->len + len) capacity *= 2;
    if (capacity > buf->bytes_max) capacity = buf->bytes_max;
    char *data = realloc(buf->data, capacity);
    if (!data) {
        buf->overflowed = true;
        return NULL;
    }
    buf->data = data;
    buf->capacity = capacity;
    return data + buf->len;
}

void cn_buf_advance(cn_buf *buf, size_t len)
{
    CN_ASSERT(len <= buf->capacity - buf->len);
    buf->len += len;
}

void cn_buf_add(cn_buf *buf, const void *data, size_t len)
{
    char *at = len ? cn_buf_reserve(buf, len) : NULL;
    if (!at) return;
    memcpy(at, data, len);
    buf->len += len;
}

void cn_buf_add_char(cn_buf *buf, char c) { cn_buf_add(buf, &c, 1); }

void cn_buf_add_text(cn_buf *buf, const char *text) { cn_buf_add(buf, text, strlen(text)); }

void cn_buf_add_u64(cn_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    cn_buf_add(buf, digits + at, sizeof digits - at);
}

void cn_buf_add_float(cn_buf *buf, float value)
{
    char text[32];
    int len = 0;
    if (!isfinite(value)) {
        cn_buf_add_text(buf, "null");
        return;
    }
    for (int precision = 6; precision <= 9; precision++) {
        len = snprintf(text, sizeof text, "%.*g", precision, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    cn_buf_add(buf, text, (size_t)len);
}

void cn_buf_add_format(cn_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int len = vsnprintf(NULL, 0, format, args);
    char *at = len >= 0 ? cn_buf_reserve(buf, (size_t)len + 1) : NULL;
    if (at) {
        vsnprintf(at, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

// The escape of an ASCII byte that JSON does not allow as it is; 0 if it needs none.
static size_t json_escape(unsigned char c, char out[6])
{
    static const char hex[] = "0123456789abcdef";
    char letter = 0;
    switch (c) {
    case '"': letter = '"'; break;
    case '\\': letter = '\\'; break;
    case '\n': letter = 'n'; break;
    case '\r': letter = 'r'; break;
    case '\t': letter = 't'; break;
    case '\b': letter = 'b'; break;
    case '\f': letter = 'f'; break;
    default:
        if (c >= 0x20 && c != 0x7F) return 0;
        memcpy(out, "\\u00", 4);
        out[4] = hex[c >> 4];
        out[5] = hex[c & 15];
        return 6;
    }
    out[0] = '\\';
    out[1] = letter;
    return 2;
}

void cn_buf_add_json(cn_buf *buf, const char *text, size_t len)
{
    size_t plain = 0;        // start of the run that is copied as it is
    cn_buf_add_char(buf, '"');
    for (size_t at = 0; at < len;) {
        char escape[6];
        const unsigned char c = (unsigned char)text[at];
        const size_t step = c < 0x80 ? 1 : cn_utf8_len(text + at, len - at);
        const size_t escaped = c < 0x80 ? json_escape(c, escape) : 0;
        if (step && !escaped) {
            at += step;
            continue;
        }
        cn_buf_add(buf, text + plain, at - plain);
        if (escaped) cn_buf_add(buf, escape, escaped);
        else cn_buf_add(buf, "\xEF\xBF\xBD", 3);
        at += step ? step : cn_utf8_bad_len(text + at, len - at);
        plain = at;
    }
    cn_buf_add(buf, text + plain, len - plain);
    cn_buf_add_char(buf, '"');
}
