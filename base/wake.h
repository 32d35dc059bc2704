/* base/wake.h: how one thread tells another that there is something to poll.
 * A thread that has polled everything and found nothing sleeps on its wake; whoever puts a message
 * into one of its rings signals afterwards. A signal to a thread that is awake costs one atomic
 * exchange and no system call.
 *
 * Threads: any thread signals; one thread waits.
 * Memory:  one eventfd. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

typedef struct cn_wake {
    int fd;                      // readable after a signal to a sleeper; for epoll
    atomic_uint asleep;
} cn_wake;

cn_code cn_wake_open(cn_wake *wake, cn_err *err);
void cn_wake_close(cn_wake *wake);

/* Wakes the waiter if it sleeps or is about to. */
void cn_wake_signal(cn_wake *wake);

/* Announces sleep: from now on signals are kept. Poll everything once more after this, then call
 * wait, or cancel if something was found. */
void cn_wake_prepare(cn_wake *wake);
void cn_wake_cancel(cn_wake *wake);
/* Sleeps until a signal or `timeout_ns` (UINT64_MAX: no limit), and is awake afterwards. */
void cn_wake_wait(cn_wake *wake, uint64_t timeout_ns);
