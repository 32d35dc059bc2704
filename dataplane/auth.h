/* dataplane/auth.h: API keys, and whose KV pages a request may share.
 * Keys are kept as keyed hashes only; a comparison takes the same time whatever the client sent and
 * whichever key it is.
 *
 * Threads: any once it is open.
 * Memory:  32 bytes per key. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/random.h"
#include "state/page_key.h"

typedef struct cn_auth cn_auth;

enum { CN_AUTH_KEY_BYTES_MAX = 512, CN_AUTH_TENANT_BYTES = 32 };

/* Opens with `count` keys (none: everybody is let in). Errors: CN_E_INVALID (a key that is empty,
 * longer than CN_AUTH_KEY_BYTES_MAX, or has a byte that a header cannot carry), CN_E_MEMORY. */
cn_code cn_auth_open(const char *const *keys, uint32_t count, const cn_random *random,
                     cn_auth **out, cn_err *err);
void cn_auth_close(cn_auth *auth);

/* Checks the value of an Authorization field (NULL: there was none). On CN_OK `tenant` stands for
 * the key: equal keys give equal tenants on every appliance. Errors: CN_E_AUTH. */
cn_code cn_auth_check(const cn_auth *auth, const char *authorization,
                      uint8_t tenant[CN_AUTH_TENANT_BYTES], cn_err *err);

/* The salt of a request's page keys: equal for equal tenants and salts, different otherwise. */
void cn_auth_salt(const uint8_t tenant[CN_AUTH_TENANT_BYTES], const char *cache_salt, size_t len,
                  uint8_t out[CN_KEY_BYTES]);
