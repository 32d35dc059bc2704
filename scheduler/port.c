#include "scheduler/port_int.h"

#include "base/assert.h"
#include "scheduler/engine_int.h"

cn_code cn_port_open(cn_engine_port *port, cn_engine *engine, uint32_t order_count,
                     uint32_t event_count)
{
    *port = (cn_engine_port){.engine = engine};
    if (cn_ring_open(order_count, sizeof(cn_order), &port->orders) != CN_OK) return CN_E_MEMORY;
    return cn_ring_open(event_count, sizeof(cn_event), &port->events);
}

void cn_port_close(cn_engine_port *port)
{
    cn_ring_close(port->orders);
    cn_ring_close(port->events);
}

bool cn_port_has_room(cn_engine_port *port, uint32_t event_count)
{
    if (cn_ring_space(port->events) >= event_count) return true;
    // The mark goes up before the second look: whoever makes room after it sees the mark.
    atomic_store(&port->starved, true);
    if (cn_ring_space(port->events) < event_count) {
        cn_metrics_add(&port->engine->options.metrics->ring_events, 1);
        return false;
    }
    atomic_store(&port->starved, false);
    return true;
}

void cn_port_emit(cn_engine_port *port, const cn_event *event)
{
    const bool pushed = cn_ring_push(port->events, event);
    CN_ASSERT(pushed);
    port->sent = true;
}

void cn_port_flush(cn_engine_port *port)
{
    if (!port->sent) return;
    port->sent = false;
    if (port->wake) cn_wake_signal(port->wake);
}
