/* state/redis_link_int.h: one connection of the log role, over hiredis.
 * A link connects, authenticates, makes sure that the server is a primary that keeps what it
 * promises (durability), and then carries commands. Replies come in the order of commands, each
 * with the ticket that was given with it. A link that breaks connects again after a pause, which
 * grows.
 *
 * Threads: the store's.
 * Memory:  CN_REDIS_TICKETS tickets per link; hiredis' own buffers. */
#pragma once

#include <poll.h>

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/random.h"
#include "state/redis_address_int.h"
#include "state/store.h"

enum { CN_REDIS_TICKETS = 512, CN_REDIS_WHY_BYTES = 128 };

/* What a command was sent for. */
typedef struct cn_redis_ticket {
    void *owner;
    uint32_t generation;
    uint32_t what;
} cn_redis_ticket;

typedef struct cn_redis_link cn_redis_link;

/* Shared by all links of a store. */
typedef struct cn_redis_settings {
    const char *user, *password;     // password "": no AUTH; user "": the default user
    uint32_t database;
    cn_durability durability;
    uint64_t log_timeout_ns;         // without a reply for so long, a link is given up
    uint64_t page_timeout_ns;
    cn_clock clock;
    cn_random random;
    cn_metrics *metrics;             // NULL: none
    void *self;                      // of the callbacks
    void (*on_reply)(void *self, cn_redis_link *link, cn_redis_ticket ticket, redisReply *reply);
    void (*on_up)(void *self, cn_redis_link *link);
    void (*on_down)(void *self, cn_redis_link *link);    // after on_reply with NULL for each ticket
} cn_redis_settings;

typedef enum cn_redis_link_kind {
    CN_REDIS_LINK_LOG,               // greets with AUTH, SELECT, ROLE, CONFIG GET, SCRIPT LOAD
    CN_REDIS_LINK_NODE,              // of a Redis Cluster: as LOG, without SELECT and ROLE
    CN_REDIS_LINK_SENTINEL           // carries commands at once
} cn_redis_link_kind;

typedef enum cn_redis_link_state {
    CN_REDIS_DOWN,
    CN_REDIS_GREETING,
    CN_REDIS_UP
} cn_redis_link_state;

struct cn_redis_link {
    const cn_redis_settings *settings;
    const cn_redis_address *address; // looked at whenever it connects
    cn_redis_link_kind kind;
    cn_redis_link_state state;
    redisAsyncContext *context;      // NULL: DOWN
    bool reads, writes;              // what hiredis waits for
    bool doomed;                     // to be dropped at the end of the round
    bool unfit;                      // and the server is why, not the connection
    uint64_t again_ns, pause_ns;     // DOWN: when it connects; how long the last pause was
    uint64_t heard_ns;               // the last reply, or the first command after all were answered
    cn_redis_ticket tickets[CN_REDIS_TICKETS];
    uint32_t ticket_first, ticket_count;
    char why[CN_REDIS_WHY_BYTES];    // it is not UP; "" if there is nothing to say
    /* The log's: writes that were carried out and wait for a replica. */
    cn_redis_ticket waiting[CN_REDIS_TICKETS];
    uint32_t waiting_count;
    const char *wrote_key;           // a write was sent in this round; NULL: none
    bool wait_failed;
};

void cn_redis_link_init(cn_redis_link *link, const cn_redis_settings *settings,
                        cn_redis_link_kind kind, const cn_redis_address *address);
/* Drops the connection without calling back. */
void cn_redis_link_close(cn_redis_link *link);

/* Connects if it is time, drops what is doomed or silent for too long. True if something changed.
 */
bool cn_redis_link_tend(cn_redis_link *link, uint64_t now);
/* When tend has something to do; UINT64_MAX: only after a reply. */
uint64_t cn_redis_link_due_ns(const cn_redis_link *link);
/* Connects to the address that holds now, at once. */
void cn_redis_link_restart(cn_redis_link *link, const char *why);
/* As restart, at the end of the round and after a pause; allowed in a callback. */
void cn_redis_link_doom(cn_redis_link *link, const char *why);
/* As doom, where the server is why: its other links are doomed as well. */
void cn_redis_link_doom_server(cn_redis_link *link, const char *why);
/* As doom, where the server is why: its other links are doomed as well. */
void cn_redis_link_doom_server(cn_redis_link *link, const char *why);

/* Asks again what the greeting asked about durability, which an operator may change at any time,
 * and so notices a server that is silent when nobody else asks. There must be room for two
 * commands. */
void cn_redis_link_probe(cn_redis_link *link);

/* Whether `count` commands can be sent. */
bool cn_redis_link_has_room(const cn_redis_link *link, uint32_t count);
/* Appends a command; there must be room. It leaves with flush, or when the socket takes it. */
void cn_redis_link_send(cn_redis_link *link, const cn_buf *command, cn_redis_ticket ticket);
void cn_redis_link_flush(cn_redis_link *link);

/* The descriptor and what to wait for; fd -1: nothing. */
struct pollfd cn_redis_link_pollfd(const cn_redis_link *link);
void cn_redis_link_events(cn_redis_link *link, short events);

/* SHA-1 of the compare-and-set script, for EVALSHA. */
const char *cn_redis_link_script_sha(void);
