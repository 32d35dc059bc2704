#include "dataplane/http_parse_int.h"

#include <ctype.h>
#include <http_parser.h>
#include <string.h>
#include <strings.h>

/* How it works. http-parser reports where names and values are; each is terminated once the parser
 * has gone past it, that is when it reports the next one. It must find exactly as many fields as
 * the scan counted: where the two disagree, so might another parser, and the request is refused.
 *
 * It is told that no body follows, and what fields mean is decided here: http-parser takes
 * `Transfer-Encoding-X` for `Transfer-Encoding` and `keep-alive` before a tab for another word. */

typedef struct reader {
    cn_http_request *request;
    cn_http_header *headers;
    uint32_t header_max, header_count;
    char *url;
    size_t url_len;
    char *name, *value;          // of the newest field
    size_t name_len, value_len;
    bool complete;
} reader;

static void terminate_field(reader *r)
{
    if (!r->header_count) return;
    for (size_t i = 0; i < r->name_len; i++) r->name[i] = (char)tolower((unsigned char)r->name[i]);
    r->name[r->name_len] = '\0';
    size_t len = r->value_len;
    while (len && (r->value[len - 1] == ' ' || r->value[len - 1] == '\t')) len--;
    r->value[len] = '\0';
    r->headers[r->header_count - 1] = (cn_http_header){r->name, r->value};
}

// The bytes are the head's own, which we may change; http-parser has them as const.
static int on_url(http_parser *parser, const char *at, size_t len)
{
    reader *r = parser->data;
    r->url = (char *)(uintptr_t)at;
    r->url_len = len;
    return 0;
}

static int on_field(http_parser *parser, const char *at, size_t len)
{
    reader *r = parser->data;
    if (r->header_count == r->header_max) return 1;
    terminate_field(r);
    r->header_count++;
    r->name = (char *)(uintptr_t)at;
    r->name_len = len;
    r->value = r->name + len;    // the colon, for a value that is empty
    r->value_len = 0;
    return 0;
}

static int on_value(http_parser *parser, const char *at, size_t len)
{
    reader *r = parser->data;
    if (len == 0) return 0;          // `at` is on the next line already
    r->value = (char *)(uintptr_t)at;
    r->value_len = len;
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    reader *r = parser->data;
    terminate_field(r);
    r->complete = r->header_count == r->header_max;
    return 2;                    // no body: bodies are not its business
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
};

static cn_code parser_code(const http_parser *parser, cn_err *err)
{
    const enum http_errno code = HTTP_PARSER_ERRNO(parser);
    switch (code) {
    case HPE_INVALID_METHOD:
        return cn_err_set(err, CN_E_METHOD, "method: not known");
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return cn_err_set(err, CN_E_HTTP, "Content-Length: more than one, or beside "
                                          "Transfer-Encoding; must be one of the two, once");
    case HPE_INVALID_CONTENT_LENGTH:
        return cn_err_set(err, CN_E_HTTP, "Content-Length: must be digits of a number below 2^64");
    case HPE_OK:
        return cn_err_set(err, CN_E_HTTP, "head: ambiguous header fields");
    default:
        return cn_err_set(err, CN_E_HTTP, "head: %s", http_errno_description(code));
    }
}

// ---- the request target ------------------------------------------------------------------------

// uri-host [":" port] (RFC 3986, 3.2.2); empty is allowed, user information is not.
static bool host_ok(const char *host)
{
    if (*host == '[') {
        host += 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
        if (*host++ != ']') return false;
    } else {
        host += strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                             "-._~!$&'()*+,;=%");
    }
    if (*host == ':') host += 1 + strspn(host + 1, "0123456789");
    return *host == '\0';
}

// "http://host/path": cuts the authority off; *path is what follows it.
static cn_code split_absolute(cn_http_request *request, char *target, char **authority, char **path,
                              cn_err *err)
{
    const size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                          : strncasecmp(target, "https://", 8) == 0 ? 8
                                                                    : 0;
    if (!scheme) {
        return cn_err_set(err, CN_E_HTTP, "request target: must begin with '/' or http://");
    }
    const size_t len = strcspn(target + scheme, "/?");
    *authority = cn_arena_copy(&request->arena, target + scheme, len);
    if (!*authority) return cn_err_set(err, CN_E_MEMORY, "request: no memory for its host");
    if (!len || !host_ok(*authority)) {
        return cn_err_set(err, CN_E_HTTP, "request target: must have a host, without user");
    }
    *path = target + scheme + len;
    return CN_OK;
}

static cn_code take_target(cn_http_request *request, char *target, char **authority, cn_err *err)
{
    char *path = target;
    *authority = NULL;
    const bool is_options = strcmp(request->method, "OPTIONS") == 0;
    if (*target != '/' && !(is_options && strcmp(target, "*") == 0)) {
        const cn_code code = split_absolute(request, target, authority, &path, err);
        if (code) return code;
    }
    char *query = strchr(path, '?');
    request->query = query ? query + 1 : "";
    if (query) *query = '\0';
    request->path = *path ? path : is_options ? "*" : "/";
    return CN_OK;
}

// ---- decisions between fields ------------------------------------------------------------------

typedef struct fields {
    uint32_t host_count, length_count, encoding_count;
    uint32_t host_at;
    bool keep_alive, close;      // words of Connection
    const char *length, *encoding;
} fields;

// Whether a comma-separated list has this word (RFC 9110, 5.6.1), in any case.
static bool has_word(const char *list, const char *word)
{
    const size_t len = strlen(word);
    while (*list) {
        list += strspn(list, ", \t");
        const size_t n = strcspn(list, ", \t");
        const char *after = list + n + strspn(list + n, " \t");
        const bool ends = *after == ',' || *after == '\0';
        if (ends && n == len && strncasecmp(list, word, len) == 0) return true;
        list += strcspn(list, ",");
    }
    return false;
}

