/* base/arena.h: memory that dies in one step.
 * An arena hands out pieces of growing blocks and frees them all together. What belongs to one
 * request, or to the parsing of one file, lives in an arena of its own.
 *
 * Threads: one at a time; an arena may move to another thread with the request it belongs to.
 * Memory:  blocks double from 4 KiB; `bytes_max` bounds their sum. reset keeps the largest block,
 *          so an arena that is used again settles at no allocation at all. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct cn_arena_block cn_arena_block;

typedef struct cn_arena {
    cn_arena_block *head;    // block in use; older ones hang behind it
    size_t used;             // bytes taken from head
    uint64_t total_bytes;    // capacity of all blocks
    uint64_t bytes_max;
} cn_arena;

/* Starts an empty arena in the caller's memory; nothing is allocated yet. */
void cn_arena_init(cn_arena *arena, uint64_t bytes_max);

/* `bytes` bytes, 16-aligned and not cleared, owned by the arena until reset or close.
 * NULL when bytes_max would be exceeded or the system has no memory. */
void *cn_arena_take(cn_arena *arena, size_t bytes);

/* As cn_arena_take for `count` objects of `size` bytes, cleared; NULL also on overflow. */
void *cn_arena_take_array(cn_arena *arena, size_t count, size_t size);

/* A terminated copy of `len` bytes; NULL as above. */
char *cn_arena_copy(cn_arena *arena, const char *text, size_t len);

/* Frees everything but the largest block. */
void cn_arena_reset(cn_arena *arena);

/* Frees everything; the arena may be used again. */
void cn_arena_close(cn_arena *arena);
