#include "dataplane/route.h"

#include <string.h>

typedef struct row {
    const char *path;
    unsigned flags;
} row;

static const row rows[CN_ROUTE_COUNT] = {
#define X(id, path, flags) {path, flags},
    CN_ROUTES(X)
#undef X
};

static const row *find_path(const char *path, const char **tail)
{
    for (const row *r = rows; r < rows + CN_ROUTE_COUNT; r++) {
        const size_t len = strlen(r->path);
        *tail = path + len;
        if (!(r->flags & CN_ROUTE_PREFIX)) {
            if (strcmp(path, r->path) == 0) return r;
        } else if (strncmp(path, r->path, len) == 0 && **tail) {
            return r;
        }
    }
    return NULL;
}

static unsigned method_flag(const char *method)
{
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) return CN_ROUTE_GET;
    return strcmp(method, "POST") == 0 ? CN_ROUTE_POST : 0;
}

cn_code cn_route_find(const char *method, const char *path, cn_route *out, cn_err *err)
{
    const char *tail;
    const row *r = find_path(path, &tail);
    if (!r) {
        return cn_err_set(err, CN_E_NOT_FOUND, "%s %.256s: no such route; GET /v1/models lists the "
                          "model, POST /v1/chat/completions talks to it", method, path);
    }
    *out = (cn_route){
        .id = (cn_route_id)(r - rows),
        .flags = r->flags,
        .tail = tail,
        .allow = r->flags & CN_ROUTE_GET ? "GET, HEAD" : "POST",
    };
    if (r->flags & method_flag(method)) return CN_OK;
    return cn_err_set(err, CN_E_METHOD, "%s %.256s: must be %s", method, path, out->allow);
}

const char *cn_route_path(cn_route_id id) { return rows[id].path; }
