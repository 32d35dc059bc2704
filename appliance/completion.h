/* appliance/completion.h: `cairn completion bash|zsh|fish`: a script with which a shell completes
 * commands, jobs and flags, made from what --help says.
 *
 * Threads: main only.
 * Memory:  none of its own. */
#pragma once

#include "appliance/command.h"

int cn_completion_run(const cn_commands *commands, int argc, char **argv);
