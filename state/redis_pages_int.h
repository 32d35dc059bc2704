/* state/redis_pages_int.h: the pages role: which server has which page, and what became of it.
 * A page belongs to the server with the largest hash of page key and server (rendezvous hashing): a
 * server more takes its share from all others and moves nothing else; a server that is away is a
 * miss.
 *
 * Threads: the store's.
 * Memory:  two lanes per server and one request per operation in flight, allocated in open. */
#pragma once

#include "state/redis_lane_int.h"

typedef struct cn_redis_pages cn_redis_pages;

/* `target` and `settings` are borrowed until close. Errors: CN_E_MEMORY. */
cn_code cn_redis_pages_open(const cn_redis_target *target, const cn_redis_settings *settings,
                            uint64_t page_bytes, uint32_t request_max, cn_redis_pages **out);
/* Operations that are still here are forgotten. */
void cn_redis_pages_close(cn_redis_pages *pages);

/* Takes one operation, which comes back through cn_store_port_give, maybe at once. */
void cn_redis_pages_take(cn_redis_pages *pages, cn_store_port *port, cn_store_op *op);

bool cn_redis_pages_tend(cn_redis_pages *pages, uint64_t now);
uint64_t cn_redis_pages_due_ns(const cn_redis_pages *pages);

/* The lanes, by index; NULL behind the last. */
cn_redis_lane *cn_redis_pages_lane(cn_redis_pages *pages, uint32_t index);
/* Whether every server answers; if not, `why` says what is wrong with one. */
bool cn_redis_pages_up(const cn_redis_pages *pages, char *why, size_t why_bytes);

/* The index of the server that has a page, of `count` with these addresses. */
uint32_t cn_redis_pages_place(const cn_page_key *key, const cn_redis_address *servers,
                              uint32_t count);
