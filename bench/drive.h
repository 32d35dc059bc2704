/* bench/drive.h: asks what a plan says when it says so, and notes what comes back.
 * Open loop: sessions begin at their due times whatever the server does; turn k + 1 is due think
 * time after the end of turn k. Closed loop: `concurrency` clients, each with one session after
 * another.
 *
 * Threads: one: the whole run is one loop.
 * Memory:  the requests under way and their histories; all freed when the run ends. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "bench/body.h"
#include "bench/plan.h"
#include "bench/tally.h"

typedef struct cn_drive_progress {
    uint64_t elapsed_ns;
    uint32_t begun, ended, failed, in_flight, waiting;   // turns
    uint64_t events;
    uint32_t sessions_ended, session_count;
} cn_drive_progress;

typedef struct cn_drive_options {
    const cn_plan *plan;
    const char (*conversations)[80];     // id for each session, with CN_BODY_CONVERSATION
    cn_body_options body;
    cn_clock clock;
    uint32_t concurrency;        // clients of a closed loop; 0: open loop
    uint32_t max_concurrency;    // requests at once, others wait here; 0: no limit
    uint64_t timeout_ns;         // for one request
    bool realtime;               // take real-time priority for the run, where the system grants it
    bool keep_text;
    /* Called ten times a second; false ends the run: what is under way is given up. May be NULL. */
    bool (*on_progress)(void *self, const cn_drive_progress *progress, const cn_tally *tally);
    void *self;
} cn_drive_options;

/* Runs the plan to its end. `tally` is opened here; close it in any case. Requests that fail are
 * counted in it and are no error of the run. Errors: CN_E_IO (host, sockets), CN_E_MEMORY. */
cn_code cn_drive_run(const cn_drive_options *options, cn_tally *tally, cn_err *err);

/* Takes the lowest real-time priority, which is above all ordinary ones, or gives it back; false if
 * the system does not grant it. */
bool cn_drive_set_realtime(bool on);
