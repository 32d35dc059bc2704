/* appliance/drain.h: `cairn drain`: has a running server drain and end, as SIGTERM does.
 *
 * Threads: main.
 * Memory:  none that stays. */
#pragma once

/* Runs the command with the arguments behind its name; returns the exit code of the process. */
int cn_drain_run(int argc, char **argv);
