#include "state/redis_nodes_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/redis_command_int.h"

/* How it works. A node is a server with a number of links.
 *
 * - One server: one node, whose address never changes.
 * - Sentinel: one node, whose address is what Sentinel says. It is asked once a second, and ten
 * times as often while no link is up. Asking costs nothing that matters and, unlike a subscription,
 *   cannot miss anything. When the address changes, every link starts anew, and its greeting makes
 *   sure (ROLE) that the server knows of its promotion.
 * - Cluster: a node per server that was ever named, and a table of which node has which slot. The
 *   table is asked for (CLUSTER SLOTS) at the start, after MOVED, and while a primary is not
 *   reached. A stale table costs a redirection, never a wrong answer: the server decides. */

enum { SLOTS = 16384 };
static const uint64_t ASK_NS = 1000000000, ASK_SOON_NS = 100000000;
static const uint8_t NOBODY = UINT8_MAX;

typedef struct node {
    cn_redis_address address;
    bool is_primary;                 // as far as we know
    uint64_t probe_ns;               // when it is asked whether it is still what it was
    cn_redis_link *links;
} node;

struct cn_redis_nodes {
    const cn_redis_settings *settings;
    cn_redis_target target;
    uint32_t link_count;             // of one node
    node nodes[CN_REDIS_SERVERS_MAX];
    uint32_t node_count, turn;
    cn_redis_link sentinel;
    uint32_t sentinel_at;            // of target.servers: the one that is asked
    bool asking, doubt;
    uint64_t ask_ns;                 // not before
    uint8_t slots[SLOTS];            // node index, or NOBODY
};

uint32_t cn_redis_nodes_slot(const char *key)
{
    const char *begin = strchr(key, '{'), *end = begin ? strchr(begin + 1, '}') : NULL;
    size_t len = strlen(key);
    if (end && end > begin + 1) {    // a hash tag that is not empty
        key = begin + 1;
        len = (size_t)(end - key);
    }
    uint32_t crc = 0;                // CRC-16/XMODEM
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint32_t)(unsigned char)key[i] << 8;
        for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xFFFF;
    }
    return crc % SLOTS;
}

// The index of a server, which is added if it is new; NOBODY if there are too many.
static uint8_t find_or_add(cn_redis_nodes *s, const cn_redis_address *address)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (cn_redis_address_equal(&s->nodes[i].address, address)) return (uint8_t)i;
    }
    if (s->node_count == CN_REDIS_SERVERS_MAX) return NOBODY;
    node *n = &s->nodes[s->node_count];
    *n = (node){.address = *address, .links = calloc(s->link_count, sizeof *n->links)};
    if (!n->links) return NOBODY;
    const cn_redis_link_kind kind =
        s->target.mode == CN_REDIS_CLUSTER ? CN_REDIS_LINK_NODE : CN_REDIS_LINK_LOG;
    for (uint32_t i = 0; i < s->link_count; i++)
        cn_redis_link_init(&n->links[i], s->settings, kind, &n->address);
    return (uint8_t)s->node_count++;
}

cn_code cn_redis_nodes_open(const cn_redis_target *target, const cn_redis_settings *settings,
                            uint32_t link_count, cn_redis_nodes **out)
{
    *out = NULL;
    cn_redis_nodes *s = calloc(1, sizeof *s);
    if (!s) return CN_E_MEMORY;
    s->settings = settings;
    s->target = *target;
    s->link_count = link_count;
    memset(s->slots, NOBODY, sizeof s->slots);
    bool good = true;
    if (target->mode == CN_REDIS_SENTINEL) {
        cn_redis_link_init(&s->sentinel, settings, CN_REDIS_LINK_SENTINEL, &s->target.servers[0]);
        good = find_or_add(s, &(cn_redis_address){{0}, 0}) != NOBODY;
    } else {
        for (uint32_t i = 0; i < target->server_count; i++)
            good = find_or_add(s, &target->servers[i]) != NOBODY && good;
    }
    if (target->mode != CN_REDIS_CLUSTER) s->nodes[0].is_primary = true;
    if (!good) cn_redis_nodes_close(s);
    else *out = s;
    return good ? CN_OK : CN_E_MEMORY;
}

