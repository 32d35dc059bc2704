#include "state/redis_pages_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/store_int.h"

enum { LANE_PUT, LANE_GET, LANES_OF_SERVER };
enum { UNLINKS_MAX = 64 };

struct cn_redis_pages {
    const cn_redis_target *target;
    const cn_redis_settings *settings;
    cn_redis_lane *lanes;            // of server i: 2 * i + LANE_PUT, + LANE_GET
    uint32_t lane_count;
    cn_redis_page_request *requests, *free;
    uint64_t due_ns;                 // no deadline before
};

uint32_t cn_redis_pages_place(const cn_page_key *key, const cn_redis_address *servers,
                              uint32_t count)
{
    uint32_t best = 0;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t server =
            XXH3_64bits_withSeed(servers[i].host, strlen(servers[i].host), servers[i].port);
        const uint64_t score = XXH3_64bits_withSeed(key->bytes, sizeof key->bytes, server);
        if (i == 0 || score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}

static cn_redis_lane *lane_of(cn_redis_pages *p, const cn_page_key *key, uint32_t which)
{
    const uint32_t server = cn_redis_pages_place(key, p->target->servers, p->target->server_count);
    return &p->lanes[LANES_OF_SERVER * server + which];
}

static cn_redis_page_request *new_request(cn_redis_pages *p, cn_redis_page_kind kind,
                                          const cn_page_key *key)
{
    cn_redis_page_request *r = p->free;
    if (!r) return NULL;
    p->free = r->next;
    *r = (cn_redis_page_request){.kind = kind, .key = *key};
    return r;
}

static void count(cn_redis_pages *p, const cn_store_op *op, cn_code code, bool corrupt)
{
    cn_metrics *m = p->settings->metrics;
    if (!m) return;
    if (corrupt) cn_metrics_add(&m->store_pages_corrupt, 1);
    else if (code == CN_E_NOT_FOUND) cn_metrics_add(&m->store_pages_absent, 1);
    else if (code != CN_OK) cn_metrics_add(&m->store_pages_failed, 1);
    else if (op && op->kind == CN_STORE_PAGE_PUT) cn_metrics_add(&m->store_pages_written, 1);
    else if (op) cn_metrics_add(&m->store_pages_read, 1);
}

static void request_done(void *self, cn_redis_page_request *r, cn_code code, bool corrupt)
{
    cn_redis_pages *p = self;
    if (r->op || corrupt) count(p, r->op, code, corrupt);
    if (r->op) {
        r->op->code = code;
        cn_store_port_give(r->port, r->op);
        r->op = NULL;
    }
    if (!corrupt) return;
    // It would be found again and again. Without a request to spare it is, until there is one.
    cn_redis_page_request *unlink = new_request(p, CN_REDIS_PAGE_UNLINK, &r->key);
    if (unlink) cn_redis_lane_add(lane_of(p, &r->key, LANE_PUT), unlink);
}

static void request_over(void *self, cn_redis_page_request *r)
{
    cn_redis_pages *p = self;
    r->next = p->free;
    p->free = r;
}

cn_code cn_redis_pages_open(const cn_redis_target *target, const cn_redis_settings *settings,
                            uint64_t page_bytes, uint32_t request_max, cn_redis_pages **out)
{
    *out = NULL;
    cn_redis_pages *p = calloc(1, sizeof *p);
    if (!p) return CN_E_MEMORY;
    *p = (cn_redis_pages){.target = target, .settings = settings, .due_ns = UINT64_MAX};
    // Beside those that users wait for: late ones whose replies are still to come, and unlinks.
    const uint32_t total =
        request_max + UNLINKS_MAX + target->server_count * LANES_OF_SERVER * CN_REDIS_LANE_WINDOW;
    p->requests = calloc(total, sizeof *p->requests);
    p->lanes = calloc(target->server_count * LANES_OF_SERVER, sizeof *p->lanes);
    bool good = p->requests && p->lanes;
    for (uint32_t i = 0; good && i < total; i++) request_over(p, &p->requests[i]);
    for (uint32_t i = 0; good && i < target->server_count * LANES_OF_SERVER; i++) {
        const cn_redis_lane_options lane = {settings,     &target->servers[i / LANES_OF_SERVER],
                                            page_bytes,   p,
                                            request_done, request_over};
        good = cn_redis_lane_open(&p->lanes[p->lane_count++], &lane) == CN_OK;
    }
    if (!good) cn_redis_pages_close(p);
    else *out = p;
    return good ? CN_OK : CN_E_MEMORY;
}

void cn_redis_pages_close(cn_redis_pages *p)
{
    if (!p) return;
    for (uint32_t i = 0; i < p->lane_count; i++) cn_redis_lane_close(&p->lanes[i]);
    free(p->lanes);
    free(p->requests);
    free(p);
}

void cn_redis_pages_take(cn_redis_pages *p, cn_store_port *port, cn_store_op *op)
{
    const bool put = op->kind == CN_STORE_PAGE_PUT;
    cn_redis_page_request *r =
        new_request(p, put ? CN_REDIS_PAGE_PUT : CN_REDIS_PAGE_GET, &op->page_key);
    if (!r) {
        op->code = CN_E_STORE;
        cn_store_port_give(port, op);
        return;
    }
    r->op = op;
    r->port = port;
    if (op->deadline_ns < p->due_ns) p->due_ns = op->deadline_ns;
    cn_redis_lane_add(lane_of(p, &op->page_key, put ? LANE_PUT : LANE_GET), r);
}

bool cn_redis_pages_tend(cn_redis_pages *p, uint64_t now)
{
    bool worked = false;
    if (now >= p->due_ns) {
        p->due_ns = UINT64_MAX;
        for (uint32_t i = 0; i < p->lane_count; i++)
            cn_redis_lane_end_late(&p->lanes[i], now, &p->due_ns);
        worked = true;
    }
    for (uint32_t i = 0; i < p->lane_count; i++) worked |= cn_redis_lane_tend(&p->lanes[i], now);
    return worked;
}

uint64_t cn_redis_pages_due_ns(const cn_redis_pages *p)
{
    uint64_t due = p->due_ns;
    for (uint32_t i = 0; i < p->lane_count; i++) {
        const uint64_t at = cn_redis_lane_due_ns(&p->lanes[i]);
        if (at < due) due = at;
    }
    return due;
}

cn_redis_lane *cn_redis_pages_lane(cn_redis_pages *p, uint32_t index)
{
    return index < p->lane_count ? &p->lanes[index] : NULL;
}

bool cn_redis_pages_up(const cn_redis_pages *p, char *why, size_t why_bytes)
{
    char address[CN_REDIS_ADDRESS_BYTES];
    why[0] = '\0';
    for (uint32_t i = 0; i < p->lane_count; i++) {
        if (p->lanes[i].state == CN_REDIS_UP) continue;
        cn_redis_address_write(p->lanes[i].options.address, address);
        snprintf(why, why_bytes, "%s: %s", address,
                 p->lanes[i].why[0] ? p->lanes[i].why : "connecting");
        return false;
    }
    return true;
}
