/* state/redis_lane_int.h: one connection of the pages role: blobs between page memory and a socket.
 * A page goes out by sendmsg from where it lies and comes in by readv to where it belongs; a
 * checksum is computed piece by piece as they pass. A lane carries either writes or reads, so that
 * a server that holds back writes does not hold back reads.
 *
 * Threads: the store's.
 * Memory:  16 KiB per lane; requests are the owner's. */
#pragma once

#include <poll.h>
#include <xxhash.h>

#include "state/redis_link_int.h"
#include "state/store.h"

enum { CN_REDIS_LANE_WINDOW = 16, CN_REDIS_LANE_IN_BYTES = 16384 };

typedef enum cn_redis_page_kind {
    CN_REDIS_PAGE_PUT,
    CN_REDIS_PAGE_GET,
    CN_REDIS_PAGE_UNLINK,
    CN_REDIS_PAGE_GREETING           // AUTH, SELECT, PING
} cn_redis_page_kind;

/* A blob in Redis: this, the page, and the XXH3 of both as 8 bytes; numbers little-endian. */
typedef struct cn_redis_blob {
    char magic[4];                   // "CNpg"
    uint32_t version;
    uint64_t page_bytes;
    uint8_t key[CN_KEY_BYTES];
} cn_redis_blob;
_Static_assert(sizeof(cn_redis_blob) == 48, "a blob's header has 48 bytes");

typedef struct cn_redis_page_request {
    struct cn_redis_page_request *next;
    cn_store_op *op;                 // NULL: nobody waits for it any more
    cn_store_port *port;
    cn_redis_page_kind kind;
    cn_page_key key;
} cn_redis_page_request;

typedef struct cn_redis_page_list {
    cn_redis_page_request *first, *last;
    uint32_t count;
} cn_redis_page_list;

typedef struct cn_redis_lane cn_redis_lane;

typedef struct cn_redis_lane_options {
    const cn_redis_settings *settings;
    const cn_redis_address *address;
    uint64_t page_bytes;
    void *self;
    /* Gives request->op back, if it still has one, and clears it. `corrupt`: what is under the key
     * is no page of ours. May be called twice: the second time its answer came after its deadline.
     */
    void (*done)(void *self, cn_redis_page_request *request, cn_code code, bool corrupt);
    /* The lane has no further use for the request. */
    void (*over)(void *self, cn_redis_page_request *request);
} cn_redis_lane_options;

typedef enum cn_redis_lane_reading {
    CN_REDIS_READ_LINE,
    CN_REDIS_READ_BLOB,              // the header of a blob
    CN_REDIS_READ_PAGE,
    CN_REDIS_READ_END,               // checksum and CR LF
    CN_REDIS_READ_SKIP               // of a value that is not ours
} cn_redis_lane_reading;

struct cn_redis_lane {
    cn_redis_lane_options options;
    int fd;                          // -1: DOWN
    cn_redis_link_state state;
    bool connecting, broken;
    uint64_t again_ns, pause_ns, moved_ns;   // moved: bytes went in or out
    cn_redis_page_list waiting, sent;
    char why[CN_REDIS_WHY_BYTES];
    /* The request at the front of `waiting`, as far as it has been written. */
    char head[256];
    uint32_t head_at, head_len;      // head_len 0: none is being written
    uint64_t out_at, out_hashed;     // of its page
    char tail[10];
    uint32_t tail_at;
    bool blocked;                    // the socket takes no more
    XXH3_state_t *out_hash, *in_hash;
    /* The reply to the front of `sent`. */
    cn_redis_lane_reading reading;
    uint64_t in_at, skip_bytes;
    bool in_corrupt;
    cn_redis_page_request greetings[3];
    uint32_t buffer_at, buffer_len;
    char buffer[CN_REDIS_LANE_IN_BYTES];
};

/* Errors: CN_E_MEMORY. */
cn_code cn_redis_lane_open(cn_redis_lane *lane, const cn_redis_lane_options *options);
/* Requests that are still here are forgotten. */
void cn_redis_lane_close(cn_redis_lane *lane);

/* Appends a request; done is called for it, maybe at once. */
void cn_redis_lane_add(cn_redis_lane *lane, cn_redis_page_request *request);
/* Ends the requests whose deadline has passed; lowers *due_ns to the next deadline. */
void cn_redis_lane_end_late(cn_redis_lane *lane, uint64_t now, uint64_t *due_ns);

/* Connects if it is time, writes what can be written, gives up a silent server. */
bool cn_redis_lane_tend(cn_redis_lane *lane, uint64_t now);
uint64_t cn_redis_lane_due_ns(const cn_redis_lane *lane);
struct pollfd cn_redis_lane_pollfd(const cn_redis_lane *lane);
void cn_redis_lane_events(cn_redis_lane *lane, short events);
