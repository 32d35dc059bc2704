/* state/redis_address_int.h: where Redis servers are, as an operator writes it:
 *   127.0.0.1:6379   [::1]:6379   redis.lan:6379   unix:/run/redis/log.sock    one server
 *   sentinel:NAME@HOST:PORT,HOST:PORT,...                                       the log by Sentinel
 *   cluster:HOST:PORT,HOST:PORT,...                                             the log by Redis
 * Cluster and for pages a list of servers with commas between them.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    CN_REDIS_HOST_BYTES = 108,       // also a Unix socket's path
    CN_REDIS_ADDRESS_BYTES = 124,
    CN_REDIS_SERVERS_MAX = 32
};

typedef struct cn_redis_address {
    char host[CN_REDIS_HOST_BYTES];
    uint16_t port;                   // 0: `host` is the path of a Unix socket
} cn_redis_address;

typedef enum cn_redis_mode {
    CN_REDIS_NONE,
    CN_REDIS_PLAIN,
    CN_REDIS_SENTINEL,
    CN_REDIS_CLUSTER
} cn_redis_mode;

typedef struct cn_redis_target {
    cn_redis_mode mode;
    char service[64];                // SENTINEL: the name of what it watches
    cn_redis_address servers[CN_REDIS_SERVERS_MAX];
    uint32_t server_count;
} cn_redis_target;

/* Reads `text`; `key` begins error texts. "" is CN_REDIS_NONE. Errors: CN_E_INVALID. */
cn_code cn_redis_address_parse(const char *key, const char *text, cn_redis_target *out,
                               cn_err *err);

bool cn_redis_address_equal(const cn_redis_address *a, const cn_redis_address *b);
/* As it is written above. */
void cn_redis_address_write(const cn_redis_address *address, char out[CN_REDIS_ADDRESS_BYTES]);
