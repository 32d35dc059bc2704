/* base/log.h: structured log, one line per event, in logfmt.
 *   2026-11-24T08:30:00.123Z level=info event=listening addr=127.0.0.1:8000
 * Values are quoted and escaped where needed, so no input can forge a line or a field. Prompt text,
 * answers and keys are never given to it; tests/tidy looks for that.
 *
 * Threads: any; a line is one write(2), so lines do not mix.
 * Memory:  a line is at most 2 KiB, cut with "..." beyond, built on the stack. */
#pragma once

#include <stdint.h>

#include "base/clock.h"

typedef enum cn_log_level {
    CN_LOG_DEBUG,
    CN_LOG_INFO,
    CN_LOG_WARN,
    CN_LOG_ERROR,
    CN_LOG_OFF
} cn_log_level;

typedef struct cn_log {
    int fd;
    _Atomic cn_log_level level;  // events below are dropped; may change while others write
    cn_clock clock;
} cn_log;

/* One field; made by the functions below. */
typedef struct cn_log_field {
    const char *key;             // [a-z_]+
    const char *text;            // NULL: `number`
    int64_t number;
} cn_log_field;

static inline cn_log_field cn_log_text(const char *key, const char *text)
{
    return (cn_log_field){key, text ? text : "", 0};
}
static inline cn_log_field cn_log_number(const char *key, int64_t number)
{
    return (cn_log_field){key, 0, number};
}

/* Writes one line; `event` is a fixed word. A NULL log drops it. Use through cn_log_event. */
void cn_log_write(const cn_log *log, cn_log_level level, const char *event,
                  const cn_log_field *fields, uint32_t count);

/* cn_log_event(log, CN_LOG_INFO, "listening", cn_log_text("addr", text), cn_log_number("n", 3)); */
#define cn_log_event(log, level, event, ...)                                                       \
    cn_log_write(log, level, event, (const cn_log_field[]){__VA_ARGS__},                           \
                 sizeof((const cn_log_field[]){__VA_ARGS__}) / sizeof(cn_log_field))

/* "debug", "info", "warn", "error", "off" and back; -1 for an unknown name. */
const char *cn_log_level_name(cn_log_level level);
int cn_log_level_parse(const char *name);
