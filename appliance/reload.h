/* appliance/reload.h: what SIGHUP does to the configuration.
 * It is read again from where it came: flags, environment, file. What can change while the server runs
 * is taken over, what cannot is named in the log and waits for a restart; a configuration that is wrong
 * changes nothing.
 *
 * Threads: main; the level of the log is read by all.
 * Memory:  texts that are taken over belong to the settings. */
#pragma once

#include "appliance/config.h"
#include "base/log.h"

typedef struct cn_reload_source {
    int argc;                            // arguments behind `serve`
    char **argv;                         // borrowed
} cn_reload_source;

/* Errors: CN_E_INVALID, CN_E_IO: as reading a configuration has; nothing has changed then. */
cn_code cn_reload_run(const cn_reload_source *source, cn_config_settings *settings, cn_log *log,
                      cn_err *err);
