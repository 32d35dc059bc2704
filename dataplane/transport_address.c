#include "dataplane/transport_address_int.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static cn_code wrong(cn_err *err, const char *text, const char *what)
{
    return cn_err_set(err, CN_E_INVALID,
                      "address: \"%.100s\" %s; must be IPv4:PORT or [IPv6]:PORT, such as "
                      "127.0.0.1:8000", text, what);
}

// Digits only, 0 to 65535.
static bool parse_port(const char *text, uint16_t *out)
{
    uint32_t port = 0;
    if (!*text || strlen(text) > 5) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        port = port * 10 + (uint32_t)(*text - '0');
    }
    *out = (uint16_t)port;
    return port <= 65535;
}

cn_code cn_transport_address_parse(const char *text, cn_transport_sockaddr *out, socklen_t *len,
                                   cn_err *err)
{
    char host[64];
    uint16_t port;
    const bool v6 = text[0] == '[';
    const char *host_at = text + v6;
    const char *host_end = v6 ? strchr(text, ']') : strrchr(text, ':');
    if (!host_end) return wrong(err, text, v6 ? "has no ]" : "has no port");
    const char *colon = host_end + v6;
    if (*colon != ':') return wrong(err, text, "has no port");
    if (!parse_port(colon + 1, &port)) return wrong(err, text, "has a port that is not 0 to 65535");
    const size_t host_len = (size_t)(host_end - host_at);
    if (host_len >= sizeof host) return wrong(err, text, "has no IP address");
    memcpy(host, host_at, host_len);
    host[host_len] = '\0';

    memset(out, 0, sizeof *out);
    if (v6) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        *len = sizeof out->v6;
        if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) return CN_OK;
        return wrong(err, text, "has no IPv6 address between [ and ]");
    }
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons(port);
    *len = sizeof out->v4;
    const char *ip = strcmp(host, "localhost") ? host : "127.0.0.1";
    if (inet_pton(AF_INET, ip, &out->v4.sin_addr) == 1) return CN_OK;
    if (strchr(host, ':')) return wrong(err, text, "has an IPv6 address without [ and ]");
    return wrong(err, text, "has no IPv4 address");
}

void cn_transport_address_write(const cn_transport_sockaddr *address,
                                char out[CN_TRANSPORT_ADDRESS_BYTES])
{
    char ip[INET6_ADDRSTRLEN];
    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, ip, sizeof ip);
        snprintf(out, CN_TRANSPORT_ADDRESS_BYTES, "%s:%u", ip, ntohs(address->v4.sin_port));
        return;
    }
    const unsigned port = ntohs(address->v6.sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr)) {
        inet_ntop(AF_INET, address->v6.sin6_addr.s6_addr + 12, ip, sizeof ip);
        snprintf(out, CN_TRANSPORT_ADDRESS_BYTES, "%s:%u", ip, port);
        return;
    }
    inet_ntop(AF_INET6, &address->v6.sin6_addr, ip, sizeof ip);
    snprintf(out, CN_TRANSPORT_ADDRESS_BYTES, "[%s]:%u", ip, port);
}
