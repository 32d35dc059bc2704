#include "state/redis_link_int.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "state/redis_check_int.h"
#include "state/redis_command_int.h"
#include "state/sha1_int.h"

/* How it works.
 *
 *    DOWN ──again_ns──▶ GREETING ──every answer is good──▶ UP
 *     ▲                    │                               │
 *     └────────────────────┴── broken, silent, doomed ─────┘
 *
 * hiredis frees its context by itself when a connection breaks, in the middle of any call. So the
 * one place that learns of it is the clean-up hook, which forgets the context and marks the link as
 * broken; what follows from that (answers that will not come, the next attempt) happens in tend,
 * when no call of hiredis is on the stack. For the same reason a callback that is not content with
 * a server dooms the link and does not drop it.
 *
 * The pause before an attempt doubles from 10 ms to 1 s, and a random half of it is waited for, so
 * that many clients do not come back at the same moment. It begins anew once the greeting is over.
 */

static const uint64_t PAUSE_MIN_NS = 10000000, PAUSE_MAX_NS = 1000000000;

// Tickets of the greeting belong to the link.
enum { GREET_AUTH, GREET_SELECT, GREET_ROLE, GREET_APPEND, GREET_MEMORY, GREET_SCRIPT };

void cn_redis_link_init(cn_redis_link *link, const cn_redis_settings *settings,
                        cn_redis_link_kind kind, const cn_redis_address *address)
{
    *link = (cn_redis_link){.settings = settings, .kind = kind, .address = address};
}

const char *cn_redis_link_script_sha(void)
{
    static char sha[CN_SHA1_HEX_BYTES];
    if (!sha[0]) cn_sha1_hex(cn_redis_command_script, strlen(cn_redis_command_script), sha);
    return sha;
}

// ---- hiredis' view of our loop

static void add_read(void *link) { ((cn_redis_link *)link)->reads = true; }
static void del_read(void *link) { ((cn_redis_link *)link)->reads = false; }
static void add_write(void *link) { ((cn_redis_link *)link)->writes = true; }
static void del_write(void *link) { ((cn_redis_link *)link)->writes = false; }

static void forget_context(void *self)
{
    cn_redis_link *link = self;
    if (link->why[0] == '\0' && link->context)
        snprintf(link->why, sizeof link->why, "%s", link->context->c.errstr);
    link->context = NULL;
    link->doomed = true;
}

static void on_connect(const redisAsyncContext *context, int status)
{
    cn_redis_link *link = context->data;
    if (link && status != REDIS_OK && link->why[0] == '\0')
        snprintf(link->why, sizeof link->why, "%s",
                 context->errstr ? context->errstr : "not reached");
}

static void on_reply(redisAsyncContext *context, void *reply, void *unused);

// ---- life

// Lets go of the context, which hiredis frees now or when its callback returns.
static void drop_context(cn_redis_link *link)
{
    redisAsyncContext *context = link->context;
    if (!context) return;
    link->context = NULL;
    context->data = NULL;
    context->ev.addRead = context->ev.delRead = context->ev.addWrite = context->ev.delWrite = NULL;
    context->ev.cleanup = NULL;
    redisAsyncFree(context);
}

void cn_redis_link_close(cn_redis_link *link)
{
    drop_context(link);
    link->state = CN_REDIS_DOWN;
    link->ticket_count = 0;
}

// Every ticket is answered with nothing, oldest first; the link is then free to connect again.
static void fall(cn_redis_link *link, uint64_t now)
{
    const cn_redis_settings *s = link->settings;
    const bool was_up = link->state == CN_REDIS_UP;
    drop_context(link);
    link->state = CN_REDIS_DOWN;
    link->doomed = link->reads = link->writes = false;
    link->pause_ns = link->pause_ns ? link->pause_ns * 2 : PAUSE_MIN_NS;
    if (link->pause_ns > PAUSE_MAX_NS) link->pause_ns = PAUSE_MAX_NS;
    link->again_ns = now + link->pause_ns / 2 + cn_random_u64(&s->random) % (link->pause_ns / 2);
    while (link->ticket_count > 0) {
        const cn_redis_ticket ticket = link->tickets[link->ticket_first];
        link->ticket_first = (link->ticket_first + 1) % CN_REDIS_TICKETS;
        link->ticket_count--;
        if (ticket.owner != link) s->on_reply(s->self, link, ticket, NULL);
    }
    if (was_up && s->metrics) cn_metrics_add(&s->metrics->store_reconnects, 1);
    s->on_down(s->self, link);
}

