#include "state/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/ring.h"
#include "state/store_int.h"

/* How it works. Two rings per port: operations go down, and come back up when they are done. The
 * port counts what is with the store and refuses beyond `op_max`, which is also the size of the
 * ring that leads up; so a completion always finds room, and the store never waits for a user. */

static const char *const durability_names[] = {"memory", "process", "fsync", "fsync+replica"};

struct cn_store_port {
    cn_ring *down, *up;              // of cn_store_op *
    cn_wake *store_wake;             // the store thread's; NULL where the submitter polls it itself
    cn_wake *wake;                   // the user's; NULL until attach
    uint32_t op_max, in_flight;      // user's side: operations that the store has
    bool given;                      // store's side: something came up since the last flush
};

cn_code cn_store_ports_open(cn_store *store, uint32_t port_count, uint32_t op_max, cn_wake *wake)
{
    store->ports = calloc(port_count, sizeof *store->ports);
    if (!store->ports) return CN_E_MEMORY;
    store->port_count = port_count;
    for (uint32_t i = 0; i < port_count; i++) {
        cn_store_port *port = &store->ports[i];
        port->op_max = op_max;
        port->store_wake = wake;
        if (cn_ring_open(op_max, sizeof(cn_store_op *), &port->down) != CN_OK) return CN_E_MEMORY;
        if (cn_ring_open(op_max, sizeof(cn_store_op *), &port->up) != CN_OK) return CN_E_MEMORY;
    }
    return CN_OK;
}

void cn_store_ports_close(cn_store *store)
{
    for (uint32_t i = 0; i < store->port_count; i++) {
        cn_ring_close(store->ports[i].down);
        cn_ring_close(store->ports[i].up);
    }
    free(store->ports);
    store->ports = NULL;
    store->port_count = 0;
}

cn_store_op *cn_store_port_take(cn_store_port *port)
{
    cn_store_op *op;
    return cn_ring_take(port->down, &op) ? op : NULL;
}

bool cn_store_ports_waiting(const cn_store *store)
{
    for (uint32_t i = 0; i < store->port_count; i++) {
        if (cn_ring_peek(store->ports[i].down)) return true;
    }
    return false;
}

void cn_store_port_give(cn_store_port *port, cn_store_op *op)
{
    const bool pushed = cn_ring_push(port->up, &op);
    CN_ASSERT(pushed);
    port->given = true;
}

void cn_store_ports_flush(cn_store *store)
{
    for (uint32_t i = 0; i < store->port_count; i++) {
        cn_store_port *port = &store->ports[i];
        if (port->given && port->wake) cn_wake_signal(port->wake);
        port->given = false;
    }
}

const char *cn_store_durability_name(cn_durability durability)
{
    return durability_names[durability];
}

int cn_store_durability_parse(const char *name)
{
    for (int i = CN_DURABILITY_MEMORY; i <= CN_DURABILITY_FSYNC_REPLICA; i++) {
        if (strcmp(name, durability_names[i]) == 0) return i;
    }
    return -1;
}

cn_store_port *cn_store_port_at(cn_store *store, uint32_t index)
{
    CN_ASSERT(index < store->port_count);
    return &store->ports[index];
}

void cn_store_port_attach(cn_store_port *port, cn_wake *wake) { port->wake = wake; }

bool cn_store_port_submit(cn_store_port *port, cn_store_op *op)
{
    uint32_t count = 0;
    for (const cn_store_op *at = op; at; at = at->then) count++;
    if (count > port->op_max - port->in_flight) return false;
    const bool pushed = cn_ring_push(port->down, &op);
    CN_ASSERT(pushed);               // each chain takes one message and has at least one operation
    port->in_flight += count;
    if (port->store_wake) cn_wake_signal(port->store_wake);
    return true;
}

cn_store_op *cn_store_port_next(cn_store_port *port)
{
    cn_store_op *op;
    if (!cn_ring_take(port->up, &op)) return NULL;
    port->in_flight--;
    return op;
}
