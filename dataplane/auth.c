#include "dataplane/auth.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

struct cn_auth {
    uint8_t secret[crypto_generichash_KEYBYTES];     // so that a dump of hashes tells nothing
    bool is_open;                // everybody is let in
    cn_key_file file;
    uint8_t hashes[CN_KEY_FILE_KEYS_MAX][CN_KEY_FILE_HASH_BYTES];
};

static void harden(const cn_auth *auth, const uint8_t hash[CN_KEY_FILE_HASH_BYTES],
                   uint8_t out[CN_KEY_FILE_HASH_BYTES])
{
    crypto_generichash(out, CN_KEY_FILE_HASH_BYTES, hash, CN_KEY_FILE_HASH_BYTES, auth->secret,
                       sizeof auth->secret);
}

cn_code cn_auth_open(const cn_key_file *file, const cn_random *random, cn_auth **out, cn_err *err)
{
    cn_auth *auth = calloc(1, sizeof *auth);
    *out = auth;
    if (!auth) return cn_err_set(err, CN_E_MEMORY, "API keys: no memory");
    cn_random_fill(random, auth->secret, sizeof auth->secret);
    auth->is_open = !file;
    if (file) auth->file = *file;
    for (uint32_t i = 0; i < auth->file.key_count; i++) {
        harden(auth, auth->file.keys[i].hash, auth->hashes[i]);
        sodium_memzero(auth->file.keys[i].hash, CN_KEY_FILE_HASH_BYTES);
    }
    return CN_OK;
}

void cn_auth_close(cn_auth *auth)
{
    if (!auth) return;
    sodium_memzero(auth, sizeof *auth);
    free(auth);
}

const cn_key_file *cn_auth_file(const cn_auth *auth) { return &auth->file; }

bool cn_auth_guards_metrics(const cn_auth *auth)
{
    for (uint32_t i = 0; i < auth->file.key_count; i++) {
        const cn_key_file_key *key = &auth->file.keys[i];
        if (!key->is_plain && (key->scopes & CN_SCOPE_METRICS)) return true;
    }
    return false;
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

cn_code cn_auth_check(const cn_auth *auth, const char *authorization, uint32_t *key, cn_err *err)
{
    uint8_t hash[CN_KEY_FILE_HASH_BYTES], given[CN_KEY_FILE_HASH_BYTES];
    *key = UINT32_MAX;
    if (auth->is_open) return CN_OK;
    const char *token = bearer(authorization);
    if (!token) {
        return cn_err_set(err, CN_E_AUTH,
                          "no API key; send it as \"Authorization: Bearer <key>\"");
    }
    cn_key_file_hash(token, strlen(token), hash);
    harden(auth, hash, given);
    for (uint32_t i = 0; i < auth->file.key_count; i++) {    // all, so the time does not tell which
        const uint32_t same = sodium_memcmp(given, auth->hashes[i], CN_KEY_FILE_HASH_BYTES) == 0;
        *key = (*key & (same - 1)) | (i & -same);
    }
    if (*key != UINT32_MAX) return CN_OK;
    return cn_err_set(err, CN_E_AUTH, "the API key is not one of this server's");
}

cn_code cn_auth_permit(const cn_auth *auth, uint32_t key, unsigned scopes, cn_err *err)
{
    if (key == UINT32_MAX) return CN_OK;
    const unsigned lacks = scopes & ~auth->file.keys[key].scopes;
    if (!lacks) return CN_OK;
    return cn_err_set(err, CN_E_SCOPE, "API key \"%s\" has no scope \"%s\", which this route needs",
                      auth->file.keys[key].name, cn_key_file_scope_name(lacks & -lacks));
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
