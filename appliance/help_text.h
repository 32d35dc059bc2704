/* appliance/help_text.h: what `--help` says, taken apart. Help is made from the tables of keys, flags
 * and jobs; manual pages and completions are made from the help, so all of them agree.
 *
 * Threads: main only; nothing else may print meanwhile.
 * Memory:  the caller's. */
#pragma once

#include <stdbool.h>

#include "appliance/command.h"
#include "base/buf.h"

enum { CN_HELP_WORD_BYTES = 48, CN_HELP_WHAT_BYTES = 240, CN_HELP_ITEMS_MAX = 256 };

/* A line "  name VALUE   what it is", with the lines that continue it. */
typedef struct cn_help_item {
    char name[CN_HELP_WORD_BYTES];           // "--kv.bytes", "run"
    char what[CN_HELP_WHAT_BYTES];
    bool takes_value;
} cn_help_item;

/* One thing that can be typed: "", "serve", "session ls"; and what may follow it. */
typedef struct cn_help_place {
    char path[CN_HELP_WORD_BYTES];
    cn_help_item items[CN_HELP_ITEMS_MAX];   // jobs, then flags
    uint32_t count;
} cn_help_place;

/* What a command prints for `cairn NAME [JOB] --help`; job may be "". Ended by a 0. */
void cn_help_text_read(const cn_command *command, const char *job, cn_buf *out);

/* The jobs of a command's help ("ls" of session), at most `max`; returns how many. */
uint32_t cn_help_text_jobs(const char *command, const char *help, cn_help_item *out, uint32_t max);
/* Adds the flags that the text names, once each. */
void cn_help_text_flags(const char *help, cn_help_place *place);

/* Calls `each` for every place that there is, from "" on. */
void cn_help_text_walk(const cn_commands *commands, void (*each)(void *self, const cn_help_place *place),
                       void *self);
