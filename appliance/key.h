/* appliance/key.h: `cairn key`: keys are made, listed and revoked in a keys file.
 *
 * Threads: main only.
 * Memory:  the file while it is worked on. */
#pragma once

int cn_key_run(int argc, char **argv);
