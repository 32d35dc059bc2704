/* bench/trace.h: recorded traffic as a plan.
 *   sharegpt   JSON or JSON lines: `conversations` of {from, value} or `messages` of {role,
 *              content}; real texts; recorded answers go into the history; no times
 *   mooncake   JSON lines: timestamp in milliseconds, input_length, output_length, hash_ids of
 *              512-token blocks; equal ids become equal text
 *   azure      CSV: TIMESTAMP, ContextTokens, GeneratedTokens
 *   burstgpt   CSV: Timestamp in seconds, Request tokens, Response tokens, perhaps Session ID, whose
 *              rows become the turns of one session, and Elapsed time, which is no time to think
 * Times count from the earliest line of the file.
 *
 * Threads: one.
 * Memory:  texts and block ids are copied into the plan's arena. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "bench/plan.h"

typedef struct cn_trace_options {
    const char *name;            // of the file, for errors
    const char *format;
    bool keeps_times;            // else the caller gives new ones (cn_plan_reschedule)
    double speed;                // divides times
    uint64_t gap_ns_max;         // longest idle gap and think time; 0: any
    uint64_t duration_ns;        // sessions that arrive later are dropped
    uint32_t count_max;          // sessions; 0: all
} cn_trace_options;

/* Reads the text of a file into an empty plan. Errors: CN_E_INVALID (format, or a format without
 * times where times are needed), CN_E_FORMAT with the line or record at fault, CN_E_MEMORY. */
cn_code cn_trace_read(const cn_trace_options *options, const char *text, size_t len, cn_plan *plan,
                      cn_err *err);
