#include "appliance/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 512 };

static uint64_t number_of(const char *variable)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : 0;
}

// A watchdog that is meant for another process (a shell that started us) is not ours to feed.
static uint64_t watchdog_ns(void)
{
    const uint64_t pid = number_of("WATCHDOG_PID");
    return pid == 0 || pid == (uint64_t)getpid() ? number_of("WATCHDOG_USEC") * 1000 : 0;
}

// A path, or a name in the abstract namespace behind '@'.
static cn_code set_address(cn_notify *n, const char *text, cn_err *err)
{
    const size_t len = strlen(text);
    if ((text[0] != '/' && text[0] != '@') || len < 2 || len >= sizeof n->address.sun_path)
        return cn_err_set(err, CN_E_INVALID, "NOTIFY_SOCKET: %.100s; must be /PATH or @NAME of at "
                          "most %zu bytes", text, sizeof n->address.sun_path - 1);
    n->address.sun_family = AF_UNIX;
    memcpy(n->address.sun_path, text, len + 1);
    if (text[0] == '@') n->address.sun_path[0] = '\0';
    n->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (text[0] == '/'));
    return CN_OK;
}

cn_code cn_notify_open(cn_notify *notify, cn_err *err)
{
    const char *text = getenv("NOTIFY_SOCKET");
    *notify = (cn_notify){.fd = -1};
    cn_code code = CN_OK;
    if (text && text[0]) {
        notify->watchdog_ns = watchdog_ns();
        code = set_address(notify, text, err);
        if (code == CN_OK) notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (code == CN_OK && notify->fd < 0)
            code = cn_err_set(err, CN_E_IO, "NOTIFY_SOCKET: socket: %s", strerror(errno));
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return code;
}

void cn_notify_close(cn_notify *notify)
{
    if (notify->fd >= 0) close(notify->fd);
    notify->fd = -1;
}

void cn_notify_send(const cn_notify *notify, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list arguments;
    if (notify->fd < 0) return;
    va_start(arguments, format);
    const int len = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (len < 0) return;
    const size_t bytes = (size_t)len < sizeof message ? (size_t)len : sizeof message - 1;
    // Whether it was heard is the manager's affair: it acts on what it does not hear.
    (void)!sendto(notify->fd, message, bytes, MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
                  notify->address_len);
}
