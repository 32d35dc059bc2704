/* appliance/serve.h: `cairn serve`: everything wired together, and its life from start to drain.
 *
 * Threads: called on the main thread, which becomes the one that waits for signals.
 * Memory:  owns all rooms until it returns. */
#pragma once

#include "appliance/config.h"

/* Serves until SIGTERM, SIGINT or `cairn drain`, and then drains; SIGHUP reads the configuration again
 * from argv, which it came from (appliance/reload.h). Returns the exit code of the process: 0 after a
 * drain, 1 if something could not be started, 2 if a configured value is why (said on stderr),
 * 128 + signal after a second signal, or after one that came before the server was ready. */
int cn_serve_run(cn_config_settings *settings, int argc, char **argv);
