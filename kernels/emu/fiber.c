#include "kernels/emu/fiber.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/random.h"

/* How it works. A fiber is a stack and a saved stack pointer. Ready fibers stand in one row; whoever
 * must wait takes the next one out of the row and switches to it, so the loop below only sees a block
 * begin and end:
 *
 *    run ──▶ fiber 0 ──meets, waits──▶ fiber 1 ── ... ──▶ last lane: joins all, puts 31 back in the row
 *     ▲                                                                  │
 *     └──────────── no fiber is ready: all have returned, or nobody can go on ◀──┘
 *
 * Operands stay on the stack of the lane that brought them, and that lane does not run until they are
 * results, so a meeting needs no buffers and the next meeting may begin at once.
 *
 * Sanitizers must know about the stacks. ThreadSanitizer sees one thread per CUDA thread, ordered only by
 * what orders them on a GPU (barriers, __syncwarp, begin and end of a grid): it finds the races of the
 * kernel. For that, this file is compiled without it, and every block has shared memory at a new
 * address, lest the reuse look like a race. */

#if defined(__SANITIZE_ADDRESS__)
#define CN_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CN_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#endif

#if defined(CN_FIBER_TSAN)       // given by CMake: this file itself is not instrumented
#include <sanitizer/tsan_interface.h>
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

enum {
    STACK_BYTES = 128 << 10,
    GUARD_BYTES = 4096,
    SHARED_BYTES = 64 << 20,
    SHARED_ALIGN = 1024,
    WARPS_MAX = CN_FIBER_THREADS_MAX / CN_FIBER_LANES,
    MEETINGS = 4,                // different masks at once in one warp
    BARRIERS = 16
};

typedef struct fiber {
    cn_fiber_thread thread;
    void *sp;
    bool done;
#if defined(CN_FIBER_TSAN)
    void *tsan;
#endif
} fiber;

typedef struct meeting {
    const char *op;              // NULL: none
    uint32_t mask, arrived;
    void *lanes[CN_FIBER_LANES];
    void (*join)(void *const *lanes, uint32_t mask);
} meeting;

typedef struct barrier {
    uint32_t expected, arrived;
    uint16_t waiting[CN_FIBER_THREADS_MAX];
} barrier;

static struct {
    fiber fibers[CN_FIBER_THREADS_MAX];
    char *stacks, *shared;
    size_t shared_at;
    meeting meetings[WARPS_MAX][MEETINGS];
    barrier barriers[BARRIERS];
    uint16_t row[CN_FIBER_THREADS_MAX];      // ready: a ring
    uint32_t row_head, row_count, thread_count, live;
    fiber *current;
    void *main_sp;
    const cn_fiber_launch *launch;
    char *shared_now;
    char fault[512];
    bool faulted;
    cn_fiber_order order;
    uint64_t seed;
#if defined(CN_FIBER_TSAN)
    void *tsan_main;
#endif
} emu;

cn_fiber_thread *cn_fiber_self;
cn_fiber_counts cn_fiber_counted;

void cn_fiber_order_set(cn_fiber_order order, uint64_t seed)
{
    emu.order = order;
    emu.seed = seed;
}

static uint32_t random_below(uint32_t limit)
{
    const cn_random seeded = cn_random_seeded(&emu.seed);
    return (uint32_t)(cn_random_u64(&seeded) % limit);
}

// ---- switching stacks

#if defined(__x86_64__)
void cn_fiber_switch(void **save, void *to);
__asm__(".text\n"
        ".globl cn_fiber_switch\n"
        ".hidden cn_fiber_switch\n"
        ".type cn_fiber_switch, @function\n"
        "cn_fiber_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size cn_fiber_switch, . - cn_fiber_switch\n");

static void *first_frame(char *stack, void (*entry)(void))
{
    void **top = (void **)(stack + STACK_BYTES) - 3;     // at entry rsp + 8 is a multiple of 16
    memcpy(--top, &entry, sizeof entry);
    for (int i = 0; i < 6; i++) *--top = NULL;
    return top;
}
#else
#include <ucontext.h>

static ucontext_t contexts[CN_FIBER_THREADS_MAX + 1];

static void cn_fiber_switch(void **save, void *to)
{
    *save = save == &emu.main_sp ? &contexts[CN_FIBER_THREADS_MAX]
                                 : &contexts[((fiber *)((char *)save - offsetof(fiber, sp))) - emu.fibers];
    swapcontext(*save, to);
}

