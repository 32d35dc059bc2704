/* appliance/observer.h: what the server has done lately, for the operator page and the trace file.
 * Once a second it looks at the metrics and takes the records of requests that have ended.
 *
 * Threads: one, the admin thread; `ended` is filled by the api thread.
 * Memory:  about 5.5 MiB with a page, 1.7 MiB for the trace file alone; allocated in open. */
#pragma once

#include "appliance/config.h"
#include "appliance/page.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/ring.h"
#include "dataplane/api.h"

typedef struct cn_observer cn_observer;

typedef struct cn_observer_options {
    const cn_config_settings *settings;
    cn_clock clock;
    const cn_log *log;
    cn_metrics *metrics;
    const cn_store *store;               // NULL: none
    cn_engine_info engine;
    const char *model_name, *hardware;
} cn_observer_options;                   // borrowed until close

/* Errors: CN_E_IO (trace.otlp_file), CN_E_MEMORY. */
cn_code cn_observer_open(const cn_observer_options *options, cn_observer **out, cn_err *err);
/* The api must not fill the ring any more. NULL is fine. */
void cn_observer_close(cn_observer *observer);

/* For cn_api_options; NULL for NULL. */
cn_ring *cn_observer_ended(cn_observer *observer);
/* The api is there, and clients reach it at `address`. Before the first sample. */
void cn_observer_attach(cn_observer *observer, const cn_api *api, const char *address);
/* To be called once a second. */
void cn_observer_sample(cn_observer *observer);
/* As of the last sample. */
const cn_page *cn_observer_page(const cn_observer *observer);
