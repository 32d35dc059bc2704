/* scheduler/fair_int.h: whose turn it is. Divides the device between tenants by what they have had.
 *
 * Threads: engine only.
 * Memory:  64 bytes per tenant that there may be, allocated in open. */
#pragma once

#include "scheduler/sequence_int.h"

typedef struct cn_fair_tenant {
    cn_sequence_list waiting;    // of this tenant
    cn_sequence *cursor;         // in `waiting`: the next one to look at in this step
    double had;                  // tokens per weight, as a time of its own
    double had_before;           // at the start of the step
    uint32_t weight;
    uint32_t running, forking;   // sequences
    uint32_t place;              // in `active`
    bool is_active;              // has sequences
    bool passed;                 // has nothing more that this step could take
} cn_fair_tenant;

typedef struct cn_fair {
    cn_fair_tenant *tenants;
    uint32_t *active;            // their indices, in no order
    uint32_t tenant_count, active_count;
    uint32_t waiting_count;      // of all tenants
    uint32_t weight_sum;         // of active ones
    double now;                  // what a tenant would have had that always wanted its share
    double credit;               // tokens that an idle tenant keeps of its share
} cn_fair;

cn_code cn_fair_open(cn_fair *fair, uint32_t tenant_count, uint32_t credit_tokens);
void cn_fair_close(cn_fair *fair);

/* A sequence of `tenant` enters or leaves the waiting, running or forking ones. */
void cn_fair_enter(cn_fair *fair, cn_sequence *s, bool at_the_head);
void cn_fair_leave(cn_fair *fair, cn_sequence *s);

static inline cn_fair_tenant *cn_fair_of(const cn_fair *fair, const cn_sequence *s)
{
    return &fair->tenants[s->tenant];
}

/* A step is composed: begin, then `next` names the tenant that has had least among those that were not
 * passed (NULL: none), which is charged for every token that it gets; then end. */
void cn_fair_begin(cn_fair *fair);
cn_fair_tenant *cn_fair_next(const cn_fair *fair);
static inline void cn_fair_charge(cn_fair_tenant *tenant, uint32_t token_count)
{
    tenant->had += (double)token_count / tenant->weight;
}
/* `wants`: whether a tenant would have taken more. */
void cn_fair_end(cn_fair *fair, bool (*wants)(const cn_fair_tenant *tenant, void *self), void *self);

/* Its part of `whole`, among tenants that have sequences now. */
double cn_fair_share(const cn_fair *fair, const cn_fair_tenant *tenant, uint32_t whole);
