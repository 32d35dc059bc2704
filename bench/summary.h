/* bench/summary.h: what a run is summed up to: counts, percentiles from both clocks, lateness,
 * series over time, and whether the run may be believed.
 *
 * Threads: one.
 * Memory:  series on the heap until close. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "bench/figures.h"
#include "bench/plan.h"
#include "bench/tally.h"

/* A service level: milliseconds; 0 is no limit. */
typedef struct cn_summary_slo {
    double ttft_ms, tpot_ms, e2el_ms;
} cn_summary_slo;

enum { CN_SUMMARY_TURNS = 16, CN_SUMMARY_BATCHES = 20, CN_SUMMARY_BINS_MAX = 600,
       CN_SUMMARY_CURVE = 200 };

/* From one of the two beginnings, due or sent. */
typedef struct cn_summary_clock {
    cn_figures ttft_ms, e2el_ms;
    uint64_t good;               // answered within the service level
    float ttft_curve_ms[CN_SUMMARY_CURVE], e2el_curve_ms[CN_SUMMARY_CURVE];
} cn_summary_clock;

typedef struct cn_summary_turn { // the k-th turns of all sessions
    uint64_t count, input_tokens, cached_tokens;
    cn_figures ttft_ms, e2el_ms;
} cn_summary_turn;

typedef struct cn_summary_bin {  // of time since the start
    double due, completed, events, in_flight, ttft_p50_ms, ttft_p99_ms;
} cn_summary_bin;

typedef struct cn_summary {
    uint64_t outcomes[CN_OUTCOME_COUNT];
    uint64_t completed, failed;  // failed: neither answered, cancelled nor unsent
    uint64_t input_tokens, output_tokens, cached_tokens;
    bool cached_told;            // by at least one answer
    double duration_s, request_per_s, output_per_s, total_per_s, goodput_per_s, events_per_s;
    double output_per_s_max;     // in one second
    uint64_t concurrent_max;
    cn_summary_clock due, sent;
    cn_figures tpot_ms, itl_ms, queue_ms;
    cn_figures lateness_ms;
    cn_histogram lateness_ns;
    double cpu_share;            // of one core
    bool valid;
    char invalid_why[256];       // one sentence for each reason
    unsigned char digest[32];    // of the digests of all answered turns, in the plan's order
    uint64_t digest_turns;
    cn_summary_turn turns[CN_SUMMARY_TURNS];
    uint32_t turns_count;
    double bin_s;
    uint32_t bin_count;
    cn_summary_bin *bins;
    uint32_t batch_count;        // batch means in the order of due times, for comparing runs
    double batch_ttft_ms[CN_SUMMARY_BATCHES], batch_e2el_ms[CN_SUMMARY_BATCHES],
        batch_tpot_ms[CN_SUMMARY_BATCHES], batch_output_per_s[CN_SUMMARY_BATCHES];
} cn_summary;

/* The limits of a run that may be believed. */
#define CN_SUMMARY_LATENESS_MS_MAX 1.0
#define CN_SUMMARY_CPU_MAX 0.8

/* Reads "ttft:500 tpot:30 e2el:2000", in milliseconds, separated by spaces or commas. Errors:
 * CN_E_INVALID. */
cn_code cn_summary_parse_slo(const char *text, cn_summary_slo *out, cn_err *err);
/* A service level by its name, as "llama3.1-8b-interactive". Errors: CN_E_INVALID, which
 * lists all. */
cn_code cn_summary_find_slo(const char *name, cn_summary_slo *out, cn_err *err);

/* Errors: CN_E_MEMORY. Close it in any case. */
cn_code cn_summary_open(const cn_plan *plan, const cn_tally *tally, const cn_summary_slo *slo,
                        cn_summary *out, cn_err *err);
void cn_summary_close(cn_summary *summary);
