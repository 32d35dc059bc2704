#include "dataplane/lwip_pool.h"

#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISON 1
#endif
#endif
#ifdef POOL_POISON
#include <sanitizer/asan_interface.h>
#define POISON(at, bytes) ASAN_POISON_MEMORY_REGION(at, bytes)
#define UNPOISON(at, bytes) ASAN_UNPOISON_MEMORY_REGION(at, bytes)
#else
#define POISON(at, bytes) ((void)(at), (void)(bytes))
#define UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

/* How it works. One mapping, cut into a stretch per size class; a block's class follows from its
 * address, so blocks have no header. A class hands out what was given back last, else a fresh block;
 * if it has none, the next larger class helps out. Fresh blocks are taken in order of address, so
 * memory that was never needed is never touched.
 *
 * Under AddressSanitizer free blocks, and the rest of a block beyond what was asked for, are poisoned:
 * the fuzzer then sees an overrun inside the pool as it would see one of malloc's. */

enum { BLOCK_ALIGN = 64, CONNECTIONS = 0, CLASS_COUNT = 8 };

static const uint64_t DATA_BYTES_MAX = UINT64_C(1) << 36;      // blocks are counted in 32 bits

static const struct shape {
    uint32_t bytes, share, jumbo_share;      // shares of the data, in 1/32
} shapes[CLASS_COUNT] = {
    {0, 0, 0},                               // connections
    {64, 3, 3},                              // a segment; no bytes of its own
    {128, 3, 3},                             // an acknowledgement
    {256, 5, 5},                             // an event of a stream
    {512, 1, 1},   {1024, 1, 1},
    {1664, 19, 9},                           // a full segment, its headers and its pbuf
    {9216, 0, 10},
};

typedef struct free_block {
    struct free_block *next;
} free_block;

typedef struct class {
    uint8_t *begin;
    free_block *free_first;
    uint32_t bytes, count, fresh, used;      // fresh: blocks that were ever taken
} class;

static struct pool {
    uint8_t *base;
    uint64_t bytes;
    uint32_t connection_bytes;
    class classes[CLASS_COUNT];
    uint64_t used_bytes, refused;
} the;

cn_code cn_lwip_pool_open(const cn_lwip_pool_options *options, cn_err *err)
{
    if (the.base) return cn_err_set(err, CN_E_INVALID, "lwip pool: is open; must be closed first");
    if (options->data_bytes > DATA_BYTES_MAX) {
        return cn_err_set(err, CN_E_INVALID, "lwip pool: %llu bytes of data; at most %llu",
                          (unsigned long long)options->data_bytes, (unsigned long long)DATA_BYTES_MAX);
    }
    memset(&the, 0, sizeof the);
    the.connection_bytes = options->connection_bytes;
    for (int i = 0; i < CLASS_COUNT; i++) {
        class *c = &the.classes[i];
        const uint32_t share = options->jumbo ? shapes[i].jumbo_share : shapes[i].share;
        c->bytes = shapes[i].bytes;
        if (i == CONNECTIONS) {
            c->bytes = (options->connection_bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
            c->count = options->connection_count;
        } else {
            c->count = (uint32_t)(options->data_bytes * share / 32 / c->bytes);
        }
        the.bytes += (uint64_t)c->bytes * c->count;
    }
    void *base = mmap(NULL, the.bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return cn_err_set(err, CN_E_MEMORY, "lwip pool: no memory for %llu bytes",
                          (unsigned long long)the.bytes);
    }
    the.base = base;
    uint8_t *at = base;
    for (int i = 0; i < CLASS_COUNT; i++) {
        the.classes[i].begin = at;
        at += (uint64_t)the.classes[i].bytes * the.classes[i].count;
    }
    POISON(the.base, the.bytes);
    return CN_OK;
}

void cn_lwip_pool_close(void)
{
    if (!the.base) return;
    UNPOISON(the.base, the.bytes);
    munmap(the.base, the.bytes);
    the.base = NULL;
}

static void *class_take(class *c)
{
    free_block *block = c->free_first;
    if (block) {
        UNPOISON(block, sizeof *block);
        c->free_first = block->next;
    } else if (c->fresh < c->count) {
        block = (free_block *)(void *)(c->begin + (uint64_t)c->bytes * c->fresh++);
    } else {
        return NULL;
    }
    c->used++;
    the.used_bytes += c->bytes;
    return block;
}

void *cn_lwip_pool_take(size_t bytes)
{
    int i = CONNECTIONS, end = CONNECTIONS + 1;
    if (bytes != the.connection_bytes) {
        for (i++; i < CLASS_COUNT && the.classes[i].bytes < bytes; i++) continue;
        end = CLASS_COUNT;
    }
    for (; i < end; i++) {
        void *block = class_take(&the.classes[i]);
        if (!block) continue;
        UNPOISON(block, bytes);
        return block;
    }
    the.refused++;
    return NULL;
}

void *cn_lwip_pool_take_zeroed(size_t count, size_t bytes)
{
    void *block = cn_lwip_pool_take(count * bytes);
    if (block) memset(block, 0, count * bytes);
    return block;
}

void cn_lwip_pool_put(void *block)
{
    uint8_t *at = block;
    CN_ASSERT(at >= the.base && at < the.base + the.bytes);
    int i = CLASS_COUNT - 1;
    while (at < the.classes[i].begin) i--;
    class *c = &the.classes[i];
    CN_ASSERT((uint64_t)(at - c->begin) % c->bytes == 0 && c->used > 0);
    free_block *freed = block;
    UNPOISON(freed, sizeof *freed);
    freed->next = c->free_first;
    POISON(freed, c->bytes);
    c->free_first = freed;
    c->used--;
    the.used_bytes -= c->bytes;
}

uint32_t cn_lwip_pool_fill(size_t bytes)
{
    uint64_t used = 0, count = 0;
    for (int i = CONNECTIONS + 1; i < CLASS_COUNT; i++) {
        if (the.classes[i].bytes < bytes) continue;
        used += the.classes[i].used;
        count += the.classes[i].count;
    }
    return count ? (uint32_t)(used * 256 / count) : 256;
}

uint64_t cn_lwip_pool_used_bytes(void) { return the.used_bytes; }

uint64_t cn_lwip_pool_refused(void) { return the.refused; }