static void *first_frame(char *stack, void (*entry)(void))
{
    ucontext_t *context = &contexts[(stack - emu.stacks) / STACK_BYTES];
    getcontext(context);
    context->uc_stack.ss_sp = stack + GUARD_BYTES;
    context->uc_stack.ss_size = STACK_BYTES - GUARD_BYTES;
    context->uc_link = NULL;
    makecontext(context, entry, 0);
    return context;
}
#endif

static char *stack_of(const fiber *f) { return emu.stacks + (size_t)(f - emu.fibers) * STACK_BYTES; }

// To `f`, or to the caller of run where f is NULL. `leaving`: this fiber will not run again.
static void switch_to(fiber *f, bool leaving)
{
    fiber *from = emu.current;
    emu.current = f;
    cn_fiber_self = f ? &f->thread : NULL;
#if defined(CN_ASAN)
    static const void *main_bottom;
    static size_t main_bytes;
    void *fake = NULL;
    __sanitizer_start_switch_fiber(leaving ? NULL : &fake, f ? stack_of(f) : main_bottom,
                                   f ? STACK_BYTES : main_bytes);
#endif
#if defined(CN_FIBER_TSAN)
    __tsan_switch_to_fiber(f ? f->tsan : emu.tsan_main, 1);
#endif
    (void)leaving;
    cn_fiber_switch(from ? &from->sp : &emu.main_sp, f ? f->sp : emu.main_sp);
#if defined(CN_ASAN)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(fake, &bottom, &bytes);
    if (emu.current && !main_bottom) main_bottom = bottom, main_bytes = bytes;
#endif
}

// ---- the row of those who are ready

static void make_ready(uint32_t index)
{
    emu.row[(emu.row_head + emu.row_count++) % CN_FIBER_THREADS_MAX] = (uint16_t)index;
}

static fiber *next_ready(void)
{
    if (emu.row_count == 0) return NULL;
    uint32_t at = 0;
    if (emu.order == CN_FIBER_LIFO) at = emu.row_count - 1;
    if (emu.order == CN_FIBER_RANDOM) at = random_below(emu.row_count);
    uint16_t *first = &emu.row[emu.row_head];
    uint16_t *taken = &emu.row[(emu.row_head + at) % CN_FIBER_THREADS_MAX];
    const uint16_t index = *taken;
    if (emu.order == CN_FIBER_LIFO) {
        emu.row_count--;
        return &emu.fibers[index];
    }
    *taken = *first;
    emu.row_head = (emu.row_head + 1) % CN_FIBER_THREADS_MAX;
    emu.row_count--;
    return &emu.fibers[index];
}

static void acquire(void *what)
{
#if defined(CN_FIBER_TSAN)
    __tsan_acquire(what);
#else
    (void)what;
#endif
}

static void release(void *what)
{
#if defined(CN_FIBER_TSAN)
    __tsan_release(what);
#else
    (void)what;
#endif
}

void cn_fiber_fault(const char *format, ...)
{
    const cn_fiber_thread *t = cn_fiber_self;
    va_list list;
    int used = snprintf(emu.fault, sizeof emu.fault, "kernel %s, block (%u, %u, %u), thread %u: ",
                        emu.launch->name, t->block.x, t->block.y, t->block.z, t->index);
    va_start(list, format);
    vsnprintf(emu.fault + used, sizeof emu.fault - (size_t)used, format, list);
    va_end(list);
    emu.faulted = true;
    switch_to(NULL, true);
    __builtin_unreachable();
}

// ---- what threads do together

void cn_fiber_barrier(uint32_t id, uint32_t count)
{
    fiber *self = emu.current;
    if (id >= BARRIERS) cn_fiber_fault("barrier %u; a block has 0 to %d", id, BARRIERS - 1);
    if (count == 0 || count > emu.thread_count || (count % CN_FIBER_LANES && count != emu.thread_count)) {
        cn_fiber_fault("barrier %u of %u threads; must be whole warps of the %u of the block", id, count,
                       emu.thread_count);
    }
    barrier *b = &emu.barriers[id];
    if (b->arrived == 0) b->expected = count;
    if (b->expected != count) {
        cn_fiber_fault("barrier %u of %u threads, where others wait for %u", id, count, b->expected);
    }
    release(b);
    if (++b->arrived < count) {
        b->waiting[b->arrived - 1] = (uint16_t)self->thread.index;
        switch_to(next_ready(), false);
    } else {
        for (uint32_t i = 0; i + 1 < count; i++) make_ready(b->waiting[i]);
        b->arrived = 0;
        cn_fiber_counted.barriers++;
    }
    acquire(b);
}

