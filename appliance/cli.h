/* appliance/cli.h: command lines to settings: full-length flags made from the configuration table.
 *
 * Threads: main only.
 * Memory:  none of its own. */
#pragma once

#include <stdbool.h>

#include "appliance/config.h"

/* Exit codes of every subcommand. */
enum { CN_EXIT_OK = 0, CN_EXIT_FAILED = 1, CN_EXIT_USAGE = 2 };

typedef struct cn_cli_flags {
    const char *config;          // --config FILE, NULL if not given
    bool json, help;
} cn_cli_flags;

/* Reads `--key value` and `--key=value` of argv, then the environment and the --config file into
 * settings (which is opened here; close it in any case). Errors: CN_E_INVALID, CN_E_IO. */
cn_code cn_cli_read(int argc, char **argv, cn_config_settings *settings, cn_cli_flags *flags,
                    cn_err *err);

/* Says on stderr what went wrong; to a person at a terminal also where to read more. */
void cn_cli_complain(const cn_err *err);

/* Prints every configuration flag with its default and bounds. */
void cn_cli_print_keys(void);
