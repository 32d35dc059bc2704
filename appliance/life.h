/* appliance/life.h: the life of a server on its main thread: signals, the watchdog, the doors for load
 * balancers and commands, reload, drain.
 *   SIGTERM, SIGINT, `cairn drain`   drain, then end; a second signal ends at once
 *   SIGHUP                           reload (appliance/reload.h)
 *
 * Threads: main. The phase is read by the net thread.
 * Memory:  owns the signals, the sockets of both doors and that of systemd until close. */
#pragma once

#include <stdatomic.h>

#include "appliance/config.h"
#include "appliance/keys.h"
#include "appliance/network.h"
#include "appliance/pulse.h"
#include "appliance/reload.h"
#include "base/log.h"
#include "base/metrics.h"
#include "dataplane/api.h"
#include "scheduler/engine.h"

typedef struct cn_life cn_life;

/* What the net thread is to do; phases follow one another. */
typedef enum cn_life_phase { CN_LIFE_SERVES, CN_LIFE_RETIRES, CN_LIFE_DRAINS } cn_life_phase;

typedef struct cn_life_options {
    cn_config_settings *settings;        // SIGHUP changes some
    cn_reload_source source;             // where they came from
    cn_log *log;
    cn_clock clock;
} cn_life_options;                       // all borrowed until close

/* What there is once everything runs; borrowed until run returns. */
typedef struct cn_life_rooms {
    cn_api *api;
    const cn_engine *engine;
    cn_network *network;                 // NULL: kernel sockets
    const cn_metrics *metrics;
    cn_pulse *pulses[8];                 // of the threads
    uint32_t pulse_count;
    cn_wake *net_wake;
    _Atomic cn_life_phase *phase;
    const _Atomic cn_life_phase *net_phase;      // the one that it has come to; `connections` is of then
    const _Atomic uint32_t *connections;
    cn_keys_watch *keys;
} cn_life_rooms;

/* Blocks the signals, for all threads that are started afterwards, and finds systemd. Errors:
 * CN_E_INVALID, CN_E_IO, CN_E_MEMORY. */
cn_code cn_life_open(const cn_life_options *options, cn_life **out, cn_err *err);
/* Last of all: commands that wait for the end see it here. NULL is fine. */
void cn_life_close(cn_life *life);

/* To be called while the weights are loaded, when there is nothing to drain: a signal ends the process,
 * and systemd is asked for patience. */
void cn_life_load(cn_life *life, uint64_t done, uint64_t total);
/* Opens the doors. Errors: CN_E_INVALID, CN_E_IO (agent.listen; without a run_directory the server
 * runs all the same, and the log says so). */
cn_code cn_life_listen(cn_life *life, cn_err *err);

/* Says that the server is ready, tends it until it is told to drain, and drains. Returns the exit code
 * of the process, 128 + signal after a second signal: nothing can be closed then. */
int cn_life_run(cn_life *life, const cn_life_rooms *rooms);
