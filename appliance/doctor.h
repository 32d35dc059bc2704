/* appliance/doctor.h: `cairn doctor`: whether this machine can run what the configuration asks for.
 *
 * Threads: called on the main thread.
 * Memory:  none of its own. */
#pragma once

#include "appliance/config.h"

/* Prints one line per check that concerns this machine, and for each that is not fine the command that
 * repairs it. Exit code 0 if nothing is broken, 1 if something is, 2 for bad usage. */
int cn_doctor_run(int argc, char **argv);

/* All findings as a list of JSON, for other reports. `root` as in --root, `config_path` may be "".
 * Returns how many are broken. */
uint32_t cn_doctor_write_json(const cn_config_settings *settings, const char *root,
                              const char *config_path, cn_buf *out);

/* Every check's name and what it looks at, as lines for people. */
void cn_doctor_write_checks(cn_buf *out);
