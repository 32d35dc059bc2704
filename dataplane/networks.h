/* dataplane/networks.h: a list of IP networks, as an operator writes it: "10.0.0.0/8, 2001:db8::/32".
 * An address without a length is a network of its own.
 *
 * Threads: any once it is parsed.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { CN_NETWORKS_MAX = 32 };

typedef struct cn_networks {
    struct {
        uint8_t address[16];             // IPv4 as it is mapped into IPv6
        uint8_t bits;                    // of them, that must agree
    } at[CN_NETWORKS_MAX];
    uint32_t count;
} cn_networks;

/* `key` begins error texts. "" gives none. Errors: CN_E_INVALID. */
cn_code cn_networks_parse(const char *key, const char *text, cn_networks *out, cn_err *err);

/* Whether one of them has the host of "192.0.2.7:40001" or "[2001:db8::1]:443". */
bool cn_networks_has(const cn_networks *networks, const char *address);
