/* state/redis_command_int.h: operations of the log as Redis commands, and replies as results.
 * Each command writes at most one key, once: a torn append-only file then ends with a whole
 * command.
 *
 * Threads: any, nothing is kept.
 * Memory:  commands are appended to the caller's buffer; replies are borrowed. */
#pragma once

#include <hiredis/hiredis.h>

#include "base/buf.h"
#include "state/store.h"

/* Compare-and-set of KEYS[1]; with KEYS[2] only while that key holds a value with the SHA-1
 * ARGV[5]. */
extern const char *const cn_redis_command_script;

/* How a script is called: by its digest, or by its text after NOSCRIPT. */
typedef struct cn_redis_script_call {
    const char *sha;                 // NULL: EVAL
    const cn_store_op *guard;        // NULL, or the PUT_NEW that must have succeeded
} cn_redis_script_call;

typedef enum cn_redis_verdict {
    CN_REDIS_DONE,      // op->code and op->reply are set
    CN_REDIS_COMPARE,   // PUT_NEW found a value: read it (write_get), then call compare
    CN_REDIS_EVAL,      // the server does not know the script
    CN_REDIS_GUARDED,   // SWAP was not carried out: the operation before it failed
    CN_REDIS_AGAIN,     // not carried out, for a reason that passes
    CN_REDIS_ELSEWHERE, // not carried out: this server may not write any more
    CN_REDIS_MOVED,     // not carried out: another node has the key
    CN_REDIS_ASK
} cn_redis_verdict;

/* Appends the words as one command; each is text that ends with 0. */
void cn_redis_command_write_words(cn_buf *out, const char *const *words, uint32_t count);
/* Appends the command of an operation; `cursor` replaces that of a SCAN. */
void cn_redis_command_write(cn_buf *out, const cn_store_op *op, const cn_redis_script_call *call,
                            uint64_t cursor);
void cn_redis_command_write_get(cn_buf *out, const cn_store_op *op);

/* What a reply means. Other than DONE leaves op->code as it was. */
cn_redis_verdict cn_redis_command_read(cn_store_op *op, const redisReply *reply);
/* The answer to PUT_NEW from the value that is there. AGAIN: it is gone again. */
cn_redis_verdict cn_redis_command_compare(cn_store_op *op, const redisReply *reply);
