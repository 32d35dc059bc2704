#include "kernels/cpu/cpu_int.h"

#include <stdlib.h>
#include <string.h>

/* How it works. The device thread is rank 0. All ranks meet, run a step, and meet again, so that between
 * two steps no rank works and everything (tables, settings, the step, the pages of all ranks) is rank 0's
 * to read and to change. A rank that finds the group aborted leaves: that is also how the group is ended.
 * A rank that is alone has no end and meets nobody. */

// ---- open and close

cn_code cn_group_open(cn_cpu *cpu, uint32_t thread_count, cn_err *err)
{
    cn_collective *ends[CN_SHARDS_MAX] = {NULL};
    const uint32_t ranks = cpu->rank_count;
    cn_code code = CN_OK;
    if (ranks > 1) code = cn_collective_local_ops.open(ranks, ends, err);
    for (uint32_t i = 0; i < ranks; i++) {
        cn_cpu_rank *rank = &cpu->ranks[i];
        const uint32_t threads = thread_count / ranks + (i < thread_count % ranks);
        *rank = (cn_cpu_rank){.cpu = cpu, .index = i, .end = ends[i], .path = cpu->path};
        if (code == CN_OK) code = cn_workers_open(threads ? threads : 1, &rank->workers, err);
    }
    return code;
}

void cn_group_close(cn_cpu *cpu)
{
    if (cpu->ranks[0].end) cpu->ranks[0].end->ops->abort(cpu->ranks[0].end);
    for (uint32_t i = 0; i < cpu->rank_count; i++) {
        cn_cpu_rank *rank = &cpu->ranks[i];
        if (rank->started) pthread_join(rank->thread, NULL);
        cn_workers_close(rank->workers);
        cn_scratch_free(rank);
        cn_weights_free(&rank->model);
    }
    for (uint32_t i = 0; i < cpu->rank_count; i++) cn_collective_local_ops.close(cpu->ranks[i].end);
}

// ---- preparing

typedef struct preparation {
    cn_cpu_rank *rank;
    cn_code (*prepare)(cn_cpu_rank *rank, void *self, cn_err *err);
    void *self;
    cn_code code;
    cn_err err;
} preparation;

static void *prepare_rank(void *argument)
{
    preparation *p = argument;
    p->code = p->prepare(p->rank, p->self, &p->err);
    return NULL;
}

static cn_code start_thread(cn_cpu_rank *rank, void *(*run)(void *), void *argument, cn_err *err)
{
    const int failure = pthread_create(&rank->thread, NULL, run, argument);
    rank->started = failure == 0;
    if (failure == 0) return CN_OK;
    return cn_err_set(err, CN_E_IO, "devices.tensor_parallel: %u; the thread of rank %u cannot be started: %s",
                      rank->cpu->rank_count, rank->index, strerror(failure));
}

cn_code cn_group_prepare(cn_cpu *cpu, cn_code (*prepare)(cn_cpu_rank *rank, void *self, cn_err *err),
                         void *self, cn_err *err)
{
    preparation all[CN_SHARDS_MAX];
    for (uint32_t i = 0; i < cpu->rank_count; i++) {
        all[i] = (preparation){.rank = &cpu->ranks[i], .prepare = prepare, .self = self};
        if (i == 0) continue;
        const cn_code code = start_thread(all[i].rank, prepare_rank, &all[i], &all[i].err);
        if (code != CN_OK) all[i].code = code;       // else it is the thread's to write
    }
    prepare_rank(&all[0]);
    cn_code code = CN_OK;
    for (uint32_t i = 0; i < cpu->rank_count; i++) {
        if (all[i].rank->started) pthread_join(all[i].rank->thread, NULL);
        all[i].rank->started = false;
        if (code == CN_OK && all[i].code != CN_OK) code = cn_err_set(err, all[i].code, "%s", all[i].err.text);
    }
    return code;
}

// ---- steps

static cn_code meet(cn_cpu_rank *rank) { return rank->end ? rank->end->ops->barrier(rank->end) : CN_OK; }

static cn_code run_step(cn_cpu_rank *rank)
{
    cn_code code = meet(rank);
    if (code == CN_OK) code = cn_forward_run(rank, rank->cpu->running);
    return code == CN_OK ? meet(rank) : code;
}

static void *run_rank(void *argument)
{
    while (run_step(argument) == CN_OK) {
    }
    return NULL;
}

cn_code cn_group_start(cn_cpu *cpu, cn_err *err)
{
    cn_code code = CN_OK;
    for (uint32_t i = 1; i < cpu->rank_count && code == CN_OK; i++) {
        code = start_thread(&cpu->ranks[i], run_rank, &cpu->ranks[i], err);
    }
    return code;
}

cn_code cn_group_run(cn_cpu *cpu, cn_cpu_step *step)
{
    cpu->running = step;
    return run_step(&cpu->ranks[0]);
}
