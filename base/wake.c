#include "base/wake.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* How it works. The sleeper exchanges asleep for 1 and then looks at its rings; the signaller writes
 * a ring and then exchanges asleep for 0. Whichever exchange comes second sees the first: either the
 * signaller finds 1 and writes the eventfd, or the sleeper's exchange acquires what the signaller's
 * released, and it finds the message. No wake-up is lost. */

cn_code cn_wake_open(cn_wake *wake, cn_err *err)
{
    atomic_init(&wake->asleep, 0);
    wake->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake->fd < 0) return cn_err_set(err, CN_E_IO, "eventfd: %s", strerror(errno));
    return CN_OK;
}

void cn_wake_close(cn_wake *wake)
{
    if (wake->fd >= 0) close(wake->fd);
    wake->fd = -1;
}

void cn_wake_signal(cn_wake *wake)
{
    if (atomic_exchange(&wake->asleep, 0) == 0) return;
    const uint64_t one = 1;
    // The counter cannot overflow: one signal per sleep. A full or broken eventfd leaves the timeout.
    const ssize_t written = write(wake->fd, &one, sizeof one);
    (void)written;
}

void cn_wake_prepare(cn_wake *wake)
{
    atomic_exchange(&wake->asleep, 1);
}

// Takes a signal back, if there is one.
static void drain(cn_wake *wake)
{
    uint64_t count;
    const ssize_t got = read(wake->fd, &count, sizeof count);
    (void)got;
}

void cn_wake_cancel(cn_wake *wake)
{
    // A signal that came between may still be on its way to the eventfd; then the next wait finds it,
    // returns at once, and takes it.
    if (atomic_exchange(&wake->asleep, 0) == 0) drain(wake);
}

void cn_wake_wait(cn_wake *wake, uint64_t timeout_ns)
{
    struct pollfd pfd = {.fd = wake->fd, .events = POLLIN};
    const struct timespec limit = {(time_t)(timeout_ns / 1000000000u),
                                   (long)(timeout_ns % 1000000000u)};
    if (ppoll(&pfd, 1, timeout_ns == UINT64_MAX ? NULL : &limit, NULL) > 0) drain(wake);
    atomic_exchange(&wake->asleep, 0);
}