static void greet(cn_redis_link *link, uint32_t what, const char *const *words, uint32_t count)
{
    cn_buf command;
    cn_buf_init(&command, 1 << 16);
    cn_redis_command_write_words(&command, words, count);
    cn_redis_link_send(link, &command, (cn_redis_ticket){link, 0, what});
    cn_buf_close(&command);
}

void cn_redis_link_probe(cn_redis_link *link)
{
    // A replica of a cluster redirects, and can be asked for the slots.
    if (link->kind == CN_REDIS_LINK_LOG) greet(link, GREET_ROLE, (const char *[]){"ROLE"}, 1);
    greet(link, GREET_APPEND, (const char *[]){"CONFIG", "GET", "*append*"}, 3);
    greet(link, GREET_MEMORY, (const char *[]){"CONFIG", "GET", "maxmemory*"}, 3);
}

static void begin_greeting(cn_redis_link *link)
{
    const cn_redis_settings *s = link->settings;
    char database[16];
    if (s->password[0] && s->user[0]) {
        greet(link, GREET_AUTH, (const char *[]){"AUTH", s->user, s->password}, 3);
    } else if (s->password[0]) {
        greet(link, GREET_AUTH, (const char *[]){"AUTH", s->password}, 2);
    }
    if (link->kind == CN_REDIS_LINK_LOG && s->database) {
        snprintf(database, sizeof database, "%u", s->database);
        greet(link, GREET_SELECT, (const char *[]){"SELECT", database}, 2);
    }
    cn_redis_link_probe(link);
    greet(link, GREET_SCRIPT, (const char *[]){"SCRIPT", "LOAD", cn_redis_command_script}, 3);
}

static void rise(cn_redis_link *link)
{
    link->state = CN_REDIS_UP;
    link->pause_ns = 0;
    link->why[0] = '\0';
    link->settings->on_up(link->settings->self, link);
}

static void connect_now(cn_redis_link *link, uint64_t now)
{
    const cn_redis_address *a = link->address;
    redisAsyncContext *context =
        a->port ? redisAsyncConnect(a->host, a->port) : redisAsyncConnectUnix(a->host);
    link->why[0] = '\0';
    link->unfit = false;
    link->heard_ns = now;
    link->state = CN_REDIS_GREETING;
    link->context = context;
    if (!context || context->err) {
        snprintf(link->why, sizeof link->why, "%s", context ? context->errstr : "no memory");
        link->doomed = true;
        return;
    }
    context->data = link;
    context->ev.data = link;
    context->ev.addRead = add_read;
    context->ev.delRead = del_read;
    context->ev.addWrite = add_write;
    context->ev.delWrite = del_write;
    context->ev.cleanup = forget_context;
    redisAsyncSetConnectCallback(context, on_connect);
    if (link->kind == CN_REDIS_LINK_SENTINEL) rise(link);
    else begin_greeting(link);
}

bool cn_redis_link_tend(cn_redis_link *link, uint64_t now)
{
    if (link->state == CN_REDIS_DOWN && now >= link->again_ns) connect_now(link, now);
    else if (link->state == CN_REDIS_DOWN) return false;
    // A connection that is being made has commands of the greeting waiting, so it has a limit too.
    if (!link->doomed && link->ticket_count > 0 &&
        now >= link->heard_ns + link->settings->log_timeout_ns) {
        snprintf(link->why, sizeof link->why, "no answer for %llu ms",
                 (unsigned long long)(link->settings->log_timeout_ns / 1000000));
        link->doomed = link->unfit = true;
    }
    if (link->doomed) fall(link, now);
    return link->state == CN_REDIS_DOWN;
}

uint64_t cn_redis_link_due_ns(const cn_redis_link *link)
{
    if (link->doomed) return 0;
    if (link->state == CN_REDIS_DOWN) return link->again_ns;
    return link->ticket_count > 0 ? link->heard_ns + link->settings->log_timeout_ns : UINT64_MAX;
}

