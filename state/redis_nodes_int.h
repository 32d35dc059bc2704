/* state/redis_nodes_int.h: which servers the log lives on, and which connection a key goes to.
 * One server; or the one that Sentinel names as the primary; or the nodes of a Redis Cluster.
 *
 * Threads: the store's.
 * Memory:  links are allocated with their node, at most CN_REDIS_SERVERS_MAX nodes. */
#pragma once

#include "state/redis_link_int.h"

typedef struct cn_redis_nodes cn_redis_nodes;

/* `settings` is borrowed until close. Errors: CN_E_MEMORY. */
cn_code cn_redis_nodes_open(const cn_redis_target *target, const cn_redis_settings *settings,
                            uint32_t link_count, cn_redis_nodes **out);
void cn_redis_nodes_close(cn_redis_nodes *nodes);

/* True where keys live on different servers, so that two commands have no order. */
bool cn_redis_nodes_is_cluster(const cn_redis_nodes *nodes);

/* The least busy link for a key; NULL if none can take `room` commands now. */
cn_redis_link *cn_redis_nodes_pick(cn_redis_nodes *nodes, const char *key, uint32_t room);
/* A link to the server that an ASK reply names. */
cn_redis_link *cn_redis_nodes_pick_asked(cn_redis_nodes *nodes, const cn_redis_address *address,
                                         uint32_t room);
/* The link for the `index`th primary, for SCAN; NULL if none can take a command. *count: primaries.
 */
cn_redis_link *cn_redis_nodes_pick_primary(cn_redis_nodes *nodes, uint32_t index, uint32_t *count);

/* What a MOVED or ASK error says: "MOVED 3999 127.0.0.1:6381". False if it cannot be read. An empty
 * host means the server that said so. */
bool cn_redis_nodes_read_redirect(const cn_redis_link *from, const char *text, uint32_t *slot,
                                  cn_redis_address *out);
void cn_redis_nodes_moved(cn_redis_nodes *nodes, uint32_t slot, const cn_redis_address *address);

/* Something is not as it was thought to be: ask Sentinel or the cluster soon. */
void cn_redis_nodes_doubt(cn_redis_nodes *nodes);
/* A reply whose ticket's owner is `nodes`. */
void cn_redis_nodes_reply(cn_redis_nodes *nodes, cn_redis_link *link, const redisReply *reply);

bool cn_redis_nodes_tend(cn_redis_nodes *nodes, uint64_t now);
uint64_t cn_redis_nodes_due_ns(const cn_redis_nodes *nodes, uint64_t now);

/* Every link, one after another; NULL after the last. `at` begins at 0. */
cn_redis_link *cn_redis_nodes_next_link(cn_redis_nodes *nodes, uint32_t *at);
uint32_t cn_redis_nodes_link_max(const cn_redis_nodes *nodes);

/* Whether every primary answers; if not, `why` says what is wrong with one of them. */
bool cn_redis_nodes_up(const cn_redis_nodes *nodes, char *why, size_t why_bytes);

/* The slot of a key (Redis Cluster specification, "key distribution model"). */
uint32_t cn_redis_nodes_slot(const char *key);