void cn_redis_nodes_close(cn_redis_nodes *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->node_count; i++) {
        for (uint32_t k = 0; k < s->link_count; k++) cn_redis_link_close(&s->nodes[i].links[k]);
        free(s->nodes[i].links);
    }
    cn_redis_link_close(&s->sentinel);
    free(s);
}

bool cn_redis_nodes_is_cluster(const cn_redis_nodes *s)
{
    return s->target.mode == CN_REDIS_CLUSTER;
}

// ---- choosing

static cn_redis_link *pick_of(cn_redis_nodes *s, node *n, uint32_t room)
{
    cn_redis_link *best = NULL;
    s->turn++;                       // equally busy links take turns
    for (uint32_t i = 0; i < s->link_count; i++) {
        cn_redis_link *link = &n->links[(s->turn + i) % s->link_count];
        if (!cn_redis_link_has_room(link, room)) continue;
        if (!best || link->ticket_count < best->ticket_count) best = link;
    }
    return best;
}

cn_redis_link *cn_redis_nodes_pick(cn_redis_nodes *s, const char *key, uint32_t room)
{
    if (!cn_redis_nodes_is_cluster(s)) return pick_of(s, &s->nodes[0], room);
    const uint8_t at = s->slots[cn_redis_nodes_slot(key)];
    return at == NOBODY ? NULL : pick_of(s, &s->nodes[at], room);
}

cn_redis_link *cn_redis_nodes_pick_asked(cn_redis_nodes *s, const cn_redis_address *address,
                                         uint32_t room)
{
    const uint8_t at = find_or_add(s, address);
    return at == NOBODY ? NULL : pick_of(s, &s->nodes[at], room);
}

cn_redis_link *cn_redis_nodes_pick_primary(cn_redis_nodes *s, uint32_t index, uint32_t *count)
{
    node *chosen = NULL;
    *count = 0;
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].is_primary && (*count)++ == index) chosen = &s->nodes[i];
    }
    return chosen ? pick_of(s, chosen, 1) : NULL;
}

// ---- learning

bool cn_redis_nodes_read_redirect(const cn_redis_link *from, const char *text, uint32_t *slot,
                                  cn_redis_address *out)
{
    unsigned number = 0, port = 0;
    const char *host = strchr(text, ' ');
    host = host ? strchr(host + 1, ' ') : NULL;
    const char *colon = host ? strrchr(host, ':') : NULL;
    if (!colon || sscanf(text, "%*s %u", &number) != 1 || sscanf(colon + 1, "%u", &port) != 1)
        return false;
    const size_t len = (size_t)(colon - host) - 1;
    if (number >= SLOTS || port == 0 || port > 65535 || len >= sizeof out->host) return false;
    *slot = number;
    *out = (cn_redis_address){.port = (uint16_t)port};
    if (len) memcpy(out->host, host + 1, len);
    else memcpy(out->host, from->address->host, sizeof out->host);
    return true;
}

void cn_redis_nodes_moved(cn_redis_nodes *s, uint32_t slot, const cn_redis_address *address)
{
    const uint8_t at = find_or_add(s, address);
    if (at != NOBODY) s->nodes[at].is_primary = true;
    s->slots[slot] = at;
    s->doubt = true;
}

void cn_redis_nodes_doubt(cn_redis_nodes *s) { s->doubt = true; }

// [[first slot, last slot, [host, port, ...], replicas ...], ...]
static void read_slots(cn_redis_nodes *s, const cn_redis_link *link, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY) return;
    memset(s->slots, NOBODY, sizeof s->slots);
    for (uint32_t i = 0; i < s->node_count; i++) s->nodes[i].is_primary = false;
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *range = reply->element[i];
        if (range->type != REDIS_REPLY_ARRAY || range->elements < 3) continue;
        const redisReply *owner = range->element[2];
        if (owner->type != REDIS_REPLY_ARRAY || owner->elements < 2) continue;
        const long long first = range->element[0]->integer, last = range->element[1]->integer;
        const redisReply *host = owner->element[0];
        cn_redis_address address = {.port = (uint16_t)owner->element[1]->integer};
        const bool named = host->type == REDIS_REPLY_STRING && host->len > 0;
        snprintf(address.host, sizeof address.host, "%s", named ? host->str : link->address->host);
        const uint8_t at = find_or_add(s, &address);
        if (at == NOBODY || first < 0 || last >= SLOTS || first > last) continue;
        s->nodes[at].is_primary = true;
        memset(s->slots + first, at, (size_t)(last - first + 1));
    }
}