void cn_redis_link_doom(cn_redis_link *link, const char *why)
{
    if (link->state == CN_REDIS_DOWN || link->doomed) return;
    snprintf(link->why, sizeof link->why, "%s", why);
    link->doomed = true;
}

void cn_redis_link_doom_server(cn_redis_link *link, const char *why)
{
    if (link->state == CN_REDIS_DOWN || link->doomed) return;
    cn_redis_link_doom(link, why);
    link->unfit = true;
}

void cn_redis_link_restart(cn_redis_link *link, const char *why)
{
    const uint64_t now = cn_clock_now_ns(&link->settings->clock);
    if (link->state != CN_REDIS_DOWN) {
        cn_redis_link_doom(link, why);
        fall(link, now);
    }
    link->again_ns = now;
    link->pause_ns = 0;
}

// ---- commands

bool cn_redis_link_has_room(const cn_redis_link *link, uint32_t count)
{
    return link->state == CN_REDIS_UP && !link->doomed &&
           link->ticket_count + count <= CN_REDIS_TICKETS;
}

void cn_redis_link_send(cn_redis_link *link, const cn_buf *command, cn_redis_ticket ticket)
{
    CN_ASSERT(link->ticket_count < CN_REDIS_TICKETS);
    if (link->ticket_count == 0) link->heard_ns = cn_clock_now_ns(&link->settings->clock);
    const uint32_t at = (link->ticket_first + link->ticket_count++) % CN_REDIS_TICKETS;
    link->tickets[at] = ticket;
    const bool sent = !command->overflowed && link->context &&
                      redisAsyncFormattedCommand(link->context, on_reply, NULL, command->data,
                                                 command->len) == REDIS_OK;
    if (!sent) cn_redis_link_doom(link, "no memory for a command");
}

void cn_redis_link_flush(cn_redis_link *link)
{
    if (link->context && link->writes && link->context->c.flags & REDIS_CONNECTED)
        redisAsyncHandleWrite(link->context);
}

static void read_greeting(cn_redis_link *link, uint32_t what, const redisReply *reply)
{
    const cn_durability wanted = link->settings->durability;
    char why[CN_REDIS_WHY_BYTES] = "";
    bool good = reply->type != REDIS_REPLY_ERROR;
    switch (what) {
    case GREET_ROLE: good = cn_redis_check_role(reply, why, sizeof why); break;
    case GREET_APPEND: good = cn_redis_check_appending(reply, wanted, why, sizeof why); break;
    case GREET_MEMORY: good = cn_redis_check_memory(reply, wanted, why, sizeof why); break;
    default:
        if (!good) snprintf(why, sizeof why, "%s", reply->str);
    }
    if (!good) cn_redis_link_doom_server(link, why);
    else if (what == GREET_SCRIPT && !link->doomed) rise(link);
}

static void on_reply(redisAsyncContext *context, void *reply, void *unused)
{
    (void)unused;
    cn_redis_link *link = context->data;
    if (!link || !reply) return;     // the context goes; tend answers what is open
    CN_ASSERT(link->ticket_count > 0);
    const cn_redis_ticket ticket = link->tickets[link->ticket_first];
    link->ticket_first = (link->ticket_first + 1) % CN_REDIS_TICKETS;
    link->ticket_count--;
    link->heard_ns = cn_clock_now_ns(&link->settings->clock);
    if (ticket.owner == link) read_greeting(link, ticket.what, reply);
    else link->settings->on_reply(link->settings->self, link, ticket, reply);
}

struct pollfd cn_redis_link_pollfd(const cn_redis_link *link)
{
    if (!link->context) return (struct pollfd){.fd = -1};
    const int events = (link->reads ? POLLIN : 0) | (link->writes ? POLLOUT : 0);
    return (struct pollfd){.fd = link->context->c.fd, .events = (short)events};
}

void cn_redis_link_events(cn_redis_link *link, short events)
{
    // Errors show in reading or writing, whichever hiredis waits for.
    if (link->context && link->writes && events & (POLLOUT | POLLERR | POLLHUP))
        redisAsyncHandleWrite(link->context);
    if (link->context && link->reads && events & (POLLIN | POLLERR | POLLHUP))
        redisAsyncHandleRead(link->context);
}
