#include "state/redis_address_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// One server of a list; `len` bytes at `text`.
static bool parse_server(const char *text, size_t len, cn_redis_address *out)
{
    char copy[CN_REDIS_ADDRESS_BYTES], *end;
    *out = (cn_redis_address){0};
    if (len == 0 || len >= sizeof copy) return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (strncmp(copy, "unix:", 5) == 0) {
        if (copy[5] != '/' || len - 5 >= sizeof out->host) return false;
        memcpy(out->host, copy + 5, len - 4);
        return true;
    }
    char *host = copy, *colon = strrchr(copy, ':');
    if (!colon || colon == copy) return false;
    *colon = '\0';
    if (host[0] == '[') {
        char *close = strchr(host, ']');
        if (!close || close[1] != '\0') return false;
        *close = '\0';
        host++;
    } else if (strchr(host, ':')) {
        return false;
    }
    const unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end || port == 0 || port > 65535) return false;
    if (host[0] == '\0' || strlen(host) >= sizeof out->host) return false;
    memcpy(out->host, host, strlen(host) + 1);
    out->port = (uint16_t)port;
    return true;
}

static cn_code parse_list(const char *key, const char *text, cn_redis_target *out, cn_err *err)
{
    for (const char *at = text;;) {
        const size_t len = strcspn(at, ",");
        if (out->server_count == CN_REDIS_SERVERS_MAX)
            return cn_err_set(err, CN_E_INVALID, "%s: more than %d servers", key,
                              CN_REDIS_SERVERS_MAX);
        if (!parse_server(at, len, &out->servers[out->server_count++]))
            return cn_err_set(
                err, CN_E_INVALID,
                "%s: \"%.*s\" is no server; must be HOST:PORT, [IPV6]:PORT or unix:/PATH "
                "(at most %d bytes)",
                key, (int)len, at, CN_REDIS_HOST_BYTES - 1);
        if (at[len] == '\0') return CN_OK;
        at += len + 1;
    }
}

cn_code cn_redis_address_parse(const char *key, const char *text, cn_redis_target *out, cn_err *err)
{
    *out = (cn_redis_target){.mode = CN_REDIS_NONE};
    if (text[0] == '\0') return CN_OK;
    out->mode = CN_REDIS_PLAIN;
    if (strncmp(text, "cluster:", 8) == 0) {
        out->mode = CN_REDIS_CLUSTER;
        text += 8;
    } else if (strncmp(text, "sentinel:", 9) == 0) {
        const char *at = strchr(text, '@');
        const size_t len = at ? (size_t)(at - text) - 9 : 0;
        if (len == 0 || len >= sizeof out->service)
            return cn_err_set(err, CN_E_INVALID, "%s: \"%s\"; must be sentinel:NAME@HOST:PORT,...",
                              key, text);
        out->mode = CN_REDIS_SENTINEL;
        memcpy(out->service, text + 9, len);
        text = at + 1;
    }
    return parse_list(key, text, out, err);
}

bool cn_redis_address_equal(const cn_redis_address *a, const cn_redis_address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

void cn_redis_address_write(const cn_redis_address *address, char out[CN_REDIS_ADDRESS_BYTES])
{
    const char *form = address->port == 0           ? "unix:%s"
                       : strchr(address->host, ':') ? "[%s]:%u"
                                                    : "%s:%u";
    snprintf(out, CN_REDIS_ADDRESS_BYTES, form, address->host, (unsigned)address->port);
}
