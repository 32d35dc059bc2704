/* state/store_int.h: the store's side of its ports, for implementations.
 *
 * Threads: the store's.
 * Memory:  two rings of `op_max` pointers per port, allocated in open. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "state/store.h"

/* `wake` is signalled by every submit; NULL where one thread submits and polls. What was opened
 * before an error is closed by cn_store_ports_close. Errors: CN_E_MEMORY. */
cn_code cn_store_ports_open(cn_store *store, uint32_t port_count, uint32_t op_max, cn_wake *wake);
void cn_store_ports_close(cn_store *store);

/* The next submitted operation, with those on its `then`, which moves to the store; NULL if none.
 */
cn_store_op *cn_store_port_take(cn_store_port *port);
/* True if a take would find something. */
bool cn_store_ports_waiting(const cn_store *store);
/* Gives one completed operation back; seen by its user at the latest after flush. */
void cn_store_port_give(cn_store_port *port, cn_store_op *op);
void cn_store_ports_flush(cn_store *store);
