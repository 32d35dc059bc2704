/* appliance/session.h: `cairn session`: conversations of a running server, listed, shown, drawn as trees,
 * forked, written to files, read from files, and deleted.
 * Speaks HTTP to the server, so that it works from anywhere, under the API key whose conversations
 * are meant, and never beside the server's own rules.
 *
 * Threads: main only.
 * Memory:  one answer of the server at a time. */
#pragma once

/* argc and argv without the program's and the subcommand's name. Returns the exit code. */
int cn_session_run(int argc, char **argv);
