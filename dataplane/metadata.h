/* dataplane/metadata.h: what clients write on responses and conversations: up to 16 pairs of strings.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include <jansson.h>

#include "base/err.h"

enum { CN_METADATA_PAIRS_MAX = 16, CN_METADATA_KEY_CHARS_MAX = 64, CN_METADATA_VALUE_CHARS_MAX = 512 };

/* Checks `metadata` (NULL is fine), OpenAI's bounds. Errors: CN_E_INVALID. */
cn_code cn_metadata_check(const json_t *metadata, cn_err *err);
