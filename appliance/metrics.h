/* appliance/metrics.h: `cairn metrics`: what there is to measure, and what a running server says.
 *
 * Threads: main only.
 * Memory:  none of its own. */
#pragma once

/* Returns the exit code. */
int cn_metrics_run(int argc, char **argv);
