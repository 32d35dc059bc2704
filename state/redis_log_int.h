/* state/redis_log_int.h: the log role: operations of ports in order, sent again until they are
 * done.
 *
 * Threads: the store's.
 * Memory:  one request per operation that can be in flight, allocated in open. */
#pragma once

#include "state/redis_nodes_int.h"
#include "state/store.h"

typedef struct cn_redis_log cn_redis_log;

/* `request_max`: operations of all ports together. Errors: CN_E_MEMORY. */
cn_code cn_redis_log_open(const cn_redis_target *target, const cn_redis_settings *settings,
                          uint32_t link_count, uint32_t request_max, cn_redis_log **out);
/* Operations that are still here are forgotten; their users have gone. */
void cn_redis_log_close(cn_redis_log *log);

/* Takes a chain; each of its operations comes back through cn_store_port_give. */
void cn_redis_log_take(cn_redis_log *log, cn_store_port *port, cn_store_op *op);

/* Sends what can be sent, ends what is late, tends the connections. True if something happened. */
bool cn_redis_log_tend(cn_redis_log *log, uint64_t now);
uint64_t cn_redis_log_due_ns(const cn_redis_log *log, uint64_t now);
cn_redis_nodes *cn_redis_log_nodes(const cn_redis_log *log);