// [host, port], or nothing if it does not know the name
static void read_primary(cn_redis_nodes *s, const redisReply *reply)
{
    unsigned port = 0;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_STRING ||
        sscanf(reply->element[1]->str, "%u", &port) != 1) {
        char why[CN_REDIS_WHY_BYTES];
        snprintf(why, sizeof why, "does not know a primary named %s%s%s", s->target.service,
                 reply->type == REDIS_REPLY_ERROR ? ": " : "",
                 reply->type == REDIS_REPLY_ERROR ? reply->str : "");
        cn_redis_link_doom(&s->sentinel, why);
        return;
    }
    cn_redis_address address = {.port = (uint16_t)port};
    snprintf(address.host, sizeof address.host, "%s", reply->element[0]->str);
    if (cn_redis_address_equal(&address, &s->nodes[0].address)) return;
    s->nodes[0].address = address;
    for (uint32_t i = 0; i < s->link_count; i++)
        cn_redis_link_restart(&s->nodes[0].links[i], "Sentinel names another primary");
}

void cn_redis_nodes_reply(cn_redis_nodes *s, cn_redis_link *link, const redisReply *reply)
{
    s->asking = false;
    if (!reply) s->doubt = true;
    else if (s->target.mode == CN_REDIS_SENTINEL) read_primary(s, reply);
    else read_slots(s, link, reply);
}

// ---- tending

static bool node_is_up(const cn_redis_nodes *s, const node *n)
{
    for (uint32_t i = 0; i < s->link_count; i++) {
        if (n->links[i].state == CN_REDIS_UP) return true;
    }
    return false;
}

static bool all_up(const cn_redis_nodes *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (!s->nodes[i].is_primary) continue;
        if (!node_is_up(s, &s->nodes[i])) return false;
        any = true;
    }
    return any;
}

static void send_words(cn_redis_nodes *s, cn_redis_link *link, const char *const *words,
                       uint32_t count)
{
    cn_buf command;
    cn_buf_init(&command, 1024);
    cn_redis_command_write_words(&command, words, count);
    cn_redis_link_send(link, &command, (cn_redis_ticket){s, 0, 0});
    cn_redis_link_flush(link);
    cn_buf_close(&command);
    s->asking = true;
}

static bool ask(cn_redis_nodes *s, uint64_t now)
{
    if (s->asking || now < s->ask_ns || s->target.mode == CN_REDIS_PLAIN) return false;
    const bool good = all_up(s) && !s->doubt;
    if (s->target.mode == CN_REDIS_SENTINEL) {
        if (!cn_redis_link_has_room(&s->sentinel, 1)) return false;
        send_words(s, &s->sentinel,
                   (const char *[]){"SENTINEL", "get-master-addr-by-name", s->target.service}, 3);
    } else {
        cn_redis_link *link = NULL;
        if (good) return false;
        // Whoever answers will do; they take turns, since one may be cut off from the others.
        for (uint32_t i = 0; !link && i < s->node_count; i++)
            link = pick_of(s, &s->nodes[(s->turn + i) % s->node_count], 1);
        if (!link) return false;
        send_words(s, link, (const char *[]){"CLUSTER", "SLOTS"}, 2);
    }
    s->doubt = false;
    s->ask_ns = now + (good ? ASK_NS : ASK_SOON_NS);
    return true;
}

static bool tend_sentinel(cn_redis_nodes *s, uint64_t now)
{
    const bool was_down = s->sentinel.state == CN_REDIS_DOWN;
    const bool worked = cn_redis_link_tend(&s->sentinel, now);
    if (!was_down && s->sentinel.state == CN_REDIS_DOWN) {
        s->sentinel_at = (s->sentinel_at + 1) % s->target.server_count;
        s->sentinel.address = &s->target.servers[s->sentinel_at];
        s->asking = false;
    }
    return worked;
}

