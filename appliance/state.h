/* appliance/state.h: the store of `cairn serve`: which servers it is on, and its thread's work.
 * Without a configured Redis it has private servers. Where those cannot be had (no redis-server, a
 * directory that another cairn uses), the server runs without a store and says why: only stored
 * turns are refused then.
 *
 * Threads: open, connect and close on the main thread; poll on the state thread, between them.
 * Memory:  owns the private servers and the store. */
#pragma once

#include "appliance/config.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/random.h"
#include "state/store.h"

typedef struct cn_state cn_state;

enum { CN_STATE_PORT_API, CN_STATE_PORT_ENGINE, CN_STATE_PORT_COUNT };
enum { CN_STATE_PASSWORD_BYTES = 192 };

typedef struct cn_state_options {
    const cn_config_settings *settings;
    cn_clock clock;
    cn_random random;
    const cn_log *logger;
    cn_metrics *metrics;
    cn_wake *wake;                   // the state thread's
} cn_state_options;

/* Starts private servers if they are wanted. Early, so that they are up when the model is.
 * Errors: CN_E_INVALID (a configured value), CN_E_IO (state.password_file), CN_E_MEMORY. */
cn_code cn_state_open(const cn_state_options *options, cn_state **out, cn_err *err);
/* Opens the store for pages of this size; it connects in the background. Errors: CN_E_INVALID,
 * CN_E_MEMORY. */
cn_code cn_state_connect(cn_state *state, uint64_t page_bytes, cn_err *err);
/* NULL is fine. */
void cn_state_close(cn_state *state);

/* The store; NULL if there is none. */
cn_store *cn_state_store(const cn_state *state);
/* One round of the store's thread, as in cn_store_ops. There must be a store. */
bool cn_state_poll(cn_state *state, uint64_t timeout_ns);

/* Where the private servers' files are: as configured, what systemd gives (STATE_DIRECTORY), or the
 * user's own place. */
void cn_state_directory(const cn_config_settings *settings, char *out, size_t bytes);
/* The password of state.password_file, "" where none is configured. Errors: CN_E_IO, CN_E_INVALID. */
cn_code cn_state_password(const cn_config_settings *settings, char out[CN_STATE_PASSWORD_BYTES],
                          cn_err *err);
