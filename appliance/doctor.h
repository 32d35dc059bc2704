/* appliance/doctor.h: `cairn doctor`: whether this machine can run what the configuration asks for.
 *
 * Threads: called on the main thread.
 * Memory:  none of its own. */
#pragma once

/* Prints one line per check. Exit code 0 if nothing is broken, 1 if something is, 2 for bad usage. */
int cn_doctor_run(int argc, char **argv);
