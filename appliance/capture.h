/* appliance/capture.h: `cairn capture`: the frames of a running server's port, into a file.
 *
 * Threads: called on the main thread.
 * Memory:  a buffer of its own. */
#pragma once

/* Runs until Ctrl-C, SIGTERM, or what --seconds or --frames say; returns the exit code. */
int cn_capture_run(int argc, char **argv);
