/* appliance/backends.h: the backends that this program was built with, by name.
 *
 * Threads: any, constants only.
 * Memory:  none. */
#pragma once

#include "kernels/backend.h"

/* The backend of that name; NULL if there is none. */
const cn_backend_ops *cn_backends_find(const char *name);

/* All names, for people: "cpu, cuda-emu". */
const char *cn_backends_names(void);

/* The order of sums of that name ("" is the default one); -1 if there is none. */
int cn_backends_numerics(const char *name);
