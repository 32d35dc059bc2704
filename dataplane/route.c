#include "dataplane/route.h"

#include <stdio.h>
#include <string.h>

typedef struct row {
    const char *path;
    unsigned flags;
} row;

#define X(id, path, flags)                                                                         \
    _Static_assert(((flags) & CN_ROUTE_ACCESS) && !((flags) & CN_ROUTE_ACCESS &                    \
                   (((flags) & CN_ROUTE_ACCESS) - 1)), "who is let in: " path);
CN_ROUTES(X)
#undef X

static const row rows[CN_ROUTE_COUNT] = {
#define X(id, path, flags) {path, flags},
    CN_ROUTES(X)
#undef X
};

/* Whether a path is that of a line; its "{}" are filled in. A name that is too long is cut, and
 * names nothing then. */
static bool is_path(const row *r, const char *path, cn_route *out)
{
    const char *pattern = r->path;
    int name = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '{') {
            if (*path++ != *pattern) return false;
            continue;
        }
        const size_t len = strcspn(path, "/");
        if (len == 0) return false;
        cn_route_decode(path, len, out->names[name++], CN_ROUTE_NAME_BYTES);
        path += len;
        pattern++;
    }
    out->tail = path;
    return (r->flags & CN_ROUTE_PREFIX) ? *path != '\0' : *path == '\0';
}

static unsigned method_flag(const char *method)
{
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) return CN_ROUTE_GET;
    if (strcmp(method, "DELETE") == 0) return CN_ROUTE_DELETE;
    return strcmp(method, "POST") == 0 ? CN_ROUTE_POST : 0;
}

static void write_allow(unsigned methods, char out[CN_ROUTE_ALLOW_BYTES])
{
    snprintf(out, CN_ROUTE_ALLOW_BYTES, "%s%s%s", methods & CN_ROUTE_GET ? ", GET, HEAD" : "",
             methods & CN_ROUTE_POST ? ", POST" : "", methods & CN_ROUTE_DELETE ? ", DELETE" : "");
    memmove(out, out + 2, strlen(out + 2) + 1);
}

cn_code cn_route_find(const char *method, const char *path, cn_route *out, cn_err *err)
{
    unsigned methods = 0;
    for (int id = 0; id < CN_ROUTE_COUNT; id++) {
        const row *r = &rows[id];
        cn_route found = {.id = (cn_route_id)id, .flags = r->flags};
        if (!is_path(r, path, &found)) continue;
        if (!methods || (r->flags & method_flag(method))) *out = found;
        methods |= r->flags;
        if (r->flags & method_flag(method)) {
            write_allow(r->flags, out->allow);
            return CN_OK;
        }
    }
    if (!methods) {
        return cn_err_set(err, CN_E_NOT_FOUND, "%s %.256s: no such route; GET /v1/models lists the "
                          "model, POST /v1/chat/completions talks to it", method, path);
    }
    write_allow(methods, out->allow);
    return cn_err_set(err, CN_E_METHOD, "%s %.256s: must be %s", method, path, out->allow);
}

const char *cn_route_path(cn_route_id id) { return rows[id].path; }

const char *cn_route_method(cn_route_id id)
{
    const unsigned flags = rows[id].flags;
    return flags & CN_ROUTE_GET ? "GET" : flags & CN_ROUTE_POST ? "POST" : "DELETE";
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void cn_route_decode(const char *text, size_t len, char *out, size_t out_bytes)
{
    size_t to = 0;
    for (size_t i = 0; i < len && to + 1 < out_bytes; i++) {
        const bool coded = text[i] == '%' && i + 2 < len && hex_digit(text[i + 1]) >= 0 &&
                           hex_digit(text[i + 2]) >= 0;
        out[to++] = coded ? (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2])) : text[i];
        if (coded) i += 2;
    }
    out[to] = '\0';
}

bool cn_route_query(const char *query, const char *name, char *out, size_t out_bytes)
{
    const size_t name_len = strlen(name);
    while (*query) {
        const size_t len = strcspn(query, "&");
        if (len > name_len && query[name_len] == '=' && memcmp(query, name, name_len) == 0) {
            cn_route_decode(query + name_len + 1, len - name_len - 1, out, out_bytes);
            return true;
        }
        query += len;
        query += *query == '&';
    }
    return false;
}
