/* bench/plan.h: everything that a run will ask, drawn or read before the run starts: sessions with
 * their due times, and the turns of each. A plan is a function of settings, files and seed; a run
 * changes nothing in it, so two runs of one plan ask the same.
 *
 * Threads: one while it is built; afterwards read-only.
 * Memory:  one heap block each for sessions and turns, and an arena for texts; close frees them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "bench/arrivals.h"
#include "bench/draw.h"

enum { CN_PLAN_TOKENS_MAX = 1 << 24, CN_PLAN_COUNT_MAX = 1 << 24 };

/* One request. What the user says is `text` if there is one, else words made from `blocks` (each
 * `block_tokens` long, named by its number, so equal numbers are equal text) or from `seed`. */
typedef struct cn_plan_turn {
    uint64_t think_ns;           // from the end of the turn before to the due time of this one
    uint64_t seed;
    const char *text;            // of the plan's arena, NULL: made
    const char *answer;          // what a file says was answered; goes into the history if not NULL
    const uint64_t *blocks;
    uint64_t cancel_after_ns;    // after it was sent; 0: never
    uint64_t reconnect_after_ns; // likewise: the stream is lost and resumed
    uint32_t text_len, answer_len;
    uint32_t block_count, block_tokens;
    uint32_t input_tokens;       // what the user says, without prefix and history
    uint32_t output_tokens;      // at most that many
    uint32_t slow_bytes_per_s;   // reads its answer no faster; 0: as fast as it comes
} cn_plan_turn;

typedef struct cn_plan_session {
    uint64_t due_ns;             // since the start of the run; of closed loops 0
    uint64_t prefix_seed;
    uint32_t prefix_tokens;      // before the first turn: a system prompt
    uint32_t turn_first, turn_count;
    const char *system;          // system prompt of a file, NULL: made from the prefix
    uint32_t system_len;
} cn_plan_session;

typedef struct cn_plan {
    cn_plan_session *sessions;
    cn_plan_turn *turns;
    uint32_t session_count, session_capacity, turn_count, turn_capacity;
    cn_arena arena;
} cn_plan;

void cn_plan_init(cn_plan *plan);
void cn_plan_close(cn_plan *plan);

/* Appends a session without turns, or a turn to the last session; the pointer is valid until the
 * next call. NULL: no memory, or above CN_PLAN_COUNT_MAX. */
cn_plan_session *cn_plan_add_session(cn_plan *plan);
cn_plan_turn *cn_plan_add_turn(cn_plan *plan);

/* How sessions arrive. */
typedef struct cn_plan_schedule {
    cn_arrivals arrivals;
    uint64_t seed;
    uint64_t duration_ns;        // UINT64_MAX: no end
    uint32_t count_max;
    bool at_once;                // all due at 0: a closed loop, or an infinite rate
} cn_plan_schedule;

/* What synthetic sessions are like. */
typedef struct cn_plan_shape {
    uint64_t seed;
    cn_draw input_tokens, output_tokens, turns, think_s;
    uint32_t prefix_tokens, prefix_groups;
} cn_plan_shape;

/* Draws sessions with their due times. Errors: CN_E_MEMORY, CN_E_INVALID (none arrives in time). */
cn_code cn_plan_synthetic(cn_plan *plan, const cn_plan_schedule *schedule,
                          const cn_plan_shape *shape, cn_err *err);

/* Gives sessions that are there already (of a file without times) due times; those that arrive
 * after the duration or above the count are dropped. Errors: as above. */
cn_code cn_plan_reschedule(cn_plan *plan, const cn_plan_schedule *schedule, cn_err *err);

/* Which turns are cancelled, read slowly, or lost and resumed, drawn for each. */
typedef struct cn_plan_trouble {
    uint64_t seed;
    double cancel_share, slow_share, reconnect_share;
    cn_draw cancel_after_s, reconnect_after_s;
    uint32_t slow_bytes_per_s;
} cn_plan_trouble;
void cn_plan_disturb(cn_plan *plan, const cn_plan_trouble *trouble);
