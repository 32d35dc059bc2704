/* appliance/admin.h: a second listener, for operators: the page and its events, metrics, probes.
 *   GET /         the operator page (appliance/page.h)
 *   GET /events   the same once a second, as server-sent events
 *   GET /metrics, /livez, /readyz, /health   as on the listener for clients
 * It is on kernel sockets, also when clients come over a port of its own, and it asks for no key:
 * it belongs on the loopback or in a network of operators. It works on a thread of its own, so that
 * it answers when the others do not.
 *
 * Threads: open and close on the main thread; poll on the admin thread, between them.
 * Memory:  allocated in open; answers grow to what they need. */
#pragma once

#include "appliance/observer.h"
#include "base/wake.h"
#include "dataplane/api.h"

typedef struct cn_admin cn_admin;

typedef struct cn_admin_options {
    const char *address;                 // "": nobody is listened to, but the observer is served
    cn_clock clock;
    cn_observer *observer;
    const cn_api *api;
    cn_api_page metrics_page;
    cn_wake *wake;                       // the admin thread's
} cn_admin_options;                      // all borrowed until close

/* Errors: as cn_http_open; CN_E_MEMORY. */
cn_code cn_admin_open(const cn_admin_options *options, cn_admin **out, cn_err *err);
/* Ends every connection. NULL is fine. */
void cn_admin_close(cn_admin *admin);
/* Where it listens; "" if it does not. */
const char *cn_admin_address(const cn_admin *admin);

/* One round: answers requests and, once a second, has the observer look and tells the viewers.
 * Waits at most `timeout_ns`, or until the next second. False if nothing happened. */
bool cn_admin_poll(cn_admin *admin, uint64_t timeout_ns);
