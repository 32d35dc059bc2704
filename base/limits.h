/* base/limits.h: every bound that an operator may change, in one table.
 * Configuration, its documentation and the tests of the bounds are made from these lines; a request
 * that goes beyond one gets an error that names the limit and its value.
 *
 * Threads: filled before the threads start, read-only afterwards.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdint.h>

/*  key                  unit     default    min      max         what it bounds */
#define CN_LIMITS(X)                                                                               \
    X(connections,        count,       4096,     1,     1000000, "open client connections; beyond, new ones wait in the backlog") \
    X(http_header_bytes,  bytes,      16384,  1024,       65536, "request line and headers of one request") \
    X(http_uri_bytes,     bytes,       4096,   128,       16384, "request target of one request") \
    X(http_header_count,  count,         64,     8,         256, "header fields of one request") \
    X(http_body_bytes,    bytes,    8388608,  1024,  1073741824, "body of one request") \
    X(http_output_bytes,  bytes,    4194304, 65536,  1073741824, "answer bytes that a client has not read; beyond, it is dropped") \
    X(http_receive_ms,    ms,         30000,   100,     3600000, "time for one request to arrive") \
    X(http_idle_ms,       ms,         75000,   100,     3600000, "time a connection may stay idle between requests") \
    X(json_depth,         count,         64,     4,        1024, "nesting of a JSON body") \
    X(messages,           count,       4096,     1,     1000000, "messages of one chat request") \
    X(conversation_items, count,         20,     1,        4096, "items of one request that adds them to a conversation") \
    X(background_turns,   count,        256,     1,      100000, "background turns that are under way") \
    X(store_ms,           ms,          2000,    10,       60000, "time that a request waits for the store of turns") \
    X(turn_record_bytes,  bytes,   16777216,  4096,  1073741824, "one turn or conversation as the store keeps it") \
    X(history_turns,      count,       2048,     1,      100000, "turns of one history, and of one tree") \
    X(queue_requests,     count,       1024,     1,     1000000, "sequences that wait for a place in the batch") \
    X(prompts,            count,        128,     1,       65536, "prompts of one completions request") \
    X(choices,            count,          8,     1,         128, "n: answers to one prompt") \
    X(unasked_tokens,     count,       1024,     1,     1048576, "tokens that a rate limit reserves for an answer of no given length") \
    X(turn_tokens,        count,     131072,     1,     1048576, "tokens generated for one answer") \
    X(stop_strings,       count,         16,     0,         128, "stop strings of one request") \
    X(stop_string_bytes,  bytes,        256,     1,        4096, "length of one stop string") \
    X(stop_tokens,        count,         64,     0,        1024, "stop_token_ids of one request") \
    X(logit_bias,         count,        512,     0,        4096, "entries of logit_bias") \
    X(template_steps,     count,    5000000,  1000,  1000000000, "steps of one chat template run") \
    X(template_depth,     count,         64,     8,         256, "nested calls and blocks of a chat template") \
    X(request_bytes,      bytes,   67108864, 65536,  4294967296, "working memory of one request")

typedef struct cn_limits {
#define X(key, unit, initial, min, max, what) uint64_t key;
    CN_LIMITS(X)
#undef X
} cn_limits;

/* Every limit at its default. */
static inline cn_limits cn_limits_default(void)
{
    return (cn_limits){
#define X(key, unit, initial, min, max, what) .key = initial,
        CN_LIMITS(X)
#undef X
    };
}