static cn_code take_expect(const char *value, cn_http_framing *framing, cn_err *err)
{
    if (strcasecmp(value, "100-continue") != 0) {
        return cn_err_set(err, CN_E_EXPECTATION, "Expect: \"%.64s\"; must be 100-continue", value);
    }
    framing->expects_continue = !framing->http10;
    return CN_OK;
}

static cn_code find_fields(const cn_http_request *request, fields *f, cn_http_framing *framing,
                           cn_err *err)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        const cn_http_header *h = &request->headers[i];
        if (strcmp(h->name, "host") == 0) {
            f->host_count++;
            f->host_at = i;
        } else if (strcmp(h->name, "content-length") == 0) {
            f->length_count++;
            f->length = h->value;
        } else if (strcmp(h->name, "transfer-encoding") == 0) {
            f->encoding_count++;
            f->encoding = h->value;
        } else if (strcmp(h->name, "connection") == 0) {
            f->keep_alive |= has_word(h->value, "keep-alive");
            f->close |= has_word(h->value, "close");
        } else if (strcmp(h->name, "expect") == 0) {
            const cn_code code = take_expect(h->value, framing, err);
            if (code) return code;
        }
    }
    framing->keep_alive = !f->close && (f->keep_alive || !framing->http10);
    return CN_OK;
}

static cn_code check_host(cn_http_request *request, cn_http_header *headers, const fields *f,
                          const char *authority, const cn_http_framing *framing, cn_err *err)
{
    if (f->host_count > 1) return cn_err_set(err, CN_E_HTTP, "Host: more than one; must be one");
    if (f->host_count == 0) {
        if (framing->http10) return CN_OK;
        return cn_err_set(err, CN_E_HTTP, "Host: missing; HTTP/1.1 requires it");
    }
    if (!host_ok(request->headers[f->host_at].value)) {
        return cn_err_set(err, CN_E_HTTP, "Host: must be a host and perhaps a port");
    }
    if (authority) headers[f->host_at].value = authority;    // RFC 9112, 3.2.2
    return CN_OK;
}

static cn_code parse_length(const char *text, uint64_t *out, cn_err *err)
{
    uint64_t value = 0;
    const char *at = text;
    while (*at >= '0' && *at <= '9' && !__builtin_mul_overflow(value, 10u, &value) &&
           !__builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
        at++;
    }
    if (at == text || *at) {
        return cn_err_set(err, CN_E_HTTP, "Content-Length: \"%.32s\"; must be digits", text);
    }
    *out = value;
    return CN_OK;
}

static cn_code take_body_length(const fields *f, const cn_limits *limits, cn_http_framing *framing,
                                cn_err *err)
{
    if (f->encoding_count) {
        if (f->length_count) {
            return cn_err_set(err, CN_E_HTTP, "Content-Length beside Transfer-Encoding; must be "
                                              "one of the two");
        }
        if (f->encoding_count > 1 || framing->http10) {
            return cn_err_set(err, CN_E_HTTP, "Transfer-Encoding: must be once, in HTTP/1.1");
        }
        if (strcasecmp(f->encoding, "chunked") != 0) {
            return cn_err_set(err, CN_E_ENCODING, "Transfer-Encoding: \"%.64s\"; must be exactly "
                                                  "chunked", f->encoding);
        }
        framing->chunked = true;
        return CN_OK;
    }
    if (f->length_count == 0) return CN_OK;
    if (f->length_count > 1) {
        return cn_err_set(err, CN_E_HTTP, "Content-Length: more than one; must be one");
    }
    const cn_code code = parse_length(f->length, &framing->body_bytes, err);
    if (!code && framing->body_bytes > limits->http_body_bytes) {
        return cn_err_set(err, CN_E_BODY, "body: %.20s bytes; the limit http_body_bytes is %llu",
                          f->length, (unsigned long long)limits->http_body_bytes);
    }
    return code;
}

cn_code cn_http_parse_head(char *head, size_t len, uint32_t header_count, const cn_limits *limits,
                           cn_http_request *request, cn_http_framing *framing, cn_err *err)
{
    *framing = (cn_http_framing){0};
    cn_http_header *headers =
        cn_arena_take_array(&request->arena, header_count + 1, sizeof *headers);
    if (!headers) return cn_err_set(err, CN_E_MEMORY, "request: no memory for its headers");

    reader r = {.request = request, .headers = headers, .header_max = header_count};
    http_parser parser;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &r;
    parser.allow_chunked_length = 1;     // take_body_length refuses the pair, and says so
    http_parser_execute(&parser, &settings, head, len);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || !r.complete) return parser_code(&parser, err);

    framing->http10 = parser.http_minor == 0;
    framing->is_head = parser.method == HTTP_HEAD;
    request->method = http_method_str((enum http_method)parser.method);
    request->headers = headers;
    request->header_count = header_count;
    if (parser.method == HTTP_CONNECT) {
        return cn_err_set(err, CN_E_METHOD, "method: CONNECT; Cairn is not a proxy");
    }
    fields f = {0};
    char *authority;
    r.url[r.url_len] = '\0';
    cn_code code = take_target(request, r.url, &authority, err);
    if (!code) code = find_fields(request, &f, framing, err);
    if (!code) code = check_host(request, headers, &f, authority, framing, err);
    if (!code) code = take_body_length(&f, limits, framing, err);
    return code;
}
