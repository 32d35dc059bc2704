/* kernels/cpu/workers_int.h: one piece of work after another, shared by a few threads.
 *
 * Threads: one leader runs pieces of work; the helpers belong to the structure.
 * Memory:  all in open. */
#pragma once

#include <stdint.h>

#include "base/err.h"

typedef struct cn_workers cn_workers;

/* Chunk `index` of a piece of work, on thread `thread` (0: the leader). */
typedef void (*cn_workers_fn)(void *self, uint32_t index, uint32_t thread);

/* Opens `thread_count` - 1 helpers; the caller's thread is the leader. Errors: CN_E_MEMORY, CN_E_IO. */
cn_code cn_workers_open(uint32_t thread_count, cn_workers **out, cn_err *err);
void cn_workers_close(cn_workers *workers);
uint32_t cn_workers_count(const cn_workers *workers);

/* Runs chunks 0 .. chunk_count - 1 in any order on any threads; returns when all are done. Which thread
 * runs a chunk must not matter. chunk_count is below 1 << 20. */
void cn_workers_run(cn_workers *workers, cn_workers_fn fn, void *self, uint32_t chunk_count);
