#include "kernels/cpu/workers_int.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "kernels/futex_int.h"

/* How it works. A model is some hundred pieces of work per step, and a piece may last a microsecond. So
 * no thread waits for another to arrive: a piece is a count of chunks, whoever is there takes the
 * next chunk, and the piece is done when all its chunks are. A helper that the system put aside
 * between two chunks is not missed.
 *
 * One 64-bit word says all there is to claim a chunk:
 *
 *     │ serial of the piece: 24 │ chunk count: 20 │ next chunk: 20 │
 *
 * Adding 1 to it claims a chunk. If the claimed number is below the count, the piece cannot end before
 * the claimer is done, so only then may it read fn and self. The leader writes those before it
 * publishes the word (release), which the claim acquires. Surplus claims count up towards the 20 bits'
 * end: a helper makes at most one per look, and looks again only when the serial has changed.
 *
 * Waiting spins for some microseconds, as the next piece is that near, and then sleeps on a futex: an
 * idle server costs nothing, and when a neighbour takes a core away, the sleeping core is where the
 * system puts the thread that was put aside, in the middle of its chunk. */

enum { SPIN_ROUNDS = 2000, INDEX_BITS = 20 };    // a round is some 10 ns: see bench/kernels --floors

static const uint64_t INDEX_MASK = (1u << INDEX_BITS) - 1;

struct cn_workers {
    _Alignas(64) _Atomic uint64_t word;
    _Alignas(64) _Atomic uint32_t done;      // chunks of this piece; a futex for the leader
    _Atomic uint32_t leader_asleep;
    _Alignas(64) _Atomic uint32_t serial;    // of the piece; a futex for the helpers
    _Atomic uint32_t sleepers;
    _Atomic bool closing;
    _Alignas(64) cn_workers_fn fn;
    void *self;
    uint32_t thread_count, started;
    pthread_t *threads;
};

typedef struct helper_start {
    cn_workers *workers;
    uint32_t thread;
} helper_start;

// Takes chunks of the current piece until none is left.
static void work(cn_workers *w, uint32_t thread)
{
    for (;;) {
        const uint64_t claim = atomic_fetch_add_explicit(&w->word, 1, memory_order_acquire);
        const uint32_t index = (uint32_t)(claim & INDEX_MASK);
        const uint32_t count = (uint32_t)(claim >> INDEX_BITS & INDEX_MASK);
        if (index >= count) return;
        w->fn(w->self, index, thread);
        // The leader reads what the chunks wrote; the order against leader_asleep must be total.
        if (atomic_fetch_add(&w->done, 1) + 1 == count &&
            atomic_load(&w->leader_asleep)) {
            futex_wake(&w->done, 1);
        }
    }
}

static void wait_for_piece(cn_workers *w, uint32_t seen)
{
    for (int round = 0; round < SPIN_ROUNDS; round++) {
        if (atomic_load_explicit(&w->serial, memory_order_acquire) != seen) return;
        futex_pause();
    }
    atomic_fetch_add(&w->sleepers, 1);
    while (atomic_load(&w->serial) == seen) futex_wait(&w->serial, seen);
    atomic_fetch_sub(&w->sleepers, 1);
}

static void *help(void *argument)
{
    const helper_start start = *(helper_start *)argument;
    cn_workers *w = start.workers;
    free(argument);
    for (uint32_t seen = 0;;) {
        wait_for_piece(w, seen);
        seen = atomic_load_explicit(&w->serial, memory_order_acquire);
        if (atomic_load_explicit(&w->closing, memory_order_acquire)) return NULL;
        work(w, start.thread);
    }
}

static cn_code start_helper(cn_workers *w, uint32_t thread, cn_err *err)
{
    helper_start *start = malloc(sizeof *start);
    if (!start) return cn_err_set(err, CN_E_MEMORY, "cpu: no memory");
    *start = (helper_start){w, thread};
    const int failure = pthread_create(&w->threads[thread - 1], NULL, help, start);
    if (failure == 0) {
        w->started++;
        return CN_OK;
    }
    free(start);
    return cn_err_set(err, CN_E_IO, "cpu.threads: %u; thread %u cannot be started: %s",
                      w->thread_count, thread, strerror(failure));
}

cn_code cn_workers_open(uint32_t thread_count, cn_workers **out, cn_err *err)
{
    *out = NULL;
    cn_workers *w = aligned_alloc(64, sizeof *w);
    if (!w) return cn_err_set(err, CN_E_MEMORY, "cpu: no memory");
    memset(w, 0, sizeof *w);
    w->thread_count = thread_count;
    w->threads = calloc(thread_count, sizeof *w->threads);
    cn_code code = w->threads ? CN_OK : cn_err_set(err, CN_E_MEMORY, "cpu: no memory");
    for (uint32_t i = 1; i < thread_count && code == CN_OK; i++) code = start_helper(w, i, err);
    if (code != CN_OK) {
        cn_workers_close(w);
        return code;
    }
    *out = w;
    return CN_OK;
}

static void publish_serial(cn_workers *w)
{
    atomic_fetch_add(&w->serial, 1);
    if (atomic_load(&w->sleepers) > 0) futex_wake(&w->serial, INT32_MAX);
}

void cn_workers_close(cn_workers *w)
{
    if (!w) return;
    atomic_store_explicit(&w->closing, true, memory_order_release);
    publish_serial(w);
    for (uint32_t i = 0; i < w->started; i++) pthread_join(w->threads[i], NULL);
    free(w->threads);
    free(w);
}

uint32_t cn_workers_count(const cn_workers *w) { return w->thread_count; }

static void wait_until_done(cn_workers *w, uint32_t count)
{
    for (int round = 0; round < SPIN_ROUNDS; round++) {
        if (atomic_load_explicit(&w->done, memory_order_acquire) == count) return;
        futex_pause();
    }
    atomic_store(&w->leader_asleep, 1);
    for (uint32_t done; (done = atomic_load(&w->done)) != count;) futex_wait(&w->done, done);
    atomic_store(&w->leader_asleep, 0);
}

void cn_workers_run(cn_workers *w, cn_workers_fn fn, void *self, uint32_t chunk_count)
{
    CN_ASSERT(chunk_count < INDEX_MASK / 2);
    if (w->thread_count == 1 || chunk_count <= 1) {
        for (uint32_t i = 0; i < chunk_count; i++) fn(self, i, 0);
        return;
    }
    w->fn = fn;
    w->self = self;
    atomic_store_explicit(&w->done, 0, memory_order_relaxed);
    const uint64_t serial = atomic_load_explicit(&w->serial, memory_order_relaxed) + 1;
    const uint64_t word = serial << 2 * INDEX_BITS | (uint64_t)chunk_count << INDEX_BITS;
    atomic_store_explicit(&w->word, word, memory_order_release);
    publish_serial(w);
    work(w, 0);
    wait_until_done(w, chunk_count);
}
