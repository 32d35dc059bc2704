#include "bench/trace_int.h"

#include <stdlib.h>
#include <string.h>

typedef cn_code (*reader)(const cn_trace_options *, const char *, size_t, cn_plan *, cn_err *);

static const struct {
    const char *name;
    reader read;
    bool has_times;
} formats[] = {
    {"sharegpt", cn_trace_read_sharegpt, false},
    {"mooncake", cn_trace_read_mooncake, true},
    {"azure", cn_trace_read_azure, true},
    {"burstgpt", cn_trace_read_burstgpt, true},
};

cn_code cn_trace_refuse(const cn_trace_options *o, cn_err *err)
{
    return cn_err_set(err, CN_E_MEMORY, "%s: no memory, or more than %d requests", o->name,
                      CN_PLAN_COUNT_MAX);
}

static int compare_due(const void *a, const void *b)
{
    const cn_plan_session *x = a, *y = b;
    if (x->due_ns != y->due_ns) return (x->due_ns > y->due_ns) - (x->due_ns < y->due_ns);
    return (x->turn_first > y->turn_first) - (x->turn_first < y->turn_first);
}

// From the file's times to the run's: from 0, as fast as wanted, without long idle gaps.
static void move_times(const cn_trace_options *o, cn_plan *plan)
{
    const uint64_t gap_max = o->gap_ns_max ? o->gap_ns_max : UINT64_MAX;
    uint64_t before = plan->sessions[0].due_ns, now = 0;
    for (uint32_t i = 0; i < plan->session_count; i++) {
        const uint64_t at = plan->sessions[i].due_ns, gap = at - before;
        now += (uint64_t)((double)(gap < gap_max ? gap : gap_max) / o->speed);
        plan->sessions[i].due_ns = now;
        before = at;
    }
    for (uint32_t i = 0; i < plan->turn_count; i++) {
        uint64_t *think = &plan->turns[i].think_ns;
        *think = (uint64_t)((double)(*think < gap_max ? *think : gap_max) / o->speed);
    }
}

// Dropped sessions keep their turns, at the end of the array; nobody asks them.
static void drop_late(const cn_trace_options *o, cn_plan *plan)
{
    uint32_t keep = 0;
    while (keep < plan->session_count &&
           (!o->keeps_times || plan->sessions[keep].due_ns < o->duration_ns))
        keep++;
    if (o->count_max > 0 && keep > o->count_max) keep = o->count_max;
    plan->session_count = keep;
}

// The turns of the sessions that are left, in the sessions' order.
static cn_code pack_turns(const cn_trace_options *o, cn_plan *plan, cn_err *err)
{
    uint32_t count = 0;
    cn_plan_turn *packed = calloc(plan->turn_count + 1u, sizeof *packed);
    if (!packed) return cn_trace_refuse(o, err);
    for (uint32_t i = 0; i < plan->session_count; i++) {
        cn_plan_session *s = &plan->sessions[i];
        memcpy(&packed[count], &plan->turns[s->turn_first], s->turn_count * sizeof *packed);
        s->turn_first = count;
        count += s->turn_count;
    }
    free(plan->turns);
    plan->turns = packed;
    plan->turn_capacity = plan->turn_count + 1;
    plan->turn_count = count;
    return CN_OK;
}

cn_code cn_trace_read(const cn_trace_options *o, const char *text, size_t len, cn_plan *plan,
                      cn_err *err)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(o->format, formats[i].name) != 0) continue;
        if (o->keeps_times && !formats[i].has_times) {
            return cn_err_set(err, CN_E_INVALID,
                              "--format: %s; has no times to replay; use `cairn bench "
                              "run --dataset` with a --rate",
                              o->format);
        }
        const cn_code code = formats[i].read(o, text, len, plan, err);
        if (code != CN_OK) return code;
        if (plan->session_count == 0)
            return cn_err_set(err, CN_E_FORMAT, "%s: has no requests in the format %s", o->name,
                              o->format);
        qsort(plan->sessions, plan->session_count, sizeof *plan->sessions, compare_due);
        move_times(o, plan);
        drop_late(o, plan);
        return pack_turns(o, plan, err);
    }
    return cn_err_set(err, CN_E_INVALID,
                      "--format: %.40s; must be sharegpt, mooncake, azure or burstgpt", o->format);
}
