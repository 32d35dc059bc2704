#include "appliance/agent.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HOST_BYTES = 64, BACKLOG = 64 };

static cn_code wrong(const char *key, const char *address, cn_err *err)
{
    return cn_err_set(err, CN_E_INVALID, "%s: %.80s; must be IPv4:PORT or [IPv6]:PORT, such as "
                      "127.0.0.1:8001", key, address);
}

static cn_code resolve(const char *key, const char *address, struct addrinfo **out, cn_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    char host[HOST_BYTES];
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    const char *at = address;
    if (len > 2 && at[0] == '[' && at[len - 1] == ']') {
        at++;
        len -= 2;
    } else if (memchr(at, ':', len)) {
        len = 0;                             // an IPv6 address without its brackets
    }
    if (len == 0 || len >= sizeof host || !colon[1]) return wrong(key, address, err);
    memcpy(host, at, len);
    host[len] = '\0';
    return getaddrinfo(host, colon + 1, &hints, out) == 0 ? CN_OK : wrong(key, address, err);
}

cn_code cn_agent_open(const char *key, const char *address, int *fd, cn_err *err)
{
    struct addrinfo *found;
    const int yes = 1;
    *fd = -1;
    const cn_code code = resolve(key, address, &found, err);
    if (code != CN_OK) return code;
    *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const bool listens = *fd >= 0 &&
                         setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                         bind(*fd, found->ai_addr, found->ai_addrlen) == 0 &&
                         listen(*fd, BACKLOG) == 0;
    const int why = errno;
    freeaddrinfo(found);
    if (listens) return CN_OK;
    return cn_err_set(err, CN_E_IO, "%s: %.80s: %s", key, address, strerror(why));
}

void cn_agent_answer(int fd, const char *line)
{
    char ignored[256];
    int client;
    while ((client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        (void)!send(client, line, strlen(line), MSG_NOSIGNAL);   // a line fits, or there is nobody
        shutdown(client, SHUT_WR);
        (void)!recv(client, ignored, sizeof ignored, 0);         // agent-send: closing must not reset
        close(client);
    }
}

unsigned cn_agent_percent(const cn_agent_load *load)
{
    const uint64_t sequences = load->running_count + load->waiting_count;
    const uint64_t free_pages = load->page_count - load->page_held_count;
    uint64_t percent = load->page_count ? 100 * free_pages / load->page_count : 100;
    // With twice as many sequences as there are places, half of what comes is too much.
    if (sequences > load->slot_count && 100 * load->slot_count / sequences < percent)
        percent = 100 * load->slot_count / sequences;
    return percent >= 75 ? 100 : percent >= 50 ? 75 : percent >= 25 ? 50 : percent >= 5 ? 25 : 1;
}
