#include "appliance/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* How it works. A socket gets its name when it listens already, so whoever finds the name of one that
 * refuses has found what a killed server left behind. Nothing blocks: a client that does not read its
 * progress misses it. */

enum { ORDER_BYTES = 32, PATH_BYTES = sizeof((struct sockaddr_un *)0)->sun_path };

typedef struct client {
    int fd;                              // -1: free
    bool has_ordered;
    char line[ORDER_BYTES];
    size_t len;
} client;

struct cn_control {
    int fd;
    char path[PATH_BYTES];
    client clients[CN_CONTROL_CLIENTS_MAX];
};

static cn_code make_path(const char *directory, uint64_t pid, const char *suffix, char out[PATH_BYTES],
                         cn_err *err)
{
    const int len = snprintf(out, PATH_BYTES, "%s/control-%llu.%s", directory, (unsigned long long)pid,
                             suffix);
    if (len > 0 && len < PATH_BYTES) return CN_OK;
    return cn_err_set(err, CN_E_INVALID, "run_directory: %.200s; a socket's path has at most %d bytes",
                      directory, PATH_BYTES - 1);
}

// -1 with errno; ECONNREFUSED: nobody listens any more.
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return fd;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        fcntl(fd, F_SETFL, 0);           // from here on it may wait
        return fd;
    }
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* Calls `found` with each server's process id and a connection to it, which it takes over. Removes the
 * sockets of those that are gone; one whose queue is full is passed over. */
static void each_server(const char *directory, void (*found)(void *self, uint64_t pid, int fd),
                        void *self)
{
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char path[PATH_BYTES], rest[8];
        unsigned long long pid;
        if (sscanf(entry->d_name, "control-%llu.%7s", &pid, rest) != 2 || strcmp(rest, "sock") != 0 ||
            make_path(directory, pid, "sock", path, NULL) != CN_OK)
            continue;
        const int fd = connect_to(path);
        if (fd >= 0) found(self, pid, fd);
        else if (errno == ECONNREFUSED) unlink(path);
    }
    if (dir) closedir(dir);
}

// ---- the server

static void leave(void *self, uint64_t pid, int fd)
{
    (void)self, (void)pid;
    close(fd);
}

static cn_code listen_on(cn_control *c, const char *directory, cn_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const uint64_t pid = (uint64_t)getpid();
    cn_code code = make_path(directory, pid, "sock", c->path, err);
    if (code == CN_OK) code = make_path(directory, pid, "new", address.sun_path, err);
    if (code != CN_OK) return code;
    if (mkdir(directory, 0755) != 0 && errno != EEXIST)
        return cn_err_set(err, CN_E_IO, "run_directory: %s: %s", directory, strerror(errno));
    each_server(directory, leave, NULL);
    unlink(address.sun_path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const mode_t mask = umask(0177);
    const bool is_bound =
        c->fd >= 0 && bind(c->fd, (struct sockaddr *)&address, sizeof address) == 0;
    umask(mask);
    if (is_bound && listen(c->fd, CN_CONTROL_CLIENTS_MAX) == 0 &&
        rename(address.sun_path, c->path) == 0)
        return CN_OK;
    return cn_err_set(err, CN_E_IO, "%s: %s", c->path, strerror(errno));
}

cn_code cn_control_open(const char *directory, cn_control **out, cn_err *err)
{
    cn_control *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return cn_err_set(err, CN_E_MEMORY, "control: no memory");
    for (int i = 0; i < CN_CONTROL_CLIENTS_MAX; i++) c->clients[i].fd = -1;
    c->fd = -1;
    const cn_code code = listen_on(c, directory, err);
    if (code == CN_OK) *out = c;
    else cn_control_close(c);
    return code;
}

static void close_client(client *at)
{
    if (at->fd >= 0) close(at->fd);
    *at = (client){.fd = -1};
}

void cn_control_close(cn_control *control)
{
    if (!control) return;
    for (int i = 0; i < CN_CONTROL_CLIENTS_MAX; i++) close_client(&control->clients[i]);
    if (control->fd >= 0) {
        unlink(control->path);
        close(control->fd);
    }
    free(control);
}

uint32_t cn_control_fds(const cn_control *control, struct pollfd *out)
{
    uint32_t count = 0;
    if (!control) return 0;
    out[count++] = (struct pollfd){.fd = control->fd, .events = POLLIN};
    for (int i = 0; i < CN_CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].fd >= 0)
            out[count++] = (struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
    }
    return count;
}

static void tell(client *at, const char *line)
{
    if (send(at->fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
        close_client(at);
}

static void accept_clients(cn_control *c)
{
    int fd;
    while ((fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        client *at = c->clients;
        while (at < c->clients + CN_CONTROL_CLIENTS_MAX && at->fd >= 0) at++;
        if (at == c->clients + CN_CONTROL_CLIENTS_MAX) close(fd);
        else at->fd = fd;
    }
}

// Reads what a client says; true if that is the order to drain.
static bool take_order(client *at)
{
    const ssize_t got = recv(at->fd, at->line + at->len, sizeof at->line - at->len, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got > 0) at->len += (size_t)got;
    const char *end = memchr(at->line, '\n', at->len);
    const bool drains =
        end && !at->has_ordered && at->len == 6 && memcmp(at->line, "drain\n", 6) == 0;
    if (drains) {
        at->has_ordered = true;
        at->len = 0;
    } else if (got <= 0 || end || at->len == sizeof at->line) {
        if (got > 0) tell(at, "refused: the one order is drain\n");
        close_client(at);
    }
    return drains;
}

bool cn_control_act(cn_control *control)
{
    bool drains = false;
    if (!control) return false;
    accept_clients(control);
    for (int i = 0; i < CN_CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].fd >= 0) drains |= take_order(&control->clients[i]);
    }
    return drains;
}

void cn_control_tell(cn_control *control, const char *line)
{
    for (int i = 0; control && i < CN_CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].has_ordered) tell(&control->clients[i], line);
    }
}

// ---- the client

typedef struct search {
    uint64_t wanted;                     // 0: any
    int fd;                              // of the first; -1: none
    uint32_t count;
    char pids[128];                      // of all, for the error
} search;

static void consider(void *self, uint64_t pid, int fd)
{
    search *s = self;
    const size_t len = strlen(s->pids);
    snprintf(s->pids + len, sizeof s->pids - len, "%s%llu", len ? ", " : "", (unsigned long long)pid);
    const bool fits = s->wanted == 0 || s->wanted == pid;
    if (fits && s->count++ == 0) s->fd = fd;
    else close(fd);
}

cn_code cn_control_connect(const char *directory, uint64_t pid, int *fd, cn_err *err)
{
    search s = {.wanted = pid, .fd = -1};
    each_server(directory, consider, &s);
    *fd = s.fd;
    if (s.count == 1) return CN_OK;
    if (s.fd >= 0) close(s.fd);
    *fd = -1;
    if (s.count > 1)
        return cn_err_set(err, CN_E_INVALID, "run_directory: %.200s has several servers; --pid must "
                          "name one of %s", directory, s.pids);
    return cn_err_set(err, CN_E_IO, "run_directory: %.200s has no server that answers%s%s; it must "
                      "be the server's, and its user ours", directory, s.pids[0] ? " but " : "",
                      s.pids);
}
