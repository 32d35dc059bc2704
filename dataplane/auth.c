#include "dataplane/auth.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { HASH_BYTES = 32 };

struct cn_auth {
    uint32_t count;
    uint8_t secret[crypto_generichash_KEYBYTES];     // so that a dump of hashes tells nothing
    uint8_t hashes[][HASH_BYTES];
};

static cn_code check_key(const char *key, uint32_t index, cn_err *err)
{
    const size_t len = strlen(key);
    if (len == 0 || len > CN_AUTH_KEY_BYTES_MAX) {
        return cn_err_set(err, CN_E_INVALID, "API key %u: %zu bytes; must be 1 to %d", index + 1,
                          len, CN_AUTH_KEY_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if (key[i] > 0x20 && key[i] < 0x7F) continue;
        return cn_err_set(err, CN_E_INVALID,
                          "API key %u: byte %zu is 0x%02x; must be visible ASCII without spaces",
                          index + 1, i + 1, (unsigned char)key[i]);
    }
    return CN_OK;
}

static void hash(const cn_auth *auth, const char *key, size_t len, uint8_t out[HASH_BYTES])
{
    crypto_generichash(out, HASH_BYTES, (const unsigned char *)key, len, auth->secret,
                       sizeof auth->secret);
}

cn_code cn_auth_open(const char *const *keys, uint32_t count, const cn_random *random,
                     cn_auth **out, cn_err *err)
{
    *out = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const cn_code code = check_key(keys[i], i, err);
        if (code != CN_OK) return code;
    }
    cn_auth *auth = calloc(1, sizeof *auth + (size_t)count * HASH_BYTES);
    if (!auth) return cn_err_set(err, CN_E_MEMORY, "API keys: no memory");
    auth->count = count;
    cn_random_fill(random, auth->secret, sizeof auth->secret);
    for (uint32_t i = 0; i < count; i++) hash(auth, keys[i], strlen(keys[i]), auth->hashes[i]);
    *out = auth;
    return CN_OK;
}

void cn_auth_close(cn_auth *auth)
{
    if (!auth) return;
    sodium_memzero(auth, sizeof *auth + (size_t)auth->count * HASH_BYTES);
    free(auth);
}

// The token of "Bearer <token>" (RFC 6750; the scheme in any case), or NULL.
static const char *bearer(const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer", 6) != 0) return NULL;
    const char *token = authorization + 6;
    if (*token != ' ') return NULL;
    while (*token == ' ') token++;
    return token;
}

cn_code cn_auth_check(const cn_auth *auth, const char *authorization,
                      uint8_t tenant[CN_AUTH_TENANT_BYTES], cn_err *err)
{
    uint8_t given[HASH_BYTES];
    int found = 0;
    memset(tenant, 0, CN_AUTH_TENANT_BYTES);
    if (auth->count == 0) return CN_OK;
    const char *token = bearer(authorization);
    if (!token) {
        return cn_err_set(err, CN_E_AUTH,
                          "no API key; send it as \"Authorization: Bearer <key>\"");
    }
    const size_t len = strlen(token);
    hash(auth, token, len, given);
    for (uint32_t i = 0; i < auth->count; i++) {     // all of them, so the time does not tell which
        found |= sodium_memcmp(given, auth->hashes[i], HASH_BYTES) == 0;
    }
    if (!found) return cn_err_set(err, CN_E_AUTH, "the API key is not one of this server's");
    crypto_generichash(tenant, CN_AUTH_TENANT_BYTES, (const unsigned char *)token, len, NULL, 0);
    return CN_OK;
}

void cn_auth_salt(const uint8_t tenant[CN_AUTH_TENANT_BYTES], const char *cache_salt, size_t len,
                  uint8_t out[CN_KEY_BYTES])
{
    static const unsigned char purpose[] = "cairn page salt 1";
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, CN_KEY_BYTES);
    crypto_generichash_update(&state, purpose, sizeof purpose);
    crypto_generichash_update(&state, tenant, CN_AUTH_TENANT_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)cache_salt, len);
    crypto_generichash_final(&state, out, CN_KEY_BYTES);
}
