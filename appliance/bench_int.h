/* appliance/bench_int.h: what the commands of `cairn bench` share.
 *
 * Threads: main only.
 * Memory:  the caller's. */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "base/buf.h"
#include "bench/attempt.h"
#include "bench/settings.h"

enum { CN_BENCH_EXIT_INVALID = 3, CN_BENCH_FILE_BYTES_MAX = 1 << 30 };

/* Not 0 after SIGINT or SIGTERM. */
extern volatile sig_atomic_t cn_bench_stop;

/* Prints "cairn: TEXT" to stderr and returns `exit_code`. */
int cn_bench_fail(const cn_err *err, int exit_code);

/* The name of the first model of the server, in `model`. Errors: CN_E_IO, CN_E_SYNTAX. */
cn_code cn_bench_find_model(const cn_settings *settings, char model[256], cn_err *err);

/* A conversation for each session; the caller frees *out. Errors: CN_E_IO, CN_E_MEMORY. */
cn_code cn_bench_create_conversations(const cn_settings *settings, uint32_t count, char (**out)[80],
                                      cn_err *err);

/* Sum of all series of a metric of the server's /metrics whose line begins with `series`; -1 if
 * there is none. `text` is the page. */
double cn_bench_metric(const cn_buf *text, const char *series);
/* Reads /metrics; nothing if the server has none. */
void cn_bench_scrape(const cn_settings *settings, cn_buf *out);

/* What each counter of a page of metrics gained between `before` and `after`, as an object of JSON
 * with the series as keys; nothing if there was no page, and no gauges. */
void cn_bench_metrics_gain(const cn_buf *before, const cn_buf *after, cn_buf *out);

/* Reads or writes a whole file. Errors: CN_E_IO. */
cn_code cn_bench_read_file(const char *path, cn_buf *out, cn_err *err);
cn_code cn_bench_write_file(const char *path, const cn_buf *text, cn_err *err);

/* One line on the terminal that is written over; nothing if stderr is none. */
bool cn_bench_show_progress(void *self, const cn_drive_progress *progress, const cn_tally *tally);
void cn_bench_clear_progress(void);

/* `cairn bench capacity`; the exit code. */
int cn_bench_run_capacity(cn_settings *settings);
