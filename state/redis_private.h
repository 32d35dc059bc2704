/* state/redis_private.h: two redis-server processes of our own, for a machine without a configured
 * Redis: `log` (append-only file, nothing evicted) and `pages` (least used evicted; a file is written
 * when it is told to end), on Unix sockets in one directory that belongs to one cairn at a time. They
 * end with this process, however it ends; one that is left over nevertheless is ended first, so that
 * a file never has two writers.
 *
 * Threads: one at a time.
 * Memory:  small; the servers' own is bounded by the options. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "state/store.h"

typedef struct cn_redis_private cn_redis_private;

typedef struct cn_redis_private_options {
    const char *directory;           // made if it is not there
    cn_durability durability;        // of the log
    uint64_t log_bytes, page_bytes;  // memory: when the log is full, when pages are evicted
    cn_clock clock;
    const cn_log *logger;            // NULL: none
} cn_redis_private_options;

/* Starts both and does not wait until they answer. Errors: CN_E_INVALID (fsync+replica; a path that
 * no Unix socket can have), CN_E_IO (no redis-server, the directory cannot be used or is in use).
 */
cn_code cn_redis_private_open(const cn_redis_private_options *options, cn_redis_private **out,
                              cn_err *err);
/* Ends both and waits for them; the log's file is whole. NULL is fine. */
void cn_redis_private_close(cn_redis_private *servers);

/* Starts again what has ended, after a pause that grows. Call when a connection broke, and at due.
 */
void cn_redis_private_tend(cn_redis_private *servers);
uint64_t cn_redis_private_due_ns(const cn_redis_private *servers);

/* Where they are, as addresses for a store: "unix:/...". */
const char *cn_redis_private_log_address(const cn_redis_private *servers);
const char *cn_redis_private_pages_address(const cn_redis_private *servers);
