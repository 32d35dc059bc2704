/* appliance/chat.h: `cairn chat`: a terminal client with history and streaming answers.
 * Speaks to any OpenAI-compatible server over HTTP. Ctrl-C stops the answer, not the program.
 *
 * Threads: main only.
 * Memory:  the conversation, until /reset or the end. */
#pragma once

/* argc and argv without the program's and the subcommand's name. Returns the exit code. */
int cn_chat_run(int argc, char **argv);
