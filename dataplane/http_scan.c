#include "dataplane/http_scan_int.h"

#include <string.h>

/* How it works. One state per place in the grammar, one step per byte:
 *
 *   LEADING ─▶ METHOD ─▶ TARGET ─▶ VERSION ─▶ LINE_END ─▶ LINE_START ─▶ NAME ─▶ VALUE ─▶ LINE_END
 *    (empty                                        ▲           │                            │
 *     lines)                                       └───────────│────────────────────────────┘
 *                                                              └─▶ HEAD_END ─▶ done
 *
 * LEADING_END, LINE_END and HEAD_END have seen CR and accept nothing but LF; no other state accepts
 * LF, and only those that lead there accept CR. So every line ends with exactly CRLF, folding
 * cannot occur (LINE_START refuses white space), and a name ends with its colon. */

enum { LEADING, LEADING_END, METHOD, TARGET, VERSION, LINE_END, LINE_START, NAME, VALUE, HEAD_END };

enum { LEADING_LINES_MAX = 2, METHOD_BYTES_MAX = 32 };

// Classes of bytes (RFC 9110, 5.6.2; RFC 3986 for targets).
enum { TOKEN = 1, TARGET_CHAR = 2, VALUE_CHAR = 4, HEX = 8 };

#define T TOKEN
#define U TARGET_CHAR
#define V VALUE_CHAR
#define H HEX
static const uint8_t classes[256] = {
    ['\t'] = V, [' '] = V,
    ['!'] = T | U | V, ['"'] = V, ['#'] = T | V, ['$'] = T | U | V, ['%'] = T | U | V,
    ['&'] = T | U | V, ['\''] = T | U | V, ['('] = U | V, [')'] = U | V, ['*'] = T | U | V,
    ['+'] = T | U | V, [','] = U | V, ['-'] = T | U | V, ['.'] = T | U | V, ['/'] = U | V,
    ['0' ... '9'] = T | U | V | H,
    [':'] = U | V, [';'] = U | V, ['<'] = V, ['='] = U | V, ['>'] = V, ['?'] = U | V, ['@'] = U | V,
    ['A' ... 'F'] = T | U | V | H, ['G' ... 'Z'] = T | U | V,
    ['['] = U | V, ['\\'] = V, [']'] = U | V, ['^'] = T | V, ['_'] = T | U | V, ['`'] = T | V,
    ['a' ... 'f'] = T | U | V | H, ['g' ... 'z'] = T | U | V,
    ['{'] = V, ['|'] = T | V, ['}'] = V, ['~'] = T | U | V,
    [0x80 ... 0xFF] = V,
};
#undef T
#undef U
#undef V
#undef H

void cn_http_scan_init(cn_http_scan *scan) { *scan = (cn_http_scan){.state = LEADING}; }

void cn_http_scan_init_trailers(cn_http_scan *scan, uint32_t bytes)
{
    *scan = (cn_http_scan){.state = LINE_START, .bytes = bytes, .version_ok = true};
}

static cn_code refuse(cn_err *err, unsigned char c, const char *where, const char *right)
{
    if (c == '\n') {
        return cn_err_set(err, CN_E_HTTP, "line feed without carriage return %s; must be %s", where,
                          right);
    }
    return cn_err_set(err, CN_E_HTTP, "byte 0x%02x %s; must be %s", c, where, right);
}

static cn_code step_request_line(cn_http_scan *scan, const cn_limits *limits, unsigned char c,
                                 cn_err *err)
{
    static const char version[] = "HTTP/d.d";
    switch (scan->state) {
    case LEADING:
        if (c == '\r') {
            if (scan->matched++ == LEADING_LINES_MAX) {
                return cn_err_set(err, CN_E_HTTP, "more than %d empty lines before a request",
                                  LEADING_LINES_MAX);
            }
            scan->state = LEADING_END;
            return CN_OK;
        }
        scan->matched = 0;
        scan->state = METHOD;
        // fall through
    case METHOD:
        if (c == ' ' && scan->method_bytes) {
            scan->state = TARGET;
        } else if (!(classes[c] & TOKEN)) {
            return refuse(err, c, "in the method", "a name and one space");
        } else if (++scan->method_bytes > METHOD_BYTES_MAX) {
            return cn_err_set(err, CN_E_HTTP, "method: more than %d bytes", METHOD_BYTES_MAX);
        }
        return CN_OK;
    case TARGET:
        if (scan->hex_left && !(classes[c] & HEX)) {
            return refuse(err, c, "after '%' in the request target", "two hexadecimal digits");
        }
        scan->hex_left = c == '%' ? 2 : scan->hex_left ? scan->hex_left - 1 : 0;
        if (c == ' ' && scan->target_bytes) {
            scan->state = VERSION;
        } else if (c == '\r' || c == '\n') {
            return cn_err_set(err, CN_E_HTTP, "request line without a version; must end with "
                                              "\" HTTP/1.1\"");
        } else if (!(classes[c] & TARGET_CHAR)) {
            return refuse(err, c, "in the request target", "a character of a URI (RFC 3986)");
        } else if (++scan->target_bytes > limits->http_uri_bytes) {
            return cn_err_set(err, CN_E_URI,
                              "request target: more than %llu bytes, the limit http_uri_bytes",
                              (unsigned long long)limits->http_uri_bytes);
        }
        return CN_OK;
    default:                         // VERSION
        if (scan->matched == sizeof version - 1) {
            if (c != '\r') return refuse(err, c, "after the version", "the end of the line");
            scan->state = LINE_END;
            return CN_OK;
        }
        const bool digit = version[scan->matched] == 'd';
        if (digit ? c < '0' || c > '9' : c != (unsigned char)version[scan->matched]) {
            return refuse(err, c, "in the version", "HTTP/1.0 or HTTP/1.1");
        }
        if (scan->matched == 5) scan->version_ok = c == '1';
        if (scan->matched == 7) scan->version_ok = scan->version_ok && c <= '1';
        scan->matched++;
        return CN_OK;
    }
}