static bool tend_node(cn_redis_nodes *s, node *n, uint64_t now)
{
    bool worked = false;
    const cn_redis_link *unfit = NULL;
    for (uint32_t i = 0; i < s->link_count; i++) {
        const bool was_up = n->links[i].state == CN_REDIS_UP;
        worked |= cn_redis_link_tend(&n->links[i], now);
        if (was_up && n->links[i].state == CN_REDIS_DOWN && n->links[i].unfit) unfit = &n->links[i];
    }
    // What one connection found out about the server holds for all of them.
    for (uint32_t i = 0; unfit && i < s->link_count; i++)
        cn_redis_link_doom(&n->links[i], unfit->why);
    if (now < n->probe_ns) return worked;
    n->probe_ns = now + ASK_NS;
    cn_redis_link *link = pick_of(s, n, 3);
    if (!link) return worked;
    cn_redis_link_probe(link);
    cn_redis_link_flush(link);
    return true;
}

bool cn_redis_nodes_tend(cn_redis_nodes *s, uint64_t now)
{
    bool worked = s->target.mode == CN_REDIS_SENTINEL && tend_sentinel(s, now);
    for (uint32_t i = 0; i < s->node_count; i++) {
        if (s->nodes[i].address.host[0] == '\0') continue;       // Sentinel has not named it yet
        worked |= tend_node(s, &s->nodes[i], now);
    }
    return ask(s, now) || worked;
}

uint64_t cn_redis_nodes_due_ns(const cn_redis_nodes *s, uint64_t now)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < s->node_count; i++) {
        for (uint32_t k = 0; s->nodes[i].address.host[0] && k < s->link_count; k++) {
            const uint64_t at = cn_redis_link_due_ns(&s->nodes[i].links[k]);
            if (at < due) due = at;
        }
        if (s->nodes[i].probe_ns < due && node_is_up(s, &s->nodes[i])) due = s->nodes[i].probe_ns;
    }
    if (s->target.mode == CN_REDIS_SENTINEL) {
        const uint64_t at = cn_redis_link_due_ns(&s->sentinel);
        if (at < due) due = at;
    }
    const bool asks = s->target.mode == CN_REDIS_SENTINEL ||
                      (s->target.mode == CN_REDIS_CLUSTER && (s->doubt || !all_up(s)));
    // Without a link that could ask, looking again is only worth it after a while.
    const uint64_t again = s->ask_ns > now ? s->ask_ns : now + ASK_SOON_NS;
    return asks && !s->asking && again < due ? again : due;
}

cn_redis_link *cn_redis_nodes_next_link(cn_redis_nodes *s, uint32_t *at)
{
    const uint32_t i = (*at)++;
    if (i < s->node_count * s->link_count)
        return &s->nodes[i / s->link_count].links[i % s->link_count];
    return i == s->node_count * s->link_count && s->target.mode == CN_REDIS_SENTINEL ? &s->sentinel
                                                                                     : NULL;
}

uint32_t cn_redis_nodes_link_max(const cn_redis_nodes *s)
{
    return cn_redis_nodes_is_cluster(s) ? CN_REDIS_SERVERS_MAX * s->link_count : s->link_count + 1;
}

bool cn_redis_nodes_up(const cn_redis_nodes *s, char *why, size_t why_bytes)
{
    char address[CN_REDIS_ADDRESS_BYTES];
    const cn_redis_link *bad = NULL;
    if (all_up(s)) {
        why[0] = '\0';
        return true;
    }
    for (uint32_t i = 0; i < s->node_count; i++) {
        const node *n = &s->nodes[i];
        const bool matters = n->is_primary || s->target.mode == CN_REDIS_CLUSTER;
        for (uint32_t k = 0; matters && n->address.host[0] && k < s->link_count; k++) {
            if (n->links[k].state != CN_REDIS_UP && (!bad || n->links[k].why[0]))
                bad = &n->links[k];
        }
    }
    if (!bad && s->target.mode == CN_REDIS_SENTINEL) bad = &s->sentinel;
    if (!bad) {
        snprintf(why, why_bytes, "the cluster's nodes are not known yet");
        return false;
    }
    cn_redis_address_write(bad->address, address);
    snprintf(why, why_bytes, "%s: %s", address, bad->why[0] ? bad->why : "connecting");
    return false;
}
