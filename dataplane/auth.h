/* dataplane/auth.h: API keys as clients send them, and whose KV pages a request may share.
 * Keys are kept as keyed hashes only; a comparison takes the same time whatever the client sent and
 * whichever key it is.
 *
 * Threads: any once it is open.
 * Memory:  a copy of the keys file (dataplane/key_file.h), and 32 bytes per key. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/random.h"
#include "dataplane/key_file.h"
#include "state/page_key.h"

typedef struct cn_auth cn_auth;

enum { CN_AUTH_TENANT_BYTES = CN_QUOTA_ID_BYTES };

/* Opens with the keys of `file`, which is borrowed (NULL: everybody is let in; none: nobody is).
 * Errors: CN_E_MEMORY. */
cn_code cn_auth_open(const cn_key_file *file, const cn_random *random, cn_auth **out, cn_err *err);
void cn_auth_close(cn_auth *auth);

const cn_key_file *cn_auth_file(const cn_auth *auth);
/* Whether /metrics asks for a key: one has that scope, or there would be no way to read it. */
bool cn_auth_guards_metrics(const cn_auth *auth);

/* Checks the value of an Authorization field (NULL: there was none). On CN_OK *key is the index of
 * the key, UINT32_MAX where there are none. Errors: CN_E_AUTH. */
cn_code cn_auth_check(const cn_auth *auth, const char *authorization, uint32_t *key, cn_err *err);
/* Whether a key may be used for all of `scopes`. Errors: CN_E_SCOPE. */
cn_code cn_auth_permit(const cn_auth *auth, uint32_t key, unsigned scopes, cn_err *err);

/* The salt of a request's page keys: equal for equal tenants and salts, different otherwise. */
void cn_auth_salt(const uint8_t tenant[CN_AUTH_TENANT_BYTES], const char *cache_salt, size_t len,
                  uint8_t out[CN_KEY_BYTES]);
