/* appliance/control.h: how a command reaches a running server: a Unix socket in run_directory that is
 * named by the process, an order in a line, and lines of progress back until the process has ended.
 * Only the user that the server runs as, and root, may connect.
 *
 * Threads: main, of either process.
 * Memory:  a server's: bounded by CN_CONTROL_CLIENTS_MAX. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_control cn_control;

enum { CN_CONTROL_CLIENTS_MAX = 8, CN_CONTROL_FDS_MAX = CN_CONTROL_CLIENTS_MAX + 1 };

/* Makes the directory if it is not there, and removes sockets of servers that were killed. Errors:
 * CN_E_IO, CN_E_INVALID (a path that is too long), CN_E_MEMORY. */
cn_code cn_control_open(const char *directory, cn_control **out, cn_err *err);
/* Clients that wait see the end of the connection here. NULL is fine. */
void cn_control_close(cn_control *control);

/* What to poll for: at most CN_CONTROL_FDS_MAX. NULL: nothing. */
uint32_t cn_control_fds(const cn_control *control, struct pollfd *out);
/* Takes what has come; true once for each order to drain. */
bool cn_control_act(cn_control *control);
/* Sends a line to all who gave an order. */
void cn_control_tell(cn_control *control, const char *line);

/* The client's side: connects to the server with this process id, or with 0 to the only one there is.
 * Errors: CN_E_INVALID (more than one, named), CN_E_IO (none). */
cn_code cn_control_connect(const char *directory, uint64_t pid, int *fd, cn_err *err);
