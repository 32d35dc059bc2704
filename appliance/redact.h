/* appliance/redact.h: takes secrets out of text that leaves the machine: values that are known (API keys,
 * passwords), what looks like one, and what might be said in a conversation.
 *
 * Threads: one at a time.
 * Memory:  secrets are borrowed. */
#pragma once

#include <stdint.h>

#include "base/buf.h"

enum { CN_REDACT_SECRETS_MAX = 1100 };

typedef struct cn_redact {
    const char *secrets[CN_REDACT_SECRETS_MAX];
    uint32_t count;
} cn_redact;

/* Adds a value that must not appear; NULL and what is shorter than 4 bytes are ignored. */
void cn_redact_add(cn_redact *redact, const char *secret);

/* Appends the text with [redacted] in the place of each secret: known values; what follows Bearer,
 * "password=", "api_key:" and their like; words that begin as API keys do (sk-); the password of a URL. */
void cn_redact_write(const cn_redact *redact, const char *text, size_t len, cn_buf *out);
