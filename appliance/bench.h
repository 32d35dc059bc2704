/* appliance/bench.h: `cairn bench`: the load generator on the command line.
 *
 * Threads: main only.
 * Memory:  freed when it returns. */
#pragma once

/* Runs `cairn bench COMMAND ...`; returns the exit code. Beside those of every command, 3 means
 * that a run was made and may not be believed. */
int cn_bench_run(int argc, char **argv);
