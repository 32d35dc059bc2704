/* dataplane/transport_address_int.h: "127.0.0.1:8000" and "[::1]:8000", to and from sockaddr.
 * Names are not resolved: asking a name server would be an outgoing connection. `localhost` is the
 * one exception and means 127.0.0.1.
 *
 * Threads: any.
 * Memory:  the caller's. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/err.h"

enum { CN_TRANSPORT_ADDRESS_BYTES = 56 };        // the longest text with its terminator, rounded up

typedef union cn_transport_sockaddr {
    struct sockaddr any;                         // any.sa_family is the tag
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} cn_transport_sockaddr;

/* Errors: CN_E_INVALID. */
cn_code cn_transport_address_parse(const char *text, cn_transport_sockaddr *out, socklen_t *len,
                                   cn_err *err);

/* Writes the same notation; an IPv4 address mapped into IPv6 is written as the IPv4 one. */
void cn_transport_address_write(const cn_transport_sockaddr *address,
                                char out[CN_TRANSPORT_ADDRESS_BYTES]);
