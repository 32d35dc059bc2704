#include "appliance/http_client.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <http_parser.h>

#include "base/buf.h"

enum { REQUEST_BYTES_MAX = 1 << 30 };

typedef struct target {
    char host[256], port[8], path[512], authority[272];
} target;

typedef struct answer {
    cn_http_client_body on_body;
    void *self;
    bool complete, stopped;
} answer;

static cn_code parse_url(const char *url, target *out, cn_err *err)
{
    struct http_parser_url parts;
    http_parser_url_init(&parts);
    const bool sound = strncmp(url, "http://", 7) == 0 && strlen(url) < 512 &&
                       http_parser_parse_url(url, strlen(url), 0, &parts) == 0 &&
                       parts.field_set & 1 << UF_HOST;
    if (!sound) {
        return cn_err_set(err, CN_E_INVALID, "--url: %.100s; must look like http://127.0.0.1:8000",
                          url);
    }
    const uint16_t host = parts.field_data[UF_HOST].off, host_len = parts.field_data[UF_HOST].len;
    const bool has_path = parts.field_set & 1 << UF_PATH;
    // With the query behind it, if there is one.
    const char *path = has_path ? url + parts.field_data[UF_PATH].off : "/";
    snprintf(out->host, sizeof out->host, "%.*s", host_len, url + host);
    snprintf(out->port, sizeof out->port, "%u", parts.field_set & 1 << UF_PORT ? parts.port : 80);
    snprintf(out->path, sizeof out->path, "%s", path);
    snprintf(out->authority, sizeof out->authority, "%s:%s", out->host, out->port);
    return CN_OK;
}

static int dial(const target *t, cn_err *err)
{
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    const int failure = getaddrinfo(t->host, t->port, &hints, &found);
    if (failure) {
        cn_err_set(err, CN_E_IO, "%s: %s", t->authority, gai_strerror(failure));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            const int reason = errno;
            close(fd);
            fd = -1;
            errno = reason;
        }
    }
    freeaddrinfo(found);
    if (fd < 0)
        cn_err_set(err, CN_E_IO, "%s: %s; is `cairn serve` running there?", t->authority,
                   strerror(errno));
    return fd;
}

static int on_piece(http_parser *parser, const char *data, size_t len)
{
    answer *a = parser->data;
    if (!a->on_body(a->self, parser->status_code, data, len)) a->stopped = true;
    return a->stopped;           // not 0: the parser stops
}

static int on_complete(http_parser *parser)
{
    ((answer *)parser->data)->complete = true;
    return 0;
}

static cn_code send_all(int fd, const cn_buf *request, cn_err *err)
{
    for (size_t sent = 0; sent < request->len;) {
        const ssize_t n = send(fd, request->data + sent, request->len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return cn_err_set(err, CN_E_IO, "the server ended the connection: %s", strerror(errno));
        sent += (size_t)n;
    }
    return CN_OK;
}

static cn_code receive(int fd, answer *a, unsigned *status, cn_err *err)
{
    static const http_parser_settings settings = {.on_body = on_piece,
                                                  .on_message_complete = on_complete};
    http_parser parser;
    http_parser_init(&parser, HTTP_RESPONSE);
    parser.data = a;
    while (!a->complete && !a->stopped) {
        char data[16384];
        const ssize_t n = recv(fd, data, sizeof data, 0);
        if (n < 0 && errno == EINTR) {
            // A signal: an empty piece asks whether to go on.
            if (!a->on_body(a->self, parser.status_code, "", 0)) a->stopped = true;
            continue;
        }
        if (n < 0)
            return cn_err_set(err, CN_E_IO, "the server ended the connection: %s", strerror(errno));
        const size_t parsed = http_parser_execute(&parser, &settings, data, (size_t)n);
        if (a->stopped || a->complete) break;
        if (n == 0 || parsed != (size_t)n) {
            return cn_err_set(err, CN_E_IO,
                              "the server ended the connection in the middle of an answer");
        }
    }
    *status = parser.status_code;
    return CN_OK;
}

cn_code cn_http_client_request(const cn_http_client_call *call, cn_http_client_body on_body,
                               void *self, unsigned *status, cn_err *err)
{
    target t;
    answer a = {.on_body = on_body, .self = self};
    cn_code code = parse_url(call->url, &t, err);
    if (code != CN_OK) return code;
    const int fd = dial(&t, err);
    if (fd < 0) return CN_E_IO;
    cn_buf request;
    cn_buf_init(&request, REQUEST_BYTES_MAX);
    cn_buf_add_format(&request, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", call->method,
                      t.path, t.authority);
    if (call->api_key) cn_buf_add_format(&request, "Authorization: Bearer %s\r\n", call->api_key);
    if (call->body) {
        cn_buf_add_format(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                          call->body_len);
    }
    cn_buf_add_text(&request, "\r\n");
    if (call->body) cn_buf_add(&request, call->body, call->body_len);
    code = request.overflowed ? cn_err_set(err, CN_E_MEMORY, "the request is too long")
                              : send_all(fd, &request, err);
    if (code == CN_OK) code = receive(fd, &a, status, err);
    cn_buf_close(&request);
    close(fd);
    return code;
}
