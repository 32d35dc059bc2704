/* dataplane/paging.h: lists as OpenAI pages them: `after` (an id), `limit` 1 to 100, `order`.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "state/session.h"

enum { CN_PAGING_LIMIT = 20, CN_PAGING_LIMIT_MAX = 100, CN_PAGING_ID_BYTES = 128 };

typedef struct cn_paging {
    char after[CN_PAGING_ID_BYTES];      // "": from the beginning
    uint32_t limit;
    bool ascending;
} cn_paging;

/* Reads a query. Errors: CN_E_INVALID. */
cn_code cn_paging_read(const char *query, cn_paging *out, cn_err *err);

/* Appends the page of `items` (stored items, oldest first) as a list object. Errors: CN_E_INVALID
 * (`after` is none of them). */
cn_code cn_paging_write(const cn_paging *paging, const cn_bytes *items, uint32_t count, cn_buf *out,
                        cn_err *err);
