/* appliance/manual.h: `cairn manual`: the manual pages, made from the tables of commands, keys, checks
 * and errors, and from what --help says.
 *
 * Threads: main only.
 * Memory:  none of its own. */
#pragma once

#include "appliance/command.h"

int cn_manual_run(const cn_commands *commands, int argc, char **argv);
