#include "state/redis_doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "state/redis_address_int.h"
#include "state/redis_check_int.h"

/* How it works. A blocking connection to the log's primary, found as the store would find it; each
 * check asks one or two questions on it. What durability needs is judged by the same functions as in
 * the store (state/redis_check_int.h), so the doctor and the server never disagree. */

enum { PINGS = 5, PING_MS_MAX = 5, CLI_BYTES = 192 };

typedef struct patient {
    const cn_redis_doctor_options *options;
    cn_redis_target target;
    cn_redis_address address;            // of the server that is examined
    redisContext *context;
    char cli[CLI_BYTES];                 // redis-cli with the flags that reach it
} patient;

static void say(cn_redis_finding *f, cn_redis_health health, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void repair(cn_redis_finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(cn_redis_finding *f, cn_redis_health health, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    f->health = health;
    vsnprintf(f->text, sizeof f->text, format, arguments);
    va_end(arguments);
    f->fix[0] = '\0';
}

static void repair(cn_redis_finding *f, const char *format, ...)
{
    va_list arguments;
    if (f->health == CN_REDIS_FINE) return;
    va_start(arguments, format);
    vsnprintf(f->fix, sizeof f->fix, format, arguments);
    va_end(arguments);
}

// ---- connections

static void write_cli(const cn_redis_doctor_options *o, const cn_redis_address *a, char out[CLI_BYTES])
{
    int len = a->port ? snprintf(out, CLI_BYTES, "redis-cli -h %s -p %u", a->host, (unsigned)a->port)
                      : snprintf(out, CLI_BYTES, "redis-cli -s %s", a->host);
    if (o->user[0]) len += snprintf(out + len, CLI_BYTES - (size_t)len, " --user %.30s", o->user);
    if (o->password[0]) snprintf(out + len, CLI_BYTES - (size_t)len, " --askpass");
}

// NULL: `why` says what came instead.
static redisContext *reach(const cn_redis_doctor_options *o, const cn_redis_address *a, char why[128])
{
    const struct timeval patience = {o->timeout_ms / 1000, (o->timeout_ms % 1000) * 1000};
    redisContext *context = a->port ? redisConnectWithTimeout(a->host, a->port, patience)
                                    : redisConnectUnixWithTimeout(a->host, patience);
    snprintf(why, 128, "%.100s", context ? context->errstr : "no memory");
    if (!context || context->err) {
        redisFree(context);
        return NULL;
    }
    redisSetTimeout(context, patience);
    return context;
}

// False: refused, and `why` has the server's words.
static bool log_in(const cn_redis_doctor_options *o, redisContext *context, char why[128])
{
    redisReply *reply = !o->password[0] ? redisCommand(context, "PING")
                        : o->user[0] ? redisCommand(context, "AUTH %s %s", o->user, o->password)
                                     : redisCommand(context, "AUTH %s", o->password);
    const bool good = reply && reply->type != REDIS_REPLY_ERROR;
    if (!good) snprintf(why, 128, "%.100s", reply ? reply->str : context->errstr);
    if (reply) freeReplyObject(reply);
    return good;
}

// The primary that a sentinel names. False: it does not answer, or does not know it.
static bool ask_sentinel(const patient *p, const cn_redis_address *sentinel, cn_redis_address *out)
{
    char why[128];
    redisContext *context = reach(p->options, sentinel, why);
    redisReply *reply =
        context ? redisCommand(context, "SENTINEL get-master-addr-by-name %s", p->target.service) : NULL;
    const bool good = reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2;
    if (good) {
        snprintf(out->host, sizeof out->host, "%s", reply->element[0]->str);
        out->port = (uint16_t)strtoul(reply->element[1]->str, NULL, 10);
    }
    if (reply) freeReplyObject(reply);
    redisFree(context);
    return good;
}

// A line of INFO: "used_memory:1024". "" if it is not there.
static void info(const patient *p, const char *section, const char *field, char out[64])
{
    redisReply *reply = redisCommand(p->context, "INFO %s", section);
    char want[64];
    out[0] = '\0';
    snprintf(want, sizeof want, "\n%s:", field);
    const char *at = reply && reply->type == REDIS_REPLY_STRING ? strstr(reply->str, want) : NULL;
    if (at) snprintf(out, 64, "%.*s", (int)strcspn(at + strlen(want), "\r\n"), at + strlen(want));
    if (reply) freeReplyObject(reply);
}

static uint64_t info_number(const patient *p, const char *section, const char *field)
{
    char text[64];
    info(p, section, field, text);
    return strtoull(text, NULL, 10);
}

// A value of CONFIG GET; "" if it is not told.
static void setting(const patient *p, const char *name, char out[64])
{
    redisReply *reply = redisCommand(p->context, "CONFIG GET %s", name);
    out[0] = '\0';
    if (reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2)
        snprintf(out, 64, "%s", reply->element[1]->str);
    if (reply) freeReplyObject(reply);
}

// ---- the checks of the log; each has a connection that works, but for the first

static bool check_sentinel(patient *p, cn_redis_finding *f)
{
    uint32_t know = 0;
    cn_redis_address found;
    if (p->target.mode != CN_REDIS_SENTINEL) return false;
    for (uint32_t i = 0; i < p->target.server_count; i++) {
        if (!ask_sentinel(p, &p->target.servers[i], &found)) continue;
        if (know++ == 0) p->address = found;
    }
    const uint32_t count = p->target.server_count;
    say(f, know == count ? CN_REDIS_FINE : know ? CN_REDIS_POOR : CN_REDIS_BROKEN,
        "%u of %u sentinels name the primary of %s", know, count, p->target.service);
    char cli[CLI_BYTES];
    write_cli(p->options, &p->target.servers[0], cli);
    repair(f, "%s SENTINEL MASTERS   # then systemctl start redis-sentinel where it is missing", cli);
    if (!know) p->address = (cn_redis_address){0};
    return true;
}

static bool check_answer(patient *p, cn_redis_finding *f)
{
    char why[128], where[CN_REDIS_ADDRESS_BYTES];
    if (p->target.mode == CN_REDIS_SENTINEL && !p->address.host[0]) return false;
    cn_redis_address_write(&p->address, where);
    p->context = reach(p->options, &p->address, why);
    if (!p->context) {
        say(f, CN_REDIS_BROKEN, "%s: %s", where, why);
        repair(f, "systemctl start redis-server   # on the machine of %s", where);
    } else if (!log_in(p->options, p->context, why)) {
        say(f, CN_REDIS_BROKEN, "%s: %s", where, why);
        repair(f, "%s ACL LIST   # then write the password to state.password_file", p->cli);
        redisFree(p->context);
        p->context = NULL;
    } else say(f, CN_REDIS_FINE, "%s answers", where);
    return true;
}

static bool check_version(patient *p, cn_redis_finding *f)
{
    char version[64];
    unsigned major = 0, minor = 0;
    info(p, "server", "redis_version", version);
    sscanf(version, "%u.%u", &major, &minor);
    const bool fine = major > 6 || (major == 6 && minor >= 2);
    say(f, fine ? CN_REDIS_FINE : CN_REDIS_POOR, "Redis %s%s", version[0] ? version : "of unknown version",
        fine ? "" : "; Cairn is tested on 7.0");
    repair(f, "apt-get install -y redis-server   # 6.2 or later, on the machine of the server");
    return true;
}

static bool check_role(patient *p, cn_redis_finding *f)
{
    char why[128] = "no answer";
    if (p->target.mode == CN_REDIS_CLUSTER) return false;
    redisReply *reply = redisCommand(p->context, "ROLE");
    const bool good = reply && cn_redis_check_role(reply, why, sizeof why);
    if (reply) freeReplyObject(reply);
    say(f, good ? CN_REDIS_FINE : CN_REDIS_BROKEN, "%s", good ? "is the primary" : why);
    repair(f, "%s REPLICAOF NO ONE   # or set state.log to the primary", p->cli);
    return true;
}

static bool check_cluster(patient *p, cn_redis_finding *f)
{
    if (p->target.mode != CN_REDIS_CLUSTER) return false;
    redisReply *reply = redisCommand(p->context, "CLUSTER INFO");
    const bool good = reply && reply->type == REDIS_REPLY_STRING && strstr(reply->str, "cluster_state:ok");
    say(f, good ? CN_REDIS_FINE : CN_REDIS_BROKEN, good ? "all slots are served"
        : "not all slots of the cluster are served");
    if (reply) freeReplyObject(reply);
    repair(f, "redis-cli --cluster fix %s:%u", p->address.host, (unsigned)p->address.port);
    return true;
}

static bool check_append(patient *p, cn_redis_finding *f)
{
    char why[160] = "no answer";
    redisReply *reply = redisCommand(p->context, "CONFIG GET *append*");
    const bool good =
        reply && cn_redis_check_appending(reply, p->options->durability, why, sizeof why);
    if (reply) freeReplyObject(reply);
    say(f, good ? CN_REDIS_FINE : CN_REDIS_BROKEN, "%s", good ? "keeps what state.durability promises" : why);
    repair(f, "%s CONFIG SET appendonly yes appendfsync always no-appendfsync-on-rewrite no", p->cli);
    return true;
}

static bool check_eviction(patient *p, cn_redis_finding *f)
{
    char why[160] = "no answer";
    redisReply *reply = redisCommand(p->context, "CONFIG GET maxmemory*");
    const bool good = reply && cn_redis_check_memory(reply, p->options->durability, why, sizeof why);
    if (reply) freeReplyObject(reply);
    say(f, good ? CN_REDIS_FINE : CN_REDIS_BROKEN, "%s", good ? "evicts no turns" : why);
    repair(f, "%s CONFIG SET maxmemory-policy noeviction", p->cli);
    return true;
}

static bool check_full(patient *p, cn_redis_finding *f)
{
    const unsigned long long used = info_number(p, "memory", "used_memory") >> 10,
                             most = info_number(p, "memory", "maxmemory") >> 10;
    if (most == 0) say(f, CN_REDIS_FINE, "%llu KiB are used, and maxmemory sets no bound", used);
    else say(f, used < most ? used * 10 < most * 9 ? CN_REDIS_FINE : CN_REDIS_POOR : CN_REDIS_BROKEN,
             "%llu KiB of maxmemory %llu are used", used, most);
    repair(f, "%s CONFIG SET maxmemory %lluk", p->cli, used * 2);
    return true;
}

static bool check_writes(patient *p, cn_redis_finding *f)
{
    char append[64], save[64], stop[64];
    info(p, "persistence", "aof_last_write_status", append);
    info(p, "persistence", "rdb_last_bgsave_status", save);
    setting(p, "stop-writes-on-bgsave-error", stop);
    const bool stopped = strcmp(save, "err") == 0 && strcmp(stop, "no") != 0;
    if (strcmp(append, "err") == 0)
        say(f, CN_REDIS_BROKEN, "the last write to the append-only file failed");
    else if (stopped) say(f, CN_REDIS_BROKEN, "the last save failed, so writes are refused");
    else say(f, CN_REDIS_FINE, "the last writes to disk went well");
    if (stopped) repair(f, "%s CONFIG SET stop-writes-on-bgsave-error no   # and make room on its disk",
                        p->cli);
    else repair(f, "journalctl -u redis-server -n 20   # names the cause; make room on its disk");
    return true;
}

static bool check_clients(patient *p, cn_redis_finding *f)
{
    char most[64];
    const unsigned long long now = info_number(p, "clients", "connected_clients"),
                             need = now + p->options->connection_count;
    setting(p, "maxclients", most);
    if (!most[0]) return false;
    const bool fits = strtoull(most, NULL, 10) >= need;
    say(f, fits ? CN_REDIS_FINE : CN_REDIS_BROKEN, "%llu clients, maxclients %s; Cairn opens %u", now, most,
        p->options->connection_count);
    repair(f, "%s CONFIG SET maxclients %llu", p->cli, need + 100);
    return true;
}

static bool check_latency(patient *p, cn_redis_finding *f)
{
    uint64_t best_ns = UINT64_MAX;
    for (int i = 0; i < PINGS; i++) {
        const uint64_t start_ns = cn_clock_now_ns(&p->options->clock);
        redisReply *reply = redisCommand(p->context, "PING");
        const uint64_t ns = cn_clock_now_ns(&p->options->clock) - start_ns;
        if (reply) freeReplyObject(reply);
        if (ns < best_ns) best_ns = ns;
    }
    const bool quick = best_ns < PING_MS_MAX * UINT64_C(1000000);
    say(f, quick ? CN_REDIS_FINE : CN_REDIS_POOR, "the best of %d pings took %.2f ms%s", PINGS,
        (double)best_ns / 1e6, quick ? "" : ": each turn waits for two round trips");
    repair(f, "%s --latency   # then put Cairn and Redis into one building", p->cli);
    return true;
}

static bool check_replicas(patient *p, cn_redis_finding *f)
{
    if (p->options->durability != CN_DURABILITY_FSYNC_REPLICA) return false;
    const unsigned count = (unsigned)info_number(p, "replication", "connected_slaves");
    say(f, count ? CN_REDIS_FINE : CN_REDIS_BROKEN, "%u replicas%s", count,
        count ? "" : "; state.durability fsync+replica needs one");
    repair(f, "redis-cli -h REPLICA REPLICAOF %s %u", p->address.host, (unsigned)p->address.port);
    return true;
}

// ---- the servers of pages

static bool check_pages(patient *p, cn_redis_finding *f)
{
    char why[128], where[CN_REDIS_ADDRESS_BYTES];
    cn_redis_target pages;
    cn_err err;
    if (cn_redis_address_parse("state.pages", p->options->pages, &pages, &err) != CN_OK) {
        say(f, CN_REDIS_BROKEN, "%.240s", err.text);
        repair(f, "cairn doctor --state.pages 127.0.0.1:6379");
        return true;
    }
    say(f, CN_REDIS_FINE, "%u servers answer", pages.server_count);
    for (uint32_t i = 0; i < pages.server_count && f->health == CN_REDIS_FINE; i++) {
        redisContext *context = reach(p->options, &pages.servers[i], why);
        cn_redis_address_write(&pages.servers[i], where);
        if (!context || !log_in(p->options, context, why)) {
            say(f, CN_REDIS_POOR, "%s: %s; its pages are computed", where, why);
            repair(f, "systemctl start redis-server   # on the machine of %s", where);
        }
        redisFree(context);
    }
    return pages.server_count > 0;
}

// Pages may vanish, and must make room for others by themselves; turns must not be among them.
static bool check_pages_eviction(patient *p, cn_redis_finding *f)
{
    char why[128], most[64] = "", policy[64] = "";
    cn_redis_target pages;
    patient q = *p;
    if (cn_redis_address_parse("state.pages", p->options->pages, &pages, NULL) != CN_OK ||
        pages.server_count == 0)
        return false;
    q.address = pages.servers[0];
    q.context = reach(p->options, &q.address, why);
    write_cli(p->options, &q.address, q.cli);
    if (q.context && log_in(p->options, q.context, why)) {
        setting(&q, "maxmemory", most);
        setting(&q, "maxmemory-policy", policy);
    }
    redisFree(q.context);
    if (!policy[0]) return false;
    const bool same = p->target.mode == CN_REDIS_PLAIN && cn_redis_address_equal(&p->address, &q.address);
    const bool evicts = strncmp(policy, "allkeys-", 8) == 0 && strcmp(most, "0") != 0;
    if (same) say(f, CN_REDIS_POOR, "state.pages is the server of turns: it may fill up with pages");
    else say(f, evicts ? CN_REDIS_FINE : CN_REDIS_POOR, "maxmemory is %s, maxmemory-policy %s%s", most,
             policy, evicts ? "" : ": old pages make no room for new ones");
    if (same) repair(f, "redis-server --port 6380 --maxmemory 4gb --maxmemory-policy allkeys-lru --save ''"
                     " --daemonize yes   # and set state.pages to it");
    else repair(f, "%s CONFIG SET maxmemory-policy allkeys-lru maxmemory 4gb", q.cli);
    return true;
}

static const struct {
    cn_redis_doctor_check check;
    bool (*look)(patient *p, cn_redis_finding *f);
    bool needs_connection;
} checks[] = {
    {{"redis_sentinel", "whether the sentinels name a primary"}, check_sentinel, false},
    {{"redis", "whether the server of turns answers, and takes the password"}, check_answer, false},
    {{"redis_version", "its version"}, check_version, true},
    {{"redis_role", "whether it is the primary"}, check_role, true},
    {{"redis_cluster", "whether the cluster serves all slots"}, check_cluster, true},
    {{"redis_append", "whether it keeps what state.durability promises"}, check_append, true},
    {{"redis_evict", "whether it may forget turns"}, check_eviction, true},
    {{"redis_full", "how full its memory is"}, check_full, true},
    {{"redis_writes", "whether its disk takes what it writes"}, check_writes, true},
    {{"redis_clients", "whether it has room for connections"}, check_clients, true},
    {{"redis_latency", "how far away it is"}, check_latency, true},
    {{"redis_replica", "whether there is a replica, where one is promised"}, check_replicas, true},
    {{"pages", "whether the servers of pages answer"}, check_pages, false},
    {{"pages_evict", "whether old pages make room"}, check_pages_eviction, false},
};

enum { CHECK_COUNT = sizeof checks / sizeof *checks };
_Static_assert((int)CHECK_COUNT <= (int)CN_REDIS_FINDING_MAX, "a finding for each check");

const cn_redis_doctor_check *cn_redis_doctor_checks(uint32_t *count)
{
    static cn_redis_doctor_check names[CHECK_COUNT];
    for (int i = 0; i < CHECK_COUNT; i++) names[i] = checks[i].check;
    *count = CHECK_COUNT;
    return names;
}

uint32_t cn_redis_doctor_examine(const cn_redis_doctor_options *options, cn_redis_finding *out)
{
    patient p = {.options = options};
    uint32_t count = 0;
    cn_err err;
    if (cn_redis_address_parse("state.log", options->log, &p.target, &err) != CN_OK ||
        p.target.server_count == 0) {
        out[0].check = "redis";
        say(&out[0], CN_REDIS_BROKEN, "%.240s", options->log[0] ? err.text : "state.log names no server");
        repair(&out[0], "cairn doctor --state.log 127.0.0.1:6379");
        return 1;
    }
    p.address = p.target.servers[0];
    for (int i = 0; i < CHECK_COUNT; i++) {
        if (checks[i].needs_connection && !p.context) continue;
        out[count].check = checks[i].check.name;
        count += checks[i].look(&p, &out[count]);
        write_cli(options, &p.address, p.cli);
    }
    redisFree(p.context);
    return count;
}
