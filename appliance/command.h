/* appliance/command.h: a subcommand of `cairn`.
 *
 * Threads: constant data; run is called on the main thread.
 * Memory:  none. */
#pragma once

#include <stdint.h>

typedef struct cn_command {
    const char *name;
    int (*run)(int argc, char **argv);       // of what follows the name; returns the exit code
    const char *what;                        // for people
} cn_command;

/* All of them, made by main. */
typedef struct cn_commands {
    const cn_command *list;
    uint32_t count;
} cn_commands;
