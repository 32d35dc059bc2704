/* appliance/notify.h: what systemd is told (sd_notify(3)): ready, reloading, stopping, a line of status,
 * and that the server lives. Without a service manager nothing is told to nobody.
 *
 * Threads: main.
 * Memory:  plain memory of the caller; a socket until close. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

typedef struct cn_notify {
    int fd;                              // -1: nobody listens
    struct sockaddr_un address;
    socklen_t address_len;
    uint64_t watchdog_ns;                // WATCHDOG=1 is expected at least so often; 0: not at all
} cn_notify;

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the environment: they are
 * not meant for the processes that we start. Errors: CN_E_INVALID (a socket that is none), CN_E_IO. */
cn_code cn_notify_open(cn_notify *notify, cn_err *err);
void cn_notify_close(cn_notify *notify);

/* Sends lines such as "READY=1\nSTATUS=...". Never blocks: a manager that does not read misses it. */
void cn_notify_send(const cn_notify *notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
