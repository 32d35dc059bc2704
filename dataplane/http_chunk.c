#include "dataplane/http_chunk_int.h"

/*   SIZE ─▶ (EXTENSION ─▶) SIZE_END ─▶ DATA ─▶ DATA_CR ─▶ DATA_END ─▶ SIZE ...
 *                              └─ size 0 ─▶ TRAILERS ─▶ done                       */
enum { SIZE, EXTENSION, SIZE_END, DATA, DATA_CR, DATA_END, TRAILERS };

enum { SIZE_DIGITS_MAX = 16 };           // 64 bits, so the value cannot overflow

void cn_http_chunk_init(cn_http_chunk *chunk) { *chunk = (cn_http_chunk){.state = SIZE}; }

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static cn_code wrong_byte(cn_err *err, unsigned char c, const char *right)
{
    return cn_err_set(err, CN_E_HTTP, "byte 0x%02x in a chunked body; must be %s", c, right);
}

static cn_code size_known(cn_http_chunk *chunk, const cn_limits *limits, cn_err *err)
{
    if (chunk->left > limits->http_body_bytes - chunk->total_bytes) {
        return cn_err_set(err, CN_E_BODY, "body: more than %llu bytes, the limit http_body_bytes",
                          (unsigned long long)limits->http_body_bytes);
    }
    chunk->total_bytes += chunk->left;
    return CN_OK;
}

static cn_code step_size(cn_http_chunk *chunk, const cn_limits *limits, unsigned char c,
                         cn_err *err)
{
    const int value = hex_value(c);
    if (value >= 0) {
        if (++chunk->digits > SIZE_DIGITS_MAX) {
            return cn_err_set(err, CN_E_HTTP, "chunk size: more than %d digits", SIZE_DIGITS_MAX);
        }
        chunk->left = chunk->left << 4 | (uint64_t)value;
        return CN_OK;
    }
    if (!chunk->digits || (c != ';' && c != '\r')) {
        return wrong_byte(err, c, "a hexadecimal size, then ';' or the end of the line");
    }
    chunk->state = c == ';' ? EXTENSION : SIZE_END;
    return size_known(chunk, limits, err);
}

static cn_code step_extension(cn_http_chunk *chunk, const cn_limits *limits, unsigned char c,
                              cn_err *err)
{
    if (c == '\r') {
        chunk->state = SIZE_END;
        return CN_OK;
    }
    if ((c < 0x20 && c != '\t') || c == 0x7F) return wrong_byte(err, c, "text of an extension");
    if (++chunk->extension_bytes >= limits->http_header_bytes) {
        return cn_err_set(err, CN_E_HEADERS,
                          "chunk extensions: more than %llu bytes, the limit http_header_bytes",
                          (unsigned long long)limits->http_header_bytes);
    }
    return CN_OK;
}

static cn_code step(cn_http_chunk *chunk, const cn_limits *limits, unsigned char c, cn_err *err)
{
    switch (chunk->state) {
    case SIZE: return step_size(chunk, limits, c, err);
    case EXTENSION: return step_extension(chunk, limits, c, err);
    case SIZE_END:
        if (c != '\n') return wrong_byte(err, c, "the line feed of a size line");
        chunk->state = chunk->left ? DATA : TRAILERS;
        if (!chunk->left) cn_http_scan_init_trailers(&chunk->trailers, chunk->extension_bytes);
        return CN_OK;
    case DATA_CR:
        if (c != '\r') return wrong_byte(err, c, "CRLF after the bytes of a chunk");
        chunk->state = DATA_END;
        return CN_OK;
    default:                             // DATA_END
        if (c != '\n') return wrong_byte(err, c, "CRLF after the bytes of a chunk");
        chunk->state = SIZE;
        chunk->digits = 0;
        return CN_OK;
    }
}

cn_code cn_http_chunk_feed(cn_http_chunk *chunk, const cn_limits *limits, const char *data,
                           size_t len, size_t *taken, const char **body, size_t *body_len,
                           cn_err *err)
{
    size_t at = 0;
    *body_len = 0;
    while (at < len && chunk->state != DATA && chunk->state != TRAILERS) {
        const cn_code code = step(chunk, limits, (unsigned char)data[at++], err);
        if (code) return code;
    }
    if (chunk->state == TRAILERS) {
        size_t read;
        const cn_code code =
            cn_http_scan_feed(&chunk->trailers, limits, data + at, len - at, &read, err);
        if (code) return code;
        at += read;
        chunk->done = chunk->trailers.done;
    } else if (chunk->state == DATA && at < len) {
        *body = data + at;
        *body_len = len - at < chunk->left ? len - at : (size_t)chunk->left;
        chunk->left -= *body_len;
        at += *body_len;
        if (!chunk->left) chunk->state = DATA_CR;
    }
    *taken = at;
    return CN_OK;
}
