/* state/page_key.h: the name of a page's content.
 *   key(page i) = BLAKE2b-256(key(page i-1), the page's token ids)
 *   key(-1)     = BLAKE2b-256(numerics, layout and page size of the backend, model, tenant salt)
 * Equal keys mean equal bytes: everything that decides K and V of a page is in its chain. A page of
 * other weights, another build or another instruction set is never found, wherever pages are kept.
 * Two tenants never have a key in common, so nothing about one's prompts shows in another's latency.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"

enum { CN_KEY_BYTES = 32 };

typedef struct cn_page_key {
    uint8_t bytes[CN_KEY_BYTES];
} cn_page_key;

/* The root of a tenant's chains for pages that `kv` describes, of the model with this fingerprint. */
cn_page_key cn_page_key_root(const cn_kv_info *kv, const uint8_t model[CN_FINGERPRINT_BYTES],
                             const uint8_t salt[CN_KEY_BYTES]);

/* The key of the page that follows `parent` and holds `tokens`. */
cn_page_key cn_page_key_next(const cn_page_key *parent, const int32_t tokens[CN_PAGE_TOKENS]);
