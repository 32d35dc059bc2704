/* kernels/emu/fiber.h: runs a CUDA kernel on the processor, one fiber per CUDA thread.
 * A grid runs block after block; the fibers of a block take turns where a GPU's threads would wait for
 * each other: at barriers and in operations that a warp does together. Shared memory begins as NaN,
 * a wait that nobody can end is reported with who waits for what, and the order in which ready threads
 * go on can be turned round or made random, because a kernel may depend on none.
 * What it cannot show: speed, and the memory model of real hardware.
 *
 * Threads: one grid at a time in the whole process; the caller sees to that (runtime.c does).
 * Memory:  stacks and shared memory are mapped by the first run and kept. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CN_FIBER_LANES = 32, CN_FIBER_THREADS_MAX = 1024, CN_FIBER_COPIES_MAX = 128 };

typedef struct cn_fiber_dim {
    uint32_t x, y, z;
} cn_fiber_dim;

typedef struct cn_fiber_launch {
    const char *name;            // of the kernel, for reports
    cn_fiber_dim grid, block;
    size_t shared_bytes;
    void (*body)(void *args);    // one CUDA thread
    void *args;
} cn_fiber_launch;

typedef enum cn_fiber_order { CN_FIBER_FIFO, CN_FIBER_LIFO, CN_FIBER_RANDOM } cn_fiber_order;

/* Counted over all grids since the last reset. */
typedef struct cn_fiber_counts {
    uint64_t blocks, barriers, mma;
    uint64_t matrix_phases;      // 8 rows of 16 bytes that ldmatrix reads at once ...
    uint64_t matrix_conflicts;   // ... and repetitions because two of them share a bank
    uint64_t copy_bytes;         // asked for by asynchronous copies
    uint64_t stream_bytes;       // read by loads that pass the cache by
} cn_fiber_counts;

/* Runs a grid to its end. False: a thread did what a GPU forbids or would hang in, and `fault` says what,
 * where and who; the rest of the grid did not run. */
bool cn_fiber_run(const cn_fiber_launch *launch, char *fault, size_t fault_bytes);

void cn_fiber_order_set(cn_fiber_order order, uint64_t seed);
extern cn_fiber_counts cn_fiber_counted;

/* ---- inside a kernel -------------------------------------------------------------------------- */

typedef struct cn_fiber_copy {   // asynchronous: lands when it is waited for
    void *to;
    const void *from;            // NULL: zeros
    uint32_t bytes, group;
} cn_fiber_copy;

typedef struct cn_fiber_thread {
    cn_fiber_dim thread, block, block_count, block_size;
    uint32_t index, lane, warp;  // index in the block
    uint32_t copy_count, copy_group;
    cn_fiber_copy copies[CN_FIBER_COPIES_MAX];
} cn_fiber_thread;

extern cn_fiber_thread *cn_fiber_self;   // the CUDA thread that runs

/* Shared memory of this block; `bytes` may be NULL. */
void *cn_fiber_shared(size_t *bytes);

/* Barrier `id` (0 to 15) of `count` threads. */
void cn_fiber_barrier(uint32_t id, uint32_t count);

/* The lanes of `mask` do `op` together: each brings the address of its operands, the last one runs `join`
 * over all, and results are where the operands were. `orders`: memory written before is seen after. */
void cn_fiber_meet(uint32_t mask, const char *op, void (*join)(void *const *lanes, uint32_t mask),
                   void *mine, bool orders);

/* Ends the grid. */
__attribute__((noreturn, format(printf, 1, 2))) void cn_fiber_fault(const char *format, ...);

#ifdef __cplusplus
}
#endif
