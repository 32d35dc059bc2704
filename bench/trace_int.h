/* bench/trace_int.h: the readers behind bench/trace.h. Each appends sessions with due times as the
 * file has them, in nanoseconds, in any order.
 *
 * Threads: one.
 * Memory:  as bench/trace.h. */
#pragma once

#include "bench/trace.h"

cn_code cn_trace_read_azure(const cn_trace_options *options, const char *text, size_t len,
                            cn_plan *plan, cn_err *err);
cn_code cn_trace_read_burstgpt(const cn_trace_options *options, const char *text, size_t len,
                               cn_plan *plan, cn_err *err);
cn_code cn_trace_read_mooncake(const cn_trace_options *options, const char *text, size_t len,
                               cn_plan *plan, cn_err *err);
cn_code cn_trace_read_sharegpt(const cn_trace_options *options, const char *text, size_t len,
                               cn_plan *plan, cn_err *err);

/* The error of a plan that cannot grow. */
cn_code cn_trace_refuse(const cn_trace_options *options, cn_err *err);
