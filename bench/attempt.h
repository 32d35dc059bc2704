/* bench/attempt.h: from the flags of a person to one finished run: checks them, makes the plan,
 * warms up, drives, and sums up.
 *
 * Threads: one.
 * Memory:  the attempt owns plan, tally and summary until close. */
#pragma once

#include "bench/drive.h"
#include "bench/settings.h"
#include "bench/summary.h"

/* What the settings mean. Texts are borrowed from the settings. */
typedef struct cn_attempt_spec {
    const cn_settings *settings;
    cn_body_options body;        // its model and key are the caller's to fill in
    cn_plan_schedule schedule;
    cn_plan_shape shape;
    cn_plan_trouble trouble;
    cn_summary_slo slo;
    bool has_slo;
    uint32_t concurrency, max_concurrency, warmups;
    uint64_t timeout_ns;
    bool keep_text, replay;
    const char *dataset; // the text of the file, for the caller to fill in where one is given
    size_t dataset_len;
} cn_attempt_spec;

typedef struct cn_attempt {
    cn_plan plan;
    cn_tally tally;
    cn_summary summary;
} cn_attempt;

typedef struct cn_attempt_watch {    // cn_drive_options.on_progress
    bool (*on_progress)(void *self, const cn_drive_progress *progress, const cn_tally *tally);
    void *self;
} cn_attempt_watch;

/* Lengths, turns and arrivals like a published trace, for what was not given.
 * Errors: CN_E_INVALID. */
cn_code cn_attempt_apply_preset(cn_settings *settings, cn_err *err);

/* Checks all settings together. Errors: CN_E_INVALID, CN_E_UNSUPPORTED. */
cn_code cn_attempt_read(const cn_settings *settings, unsigned command, cn_attempt_spec *out,
                        cn_err *err);

/* Draws or reads what will be asked. Close the attempt in any case. Errors: CN_E_INVALID,
 * CN_E_FORMAT, CN_E_MEMORY. */
cn_code cn_attempt_plan(const cn_attempt_spec *spec, cn_attempt *out, cn_err *err);

/* Sends the requests before the clock starts, one at a time. Errors: the first that fails. */
cn_code cn_attempt_warm_up(const cn_attempt_spec *spec, cn_err *err);

/* Runs the plan and sums up. `conversations` is as in cn_drive_options. Errors: CN_E_IO,
 * CN_E_MEMORY. */
cn_code cn_attempt_run(const cn_attempt_spec *spec, const char (*conversations)[80],
                       const cn_attempt_watch *watch, cn_attempt *attempt, cn_err *err);
void cn_attempt_close(cn_attempt *attempt);
