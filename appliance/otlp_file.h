/* appliance/otlp_file.h: ended requests as lines of OTLP/JSON, in a file that does not grow without
 * end. A collector reads it (the otlpjsonfile receiver, for one); nothing is sent anywhere. A file
 * that would become larger than its limit is renamed to NAME.1, in the place of an older one.
 *
 * Threads: one.
 * Memory:  a buffer of what was not written yet, at most 1 MiB. */
#pragma once

#include "base/err.h"
#include "base/log.h"
#include "dataplane/tracing.h"

typedef struct cn_otlp_file cn_otlp_file;

/* Appends to `path`, or for "-" to the log; both borrowed until close. Errors: CN_E_IO (with the
 * path). */
cn_code cn_otlp_file_open(const char *path, uint64_t bytes_max, const cn_log *logger,
                          cn_otlp_file **out, cn_err *err);
/* Writes what is left. NULL is fine. */
void cn_otlp_file_close(cn_otlp_file *file);

/* Adds a record, if its client wants it to be traced. */
void cn_otlp_file_add(cn_otlp_file *file, const cn_tracing_record *record);
/* Writes what was added; returns how many records are lost, which the log also says. */
uint32_t cn_otlp_file_flush(cn_otlp_file *file);
