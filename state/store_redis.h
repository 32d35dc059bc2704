/* state/store_redis.h: the store over Redis: the log on one server, behind Sentinel or on a
 * cluster; pages on any number of plain servers. Addresses: HOST:PORT, [IPV6]:PORT, unix:/PATH. The
 * log also sentinel:NAME@HOST:PORT,... or cluster:HOST:PORT,...; pages a list with commas.
 *
 * A server that does not keep what the configured durability promises (appendonly, appendfsync,
 * eviction) is not used: the log is then away, and state says why. Servers may come and go at any
 * time, before open as well; connections come back by themselves.
 *
 * Threads: as state/store.h. The process ignores SIGPIPE.
 * Memory:  allocated in open, but for what hiredis takes for commands and replies. */
#pragma once

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/random.h"
#include "state/store.h"

typedef struct cn_store_redis_options {
    const char *log;                 // "": no log, its operations end at their deadlines
    const char *pages;               // "": none
    const char *user, *password;     // of all servers; "" where there is none
    uint32_t database;
    cn_durability durability;
    uint64_t page_bytes;
    uint32_t port_count;
    uint32_t op_max;                 // operations of one port at once
    uint32_t connection_count;       // to each server of the log
    uint64_t log_timeout_ns;         // a server that says nothing for so long is given up
    uint64_t page_timeout_ns;        // the same, and 2 ns per byte of a page
    cn_clock clock;
    cn_random random;
    cn_wake *wake;                   // a signal ends a poll that waits; borrowed
    const cn_log *logger;            // NULL: none
    cn_metrics *metrics;             // NULL: none
} cn_store_redis_options;

/* Connects in the background. Errors: CN_E_INVALID (an address; durability that a store without a
 * log cannot have), CN_E_MEMORY. */
cn_code cn_store_redis_open(const cn_store_redis_options *options, cn_store **out, cn_err *err);