static meeting *meeting_of(uint32_t mask, const char *op)
{
    const cn_fiber_thread *t = cn_fiber_self;
    meeting *unused = NULL;
    for (int i = 0; i < MEETINGS; i++) {
        meeting *m = &emu.meetings[t->warp][i];
        if (!m->op) {
            if (!unused) unused = m;
        } else if (m->mask == mask && strcmp(m->op, op) == 0) {
            return m;
        } else if (m->mask & mask) {
            cn_fiber_fault("%s with lanes %08x, where others of the warp wait in %s with %08x", op, mask,
                           m->op, m->mask);
        }
    }
    if (!unused) cn_fiber_fault("%s with lanes %08x is the fifth group of this warp", op, mask);
    unused->op = op;
    unused->mask = mask;
    unused->arrived = 0;
    return unused;
}

// The last lane works on the operands of all, as the hardware would: no thread of the kernel does that.
static void run_join(const meeting *m)
{
    if (!m->join) return;
#if defined(CN_FIBER_TSAN)
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
    m->join(m->lanes, m->mask);
#if defined(CN_FIBER_TSAN)
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

void cn_fiber_meet(uint32_t mask, const char *op, void (*join)(void *const *lanes, uint32_t mask),
                   void *mine, bool orders)
{
    fiber *self = emu.current;
    const uint32_t lane = self->thread.lane, bit = 1u << lane, first = self->thread.warp * CN_FIBER_LANES;
    if (!(mask & bit)) cn_fiber_fault("%s by lane %u, which is not in its mask %08x", op, lane, mask);
    for (uint32_t i = 0; i < CN_FIBER_LANES; i++) {
        if (!(mask >> i & 1)) continue;
        if (first + i >= emu.thread_count || emu.fibers[first + i].done) {
            cn_fiber_fault("%s with lanes %08x, of which lane %u has returned", op, mask, i);
        }
    }
    meeting *m = meeting_of(mask, op);
    m->lanes[lane] = mine;
    m->arrived |= bit;
    if (orders) release(m);
    if (m->arrived == mask) {
        m->join = join;
        run_join(m);
        m->op = NULL;
        for (uint32_t i = 0; i < CN_FIBER_LANES; i++) {
            if ((mask & ~bit) >> i & 1) make_ready(first + i);
        }
    } else {
        switch_to(next_ready(), false);
    }
    if (orders) acquire(m);
}

void *cn_fiber_shared(size_t *bytes)
{
    if (bytes) *bytes = emu.launch->shared_bytes;
    return emu.shared_now;
}

// ---- a block

static void fiber_main(void)
{
#if defined(CN_ASAN)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &bottom, &bytes);
#endif
    acquire(&emu);
    emu.launch->body(emu.launch->args);
    if (emu.current->thread.copy_count) {
        cn_fiber_fault("returns with %u asynchronous copies that nobody waited for",
                       emu.current->thread.copy_count);
    }
    release(&emu);
    emu.current->done = true;
    emu.live--;
    switch_to(next_ready(), true);
}

static void report_deadlock(cn_fiber_dim block)
{
    int used = snprintf(emu.fault, sizeof emu.fault, "kernel %s, block (%u, %u, %u): nobody can go on;",
                        emu.launch->name, block.x, block.y, block.z);
    const size_t room = sizeof emu.fault;
    for (int i = 0; i < BARRIERS; i++) {
        const barrier *b = &emu.barriers[i];
        if (b->arrived == 0 || (size_t)used >= room) continue;
        used += snprintf(emu.fault + used, room - (size_t)used, " %u of %u threads at barrier %d;", b->arrived,
                         b->expected, i);
    }
    for (int w = 0; w < WARPS_MAX; w++) {
        for (int i = 0; i < MEETINGS; i++) {
            const meeting *m = &emu.meetings[w][i];
            if (!m->op || (size_t)used >= room) continue;
            used += snprintf(emu.fault + used, room - (size_t)used, " warp %d in %s with lanes %08x of %08x;",
                             w, m->op, m->arrived, m->mask);
        }
    }
    if ((size_t)used >= room) return;
    snprintf(emu.fault + used, room - (size_t)used, " %u threads have returned",
             emu.thread_count - emu.live);
    emu.faulted = true;
}

static void begin_fiber(uint32_t index, cn_fiber_dim block)
{
    fiber *f = &emu.fibers[index];
    const cn_fiber_dim size = emu.launch->block;
    f->done = false;
    f->thread.thread = (cn_fiber_dim){index % size.x, index / size.x % size.y, index / size.x / size.y};
    f->thread.block = block;
    f->thread.block_count = emu.launch->grid;
    f->thread.block_size = size;
    f->thread.index = index;
    f->thread.lane = index % CN_FIBER_LANES;
    f->thread.warp = index / CN_FIBER_LANES;
    f->thread.copy_count = f->thread.copy_group = 0;
#if defined(CN_ASAN)
    __asan_unpoison_memory_region(stack_of(f) + GUARD_BYTES, STACK_BYTES - GUARD_BYTES);
#endif
    f->sp = first_frame(stack_of(f), fiber_main);
    make_ready(index);
}

static void begin_shared(size_t bytes)
{
    const size_t whole = (bytes + SHARED_ALIGN) / SHARED_ALIGN * SHARED_ALIGN;
    if (emu.shared_at + whole > SHARED_BYTES) emu.shared_at = 0;
    emu.shared_now = emu.shared + emu.shared_at;
    emu.shared_at += whole;
#if defined(CN_ASAN)
    __asan_unpoison_memory_region(emu.shared_now, whole);
#endif
    memset(emu.shared_now, 0xFF, bytes);
#if defined(CN_ASAN)
    __asan_poison_memory_region(emu.shared_now + bytes, whole - bytes);
#endif
}

static void run_block(cn_fiber_dim block)
{
    memset(emu.meetings, 0, sizeof emu.meetings);
    for (int i = 0; i < BARRIERS; i++) emu.barriers[i].arrived = 0;
    emu.row_head = emu.row_count = 0;
    emu.live = emu.thread_count;
    begin_shared(emu.launch->shared_bytes);
    for (uint32_t i = 0; i < emu.thread_count; i++) begin_fiber(i, block);
    cn_fiber_counted.blocks++;
    release(&emu);
    switch_to(next_ready(), false);
    acquire(&emu);
    if (!emu.faulted && emu.live > 0) report_deadlock(block);
}

static void map_once(void)
{
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (emu.stacks) return;
    emu.stacks = mmap(NULL, (size_t)CN_FIBER_THREADS_MAX * STACK_BYTES, prot, flags, -1, 0);
    emu.shared = mmap(NULL, SHARED_BYTES + SHARED_ALIGN, prot, flags, -1, 0);
    CN_ASSERT(emu.stacks != MAP_FAILED && emu.shared != MAP_FAILED);
    emu.shared += SHARED_ALIGN - (uintptr_t)emu.shared % SHARED_ALIGN;
    for (size_t i = 0; i < CN_FIBER_THREADS_MAX; i++) {
        mprotect(emu.stacks + i * STACK_BYTES, GUARD_BYTES, PROT_NONE);
#if defined(CN_FIBER_TSAN)
        emu.fibers[i].tsan = __tsan_create_fiber(0);
#endif
    }
}

// The blocks of a grid come in no order either.
static uint64_t block_at(uint64_t i, uint64_t count, uint64_t shift)
{
    if (emu.order == CN_FIBER_LIFO) return count - 1 - i;
    return emu.order == CN_FIBER_RANDOM ? (i + shift % count) % count : i;
}

bool cn_fiber_run(const cn_fiber_launch *launch, char *fault, size_t fault_bytes)
{
    const cn_fiber_dim g = launch->grid, b = launch->block;
    const uint64_t threads = (uint64_t)b.x * b.y * b.z, count = (uint64_t)g.x * g.y * g.z;
    CN_ASSERT(!emu.current && threads > 0 && threads <= CN_FIBER_THREADS_MAX);
    CN_ASSERT(launch->shared_bytes < SHARED_BYTES / 2);
    map_once();
#if defined(CN_FIBER_TSAN)
    emu.tsan_main = __tsan_get_current_fiber();
#endif
    emu.launch = launch;
    emu.thread_count = (uint32_t)threads;
    emu.faulted = false;
    const uint64_t shift = emu.seed;
    for (uint64_t i = 0; i < count && !emu.faulted; i++) {
        const uint64_t at = block_at(i, count, shift);
        run_block((cn_fiber_dim){(uint32_t)(at % g.x), (uint32_t)(at / g.x % g.y),
                                 (uint32_t)(at / g.x / g.y)});
    }
    if (emu.faulted) snprintf(fault, fault_bytes, "%s", emu.fault);
    return !emu.faulted;
}
