/* scheduler/restore_int.h: pages of waiting sequences that are brought back to the device.
 * A sequence whose pages are on the way holds no place in the batch; when it is admitted it takes over
 * the pages that came.
 *
 * Threads: engine only.
 * Memory:  none of its own. */
#pragma once

#include "scheduler/engine_int.h"

/* Looks for the pages of waiting sequences, the oldest of a tenant first, as far as the device has room for them. */
void cn_restore_ahead(cn_engine *engine);

/* Looks for the pages of this one, unless that was done. True if some are on the way. */
bool cn_restore_ask(cn_engine *engine, cn_sequence *s);
/* True while pages of the sequence are on the way. */
bool cn_restore_pending(const cn_sequence *s);
/* Moves what came to the sequence, which has no pages; sets its pages and its chain. */
void cn_restore_adopt(cn_engine *engine, cn_sequence *s);
/* Nobody waits for the pages any more. */
void cn_restore_drop(cn_engine *engine, cn_sequence *s);
/* Pages that were brought back ahead of need are given up, all but those of `except` (may be NULL); false
 * if there are none. */
bool cn_restore_yield(cn_engine *engine, const cn_sequence *except);
