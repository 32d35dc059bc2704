/* appliance/prove.h: `cairn prove`: whether stored turns can be had again, bit for bit.
 * A turn keeps its tokens, its seed and its settings. Each is generated three times more: with whatever
 * pages of its history are there (computed, restored, or both), cold, and warm. Tokens must be those
 * that were stored; logprobs must be the same in all three, and those that were kept, if any.
 *
 * Threads: main only.
 * Memory:  one conversation at a time. */
#pragma once

/* argc and argv without the program's and the subcommand's name. Returns the exit code. */
int cn_prove_run(int argc, char **argv);
