/* appliance/agent.h: HAProxy's agent-check: one line per connection that says how much this server
 * wants. A load balancer that asks every 100 ms stops sending to a server that drains before the
 * server stops listening.
 *
 * Threads: main.
 * Memory:  one socket. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* What a word is made from. */
typedef struct cn_agent_load {
    uint64_t page_count, page_held_count;
    uint64_t running_count, waiting_count;       // sequences
    uint64_t slot_count;                         // sequences that run at once
} cn_agent_load;

/* Listens on "127.0.0.1:8001" or "[::1]:8001"; the caller closes *fd. Errors: CN_E_INVALID (`key` names
 * the setting), CN_E_IO. */
cn_code cn_agent_open(const char *key, const char *address, int *fd, cn_err *err);

/* Answers everybody who waits with the line. */
void cn_agent_answer(int fd, const char *line);

/* Share of new requests that a server with this load wants, of 100. In quarters, and never 0, which
 * would mean drain: with consistent hashing each step of the weight moves sessions to other servers. */
unsigned cn_agent_percent(const cn_agent_load *load);
