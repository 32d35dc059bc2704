/* kernels/collective.h: how the ranks of a group exchange what they computed.
 * Each rank has a thread and one end of the group. All ranks make the same calls in the same order,
 * with the same sizes; send and receive are between two of them. A call of the whole group happens
 * on every rank or on none: either all return CN_OK, or all that make it return CN_E_IO, because
 * somebody aborted the group. Sums have one order, which rank_count alone decides.
 *
 * Threads: an end belongs to the thread of its rank, except where [any] stands.
 * Memory:  all in open; what a call is given is borrowed until it returns. It lies where the
 *          implementation computes: "local" in ordinary memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { CN_COLLECTIVE_RANKS_MAX = 64 };

typedef struct cn_collective cn_collective;

typedef struct cn_collective_ops {
    const char *name;            // "local"

    /* Opens a group and its ends [rank_count], one for each rank's thread. Errors: CN_E_LIMIT (0 or
     * above CN_COLLECTIVE_RANKS_MAX), CN_E_MEMORY; there are no ends then. */
    cn_code (*open)(uint32_t rank_count, cn_collective **ends, cn_err *err);
    /* Gives back one end (or NULL), which is in no call; the group goes with the last. */
    void (*close)(cn_collective *end);

    /* data[i] of every rank becomes the sum of all ranks' data[i]: neighbours are added, then
     * neighbours of those sums, and so on: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). */
    cn_code (*all_reduce)(cn_collective *end, float *data, size_t count);
    /* `data` of every rank becomes that of `root`. */
    cn_code (*broadcast)(cn_collective *end, uint32_t root, void *data, size_t bytes);
    /* whole[r * bytes] on `root` becomes the part of rank r; elsewhere `whole` is not used. */
    cn_code (*gather)(cn_collective *end, uint32_t root, const void *part, size_t bytes, void *whole);
    /* Returns when all ranks are here. */
    cn_code (*barrier)(cn_collective *end);

    /* One message between two ranks; each waits for the other. Messages of one direction keep their
     * order. Sent to a rank that itself sends here, a message waits for ever: receive first on one
     * side. CN_OK on one side means CN_OK on the other. */
    cn_code (*send)(cn_collective *end, uint32_t to, const void *data, size_t bytes);
    cn_code (*receive)(cn_collective *end, uint32_t from, void *data, size_t bytes);

    /* Ends the calls in which ranks wait for others, and all later ones, with CN_E_IO: what to do when
     * a rank hangs or is lost. What has begun on every rank is still carried out. [any] */
    void (*abort)(cn_collective *end);
} cn_collective_ops;

/* Every implementation begins with this. */
struct cn_collective {
    const cn_collective_ops *ops;
    uint32_t rank, rank_count;
};

/* Ranks that are threads of this process. */
extern const cn_collective_ops cn_collective_local_ops;
