#include "state/page_key.h"

#include <assert.h>
#include <string.h>

#include <sodium.h>

static_assert(CN_KEY_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");

cn_page_key cn_page_key_root(const cn_kv_info *kv, const uint8_t model[CN_FINGERPRINT_BYTES],
                             const uint8_t salt[CN_KEY_BYTES])
{
    cn_page_key root;
    crypto_generichash_state hash;
    crypto_generichash_init(&hash, NULL, 0, CN_KEY_BYTES);
    crypto_generichash_update(&hash, (const uint8_t *)kv->numerics, sizeof kv->numerics);
    crypto_generichash_update(&hash, (const uint8_t *)&kv->layout_version, sizeof kv->layout_version);
    crypto_generichash_update(&hash, (const uint8_t *)&kv->page_bytes, sizeof kv->page_bytes);
    crypto_generichash_update(&hash, model, CN_FINGERPRINT_BYTES);
    crypto_generichash_update(&hash, salt, CN_KEY_BYTES);
    crypto_generichash_final(&hash, root.bytes, CN_KEY_BYTES);
    return root;
}

cn_page_key cn_page_key_next(const cn_page_key *parent, const int32_t tokens[CN_PAGE_TOKENS])
{
    uint8_t message[CN_KEY_BYTES + sizeof(int32_t) * CN_PAGE_TOKENS];
    memcpy(message, parent->bytes, CN_KEY_BYTES);
    memcpy(message + CN_KEY_BYTES, tokens, sizeof(int32_t) * CN_PAGE_TOKENS);
    cn_page_key key;
    crypto_generichash(key.bytes, CN_KEY_BYTES, message, sizeof message, NULL, 0);
    return key;
}
