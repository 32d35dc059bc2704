#include "appliance/otlp_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES_MAX = 1 << 20 };

struct cn_otlp_file {
    const char *path;            // "-": the log
    const cn_log *log;
    uint64_t bytes_max, bytes;   // of the file
    cn_buf lines;
    uint32_t line_count;
    int fd;
    bool failing;                // the log has said so
};

static bool is_log(const cn_otlp_file *f) { return strcmp(f->path, "-") == 0; }

// The file as it is, at its end.
static bool open_path(cn_otlp_file *f)
{
    struct stat status;
    f->fd = open(f->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (f->fd < 0 || fstat(f->fd, &status) != 0) return false;
    f->bytes = (uint64_t)status.st_size;
    return true;
}

cn_code cn_otlp_file_open(const char *path, uint64_t bytes_max, const cn_log *logger,
                          cn_otlp_file **out, cn_err *err)
{
    cn_otlp_file *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return cn_err_set(err, CN_E_MEMORY, "trace.otlp_file: no memory");
    f->path = path;
    f->log = logger;
    f->bytes_max = bytes_max;
    cn_buf_init(&f->lines, BUFFER_BYTES_MAX);
    if (is_log(f)) {
        f->fd = logger->fd;
    } else if (!open_path(f)) {
        cn_err_set(err, CN_E_IO, "trace.otlp_file: %.256s: %s", path, strerror(errno));
        cn_otlp_file_close(f);
        return CN_E_IO;
    }
    *out = f;
    return CN_OK;
}

void cn_otlp_file_close(cn_otlp_file *f)
{
    if (!f) return;
    cn_otlp_file_flush(f);
    if (f->fd >= 0 && !is_log(f)) close(f->fd);
    cn_buf_close(&f->lines);
    free(f);
}

void cn_otlp_file_add(cn_otlp_file *f, const cn_tracing_record *record)
{
    if (!record->trace.sampled) return;
    f->line_count++;
    cn_tracing_otlp_write(record, &f->lines);
}

// Errors are in errno.
static bool rotate(cn_otlp_file *f)
{
    char old[PATH_MAX];
    if (snprintf(old, sizeof old, "%s.1", f->path) >= (int)sizeof old) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (rename(f->path, old) != 0 && errno != ENOENT) return false;
    close(f->fd);
    return open_path(f);
}

static bool write_lines(cn_otlp_file *f)
{
    if (f->lines.overflowed) {
        errno = ENOBUFS;
        return false;
    }
    if (!is_log(f) && f->bytes > 0 && f->bytes + f->lines.len > f->bytes_max && !rotate(f)) {
        return false;
    }
    for (size_t at = 0; at < f->lines.len;) {
        const ssize_t wrote = write(f->fd, f->lines.data + at, f->lines.len - at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return false;
        at += (size_t)wrote;
        f->bytes += (uint64_t)wrote;
    }
    return true;
}

uint32_t cn_otlp_file_flush(cn_otlp_file *f)
{
    const uint32_t count = f->line_count;
    if (count == 0) return 0;
    const bool wrote = write_lines(f);
    if (!wrote && !f->failing) {
        cn_log_event(f->log, CN_LOG_WARN, "trace_file_failed", cn_log_text("path", f->path),
                     cn_log_text("why", strerror(errno)));
    }
    if (wrote && f->failing) {
        cn_log_event(f->log, CN_LOG_INFO, "trace_file_works", cn_log_text("path", f->path));
    }
    f->failing = !wrote;
    f->line_count = 0;
    cn_buf_clear(&f->lines);
    return wrote ? 0 : count;
}
