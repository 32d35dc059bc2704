/* scheduler/port_int.h: the engine's side of a port: orders come in, events go out.
 *
 * Threads: engine only; the other side is in engine.h.
 * Memory:  two rings per port, allocated in open. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/ring.h"
#include "scheduler/engine.h"

typedef enum cn_order_kind { CN_ORDER_SUBMIT, CN_ORDER_CANCEL } cn_order_kind;

enum { CN_CHOICE_ALL = UINT32_MAX };

typedef struct cn_order {
    cn_order_kind kind;
    cn_generation *generation;
    uint32_t choice;             // CANCEL: one, or CN_CHOICE_ALL
} cn_order;

struct cn_engine_port {
    cn_engine *engine;
    cn_ring *orders;             // cn_order, written by the port's thread
    cn_ring *events;             // cn_event, written by the engine
    cn_wake *wake;               // the port thread's; NULL until attach
    bool sent;                   // engine: events were pushed since the last flush
    _Atomic bool starved;        // engine waits for space in `events`
};

cn_code cn_port_open(cn_engine_port *port, cn_engine *engine, uint32_t order_count,
                     uint32_t event_count);
void cn_port_close(cn_engine_port *port);

/* True if `event_count` events can be emitted now; otherwise the port will wake the engine when it has
 * made room. */
bool cn_port_has_room(cn_engine_port *port, uint32_t event_count);

/* Appends an event; there must be room. */
void cn_port_emit(cn_engine_port *port, const cn_event *event);

/* Wakes the port's thread if events were emitted. */
void cn_port_flush(cn_engine_port *port);
