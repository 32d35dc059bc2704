/* base/buf.h: a bounded, growing byte string, for text that is built piece by piece.
 * The first append that does not fit marks the buffer as overflowed and it and all later ones are
 * dropped, so that a writer checks once, at the end.
 *
 * Threads: one at a time.
 * Memory:  one heap block that doubles up to `bytes_max`; clear keeps it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cn_buf {
    char *data;              // not terminated; NULL while nothing was appended
    size_t len;
    size_t capacity;
    size_t bytes_max;
    bool overflowed;         // above bytes_max, or no memory
} cn_buf;

/* Starts an empty buffer in the caller's memory; nothing is allocated yet. */
void cn_buf_init(cn_buf *buf, size_t bytes_max);
/* Frees the bytes; the buffer may be used again. */
void cn_buf_close(cn_buf *buf);
/* Empties the buffer and its overflow mark; keeps the memory. */
void cn_buf_clear(cn_buf *buf);

void cn_buf_add(cn_buf *buf, const void *data, size_t len);
void cn_buf_add_char(cn_buf *buf, char c);
void cn_buf_add_text(cn_buf *buf, const char *text);
void cn_buf_add_u64(cn_buf *buf, uint64_t value);
/* The shortest of %.6g to %.9g that reads back as the same float; "null" if not finite. */
void cn_buf_add_float(cn_buf *buf, float value);
void cn_buf_add_format(cn_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `text` as a JSON string with its quotes (RFC 8259). Bytes that are not UTF-8 become U+FFFD. */
void cn_buf_add_json(cn_buf *buf, const char *text, size_t len);

/* Room for `len` bytes at the end, to be written in place and counted with cn_buf_advance; NULL if
 * it cannot be had (the buffer is then overflowed). */
char *cn_buf_reserve(cn_buf *buf, size_t len);
void cn_buf_advance(cn_buf *buf, size_t len);
