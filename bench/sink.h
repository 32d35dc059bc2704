/* bench/sink.h: a server without a model that plays tokens at a given pace, or wrongly on purpose:
 * it shows what the generator itself can do, and what it makes of a server that stalls or breaks.
 * What it says is a function of the request's bytes, so equal requests have equal digests.
 *
 * Threads: one.
 * Memory:  about 1 KiB per connection, and the request while it is read. */
#pragma once

#include <signal.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/settings.h"

/* Serves until *stop is not 0; prints "listening on ADDR:PORT" to stdout. Errors: CN_E_INVALID (a
 * setting), CN_E_IO (the address). */
cn_code cn_sink_serve(const cn_settings *settings, const volatile sig_atomic_t *stop, cn_err *err);