static cn_code step_line_end(cn_http_scan *scan, unsigned char c, cn_err *err)
{
    if (c != '\n') {
        return cn_err_set(err, CN_E_HTTP, "carriage return without line feed, before byte 0x%02x",
                          c);
    }
    if (!scan->version_ok && scan->state == LINE_END) {
        return cn_err_set(err, CN_E_VERSION, "HTTP version; must be 1.0 or 1.1");
    }
    scan->done = scan->state == HEAD_END;
    scan->state = scan->state == LEADING_END ? LEADING : LINE_START;
    return CN_OK;
}

static cn_code step_header(cn_http_scan *scan, const cn_limits *limits, unsigned char c,
                           cn_err *err)
{
    switch (scan->state) {
    case LINE_START:
        if (c == '\r') {
            scan->state = HEAD_END;
            return CN_OK;
        }
        if (c == ' ' || c == '\t') {
            return refuse(err, c, "at the start of a header line",
                          "a name; lines cannot be folded");
        }
        if (!(classes[c] & TOKEN)) {
            return refuse(err, c, "at the start of a header line", "a name");
        }
        if (++scan->header_count > limits->http_header_count) {
            return cn_err_set(err, CN_E_HEADERS,
                              "header fields: more than %llu, the limit http_header_count",
                              (unsigned long long)limits->http_header_count);
        }
        scan->state = NAME;
        return CN_OK;
    case NAME:
        if (c == ':') scan->state = VALUE;
        else if (!(classes[c] & TOKEN)) return refuse(err, c, "in a header name", "name and colon");
        return CN_OK;
    default:                         // VALUE
        if (c == '\r') scan->state = LINE_END;
        else if (!(classes[c] & VALUE_CHAR)) return refuse(err, c, "in a header value", "text");
        return CN_OK;
    }
}

static cn_code step(cn_http_scan *scan, const cn_limits *limits, unsigned char c, cn_err *err)
{
    switch (scan->state) {
    case LEADING_END: case LINE_END: case HEAD_END: return step_line_end(scan, c, err);
    case LINE_START: case NAME: case VALUE: return step_header(scan, limits, c, err);
    default: return step_request_line(scan, limits, c, err);
    }
}

// Bytes from the start of `data` that leave the state as it is: most of a head.
static size_t run_of(const cn_http_scan *scan, const char *data, size_t len)
{
    const uint8_t class = scan->state == VALUE ? VALUE_CHAR : scan->state == NAME ? TOKEN : 0;
    size_t n = 0;
    while (n < len && (classes[(unsigned char)data[n]] & class)) n++;
    return n;
}

cn_code cn_http_scan_feed(cn_http_scan *scan, const cn_limits *limits, const char *data, size_t len,
                          size_t *taken, cn_err *err)
{
    const size_t room = (size_t)limits->http_header_bytes - scan->bytes;
    const size_t may = len < room ? len : room;
    size_t at = 0;
    while (at < may && !scan->done) {
        at += run_of(scan, data + at, may - at);
        if (at == may) break;
        const cn_code code = step(scan, limits, (unsigned char)data[at], err);
        if (code) return code;
        at++;
    }
    scan->bytes += (uint32_t)at;
    *taken = at;
    if (!scan->done && len > room) {
        return cn_err_set(err, CN_E_HEADERS,
                          "head: more than %llu bytes, the limit http_header_bytes",
                          (unsigned long long)limits->http_header_bytes);
    }
    return CN_OK;
}
