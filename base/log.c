#include "base/log.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

enum { LINE_BYTES_MAX = 2048 };

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

const char *cn_log_level_name(cn_log_level level) { return level_names[level]; }

int cn_log_level_parse(const char *name)
{
    for (int i = CN_LOG_DEBUG; i <= CN_LOG_OFF; i++) {
        if (strcmp(name, level_names[i]) == 0) return i;
    }
    return -1;
}

static void add_time(cn_buf *line, uint64_t wall_ns)
{
    char text[32];
    struct tm tm;
    const time_t seconds = (time_t)(wall_ns / 1000000000u);
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    cn_buf_add_format(line, "%s.%03uZ", text, (unsigned)(wall_ns / 1000000u % 1000u));
}

static void add_value(cn_buf *line, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_.:/+@%[]";
    const size_t len = strlen(text);
    if (len > 0 && strspn(text, plain) == len) cn_buf_add(line, text, len);
    else cn_buf_add_json(line, text, len);
}

void cn_log_write(const cn_log *log, cn_log_level level, const char *event,
                  const cn_log_field *fields, uint32_t count)
{
    if (!log || level < log->level) return;
    char memory[LINE_BYTES_MAX];
    // The buffer lives on the stack: it never grows, and close is not called.
    cn_buf line = {.data = memory, .capacity = sizeof memory - 4, .bytes_max = sizeof memory - 4};
    add_time(&line, cn_clock_wall_ns(&log->clock));
    cn_buf_add_format(&line, " level=%s event=%s", level_names[level], event);
    for (uint32_t i = 0; i < count; i++) {
        cn_buf_add_format(&line, " %s=", fields[i].key);
        if (fields[i].text) add_value(&line, fields[i].text);
        else cn_buf_add_format(&line, "%lld", (long long)fields[i].number);
    }
    const char *end = line.overflowed ? "...\n" : "\n";
    memcpy(memory + line.len, end, strlen(end));
    const ssize_t written = write(log->fd, memory, line.len + strlen(end));
    (void)written;               // nowhere left to report it
}
