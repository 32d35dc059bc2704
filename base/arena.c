#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

struct cn_arena_block {
    cn_arena_block *older;
    size_t capacity;
    _Alignas(16) unsigned char data[];
};

enum { BLOCK_BYTES_MIN = 4096, ALIGN = 16 };

void cn_arena_init(cn_arena *arena, uint64_t bytes_max)
{
    *arena = (cn_arena){.bytes_max = bytes_max};
}

static int add_block(cn_arena *arena, size_t need)
{
    size_t capacity = arena->head ? arena->head->capacity * 2 : BLOCK_BYTES_MIN;
    if (capacity < need) capacity = need;
    if (arena->total_bytes + capacity > arena->bytes_max) capacity = need;
    if (arena->total_bytes + capacity > arena->bytes_max) return 0;
    cn_arena_block *block = malloc(sizeof *block + capacity);
    if (!block) return 0;
    block->older = arena->head;
    block->capacity = capacity;
    arena->head = block;
    arena->used = 0;
    arena->total_bytes += capacity;
    return 1;
}

void *cn_arena_take(cn_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN) return NULL;
    const size_t need = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (!arena->head || arena->head->capacity - arena->used < need) {
        if (!add_block(arena, need)) return NULL;
    }
    void *piece = arena->head->data + arena->used;
    arena->used += need;
    return piece;
}

void *cn_arena_take_array(cn_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *piece = cn_arena_take(arena, bytes);
    return piece ? memset(piece, 0, bytes) : NULL;
}

char *cn_arena_copy(cn_arena *arena, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? cn_arena_take(arena, len + 1) : NULL;
    if (!copy) return NULL;
    if (len) memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

static void free_chain(cn_arena_block *block)
{
    while (block) {
        cn_arena_block *older = block->older;
        free(block);
        block = older;
    }
}

void cn_arena_reset(cn_arena *arena)
{
    if (!arena->head) return;
    cn_arena_block *largest = arena->head, **link = &arena->head;
    for (cn_arena_block *b = arena->head; b; b = b->older) {
        if (b->capacity > largest->capacity) largest = b;
    }
    while (*link != largest) link = &(*link)->older;
    *link = largest->older;
    free_chain(arena->head);
    largest->older = NULL;
    arena->head = largest;
    arena->used = 0;
    arena->total_bytes = largest->capacity;
}

void cn_arena_close(cn_arena *arena)
{
    free_chain(arena->head);
    cn_arena_init(arena, arena->bytes_max);
}
