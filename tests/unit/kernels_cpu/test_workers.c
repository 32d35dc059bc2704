#include "kernels/cpu/workers_int.h"

#include <dirent.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/test_rng.h"

/* A run that hangs is a failure too: the alarm ends the program. */
enum { CHUNKS_MAX = 600, THREADS_MAX = 4, ALARM_S = 240 };

// ---- a piece of work that leaves traces

typedef struct tally {
    _Atomic uint32_t runs[CHUNKS_MAX + 1];   // relaxed: they order nothing, so the workers must
    uint64_t results[CHUNKS_MAX];            // plain: a result that is not visible is a race
    struct {
        uint64_t chunks;                     // plain: two threads with one number are a race
        uint64_t padding[7];
    } by_thread[THREADS_MAX];
    uint64_t stamp;
    uint32_t thread_count;
    _Atomic bool wrong_thread;
} tally;

static void tally_chunk(void *self, uint32_t index, uint32_t thread)
{
    tally *t = self;
    if (thread >= t->thread_count || index >= CHUNKS_MAX) {
        atomic_store(&t->wrong_thread, true);
        return;
    }
    atomic_fetch_add_explicit(&t->runs[index], 1, memory_order_relaxed);
    t->results[index] = t->stamp * 1000 + index;
    t->by_thread[thread].chunks++;
}

/* Mostly as many as a product of a small model has, sometimes none, one or many. */
static uint32_t some_chunks(test_rng *rng)
{
    const uint32_t kind = test_rng_below(rng, 64);
    return kind == 0 ? test_rng_below(rng, CHUNKS_MAX + 1) : test_rng_below(rng, kind < 32 ? 5 : 20);
}

static void run_many(uint32_t thread_count, uint32_t run_count)
{
    static tally t;
    memset(&t, 0, sizeof t);
    t.thread_count = thread_count;
    test_rng rng = test_rng_open("workers");
    cn_workers *workers;
    assert_int_equal(cn_workers_open(thread_count, &workers, NULL), CN_OK);
    assert_int_equal(cn_workers_count(workers), thread_count);
    uint64_t total = 0;
    for (uint32_t run = 0; run < run_count; run++) {
        const uint32_t count = some_chunks(&rng);
        t.stamp = run + 1;
        cn_workers_run(workers, tally_chunk, &t, count);
        total += count;
        bool ok = atomic_load_explicit(&t.runs[count], memory_order_relaxed) == 0;
        for (uint32_t i = 0; i < count; i++) {
            ok = ok && t.results[i] == t.stamp * 1000 + i &&
                 atomic_load_explicit(&t.runs[i], memory_order_relaxed) == 1;
            atomic_store_explicit(&t.runs[i], 0, memory_order_relaxed);
        }
        if (!ok) fail_msg("run %u of %u chunks on %u threads", run, count, thread_count);
    }
    cn_workers_close(workers);
    assert_false(atomic_load(&t.wrong_thread));
    for (uint32_t i = 0; i < thread_count; i++) total -= t.by_thread[i].chunks;
    assert_int_equal(total, 0);
}

/* Catches a chunk that is lost, run twice, run after its piece has ended, or whose result the leader does
 * not see; and a helper that takes a chunk of one piece for a chunk of the next. */
static void every_chunk_runs_once(void **state)
{
    (void)state;
    run_many(1, 200000);
    run_many(2, 500000);
    run_many(3, 200000);
    run_many(4, 100000);
}

// ---- threads that wait for each other

/* Every thread takes exactly one chunk, as no chunk ends before all have begun. */
typedef struct meeting {
    _Atomic uint32_t here;
    uint32_t expected;
    pid_t ids[THREADS_MAX];
    pid_t wait_for_sleep_of;     // 0, or helpers end only when this thread sleeps
} meeting;

static bool sleeps(pid_t id)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    if (!fgets(line, sizeof line, file)) line[0] = '\0';
    fclose(file);
    const char *after_name = strrchr(line, ')');
    return after_name && strncmp(after_name, ") S", 3) == 0;
}

static void wait_for_sleep(pid_t id)
{
    while (!sleeps(id)) sched_yield();
}

static void meet(void *self, uint32_t index, uint32_t thread)
{
    meeting *m = self;
    (void)index;
    m->ids[thread] = gettid();
    atomic_fetch_add(&m->here, 1);
    while (atomic_load(&m->here) < m->expected) sched_yield();
    if (thread > 0 && m->wait_for_sleep_of) wait_for_sleep(m->wait_for_sleep_of);
}

/* Catches a wake-up of helpers that is lost: without one of them the meeting never ends. In the odd
 * rounds all helpers are really asleep before, in the even ones they spin or are about to sleep. */
static void helpers_wake(void **state)
{
    (void)state;
    for (uint32_t thread_count = 2; thread_count <= THREADS_MAX; thread_count++) {
        cn_workers *workers;
        assert_int_equal(cn_workers_open(thread_count, &workers, NULL), CN_OK);
        meeting m = {.expected = thread_count};
        for (int round = 0; round < 300; round++) {
            atomic_store(&m.here, 0);
            cn_workers_run(workers, meet, &m, thread_count);
            assert_int_equal(atomic_load(&m.here), thread_count);
            for (uint32_t i = 1; i < thread_count && round % 2 == 0; i++) wait_for_sleep(m.ids[i]);
        }
        cn_workers_close(workers);
    }
}

/* Catches a leader that is not woken: the last chunk ends only after the leader fell asleep. */
static void leader_wakes(void **state)
{
    (void)state;
    for (uint32_t thread_count = 2; thread_count <= THREADS_MAX; thread_count++) {
        cn_workers *workers;
        assert_int_equal(cn_workers_open(thread_count, &workers, NULL), CN_OK);
        meeting m = {.expected = thread_count, .wait_for_sleep_of = gettid()};
        for (int round = 0; round < 200; round++) {
            atomic_store(&m.here, 0);
            cn_workers_run(workers, meet, &m, thread_count);
        }
        cn_workers_close(workers);
    }
}

// ---- begin and end

static uint32_t count_threads(void)
{
    uint32_t count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *entry; (entry = readdir(tasks));) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* Catches a close that does not reach helpers which have not begun, which spin or which sleep: it would
 * hang or leave threads behind. */
static void closes_in_every_state(void **state)
{
    (void)state;
    const uint32_t before = count_threads();
    for (uint32_t round = 0; round < 600; round++) {
        const uint32_t thread_count = 1 + round % THREADS_MAX;
        cn_workers *workers;
        assert_int_equal(cn_workers_open(thread_count, &workers, NULL), CN_OK);
        meeting m = {.expected = thread_count};
        if (round % 3 > 0) cn_workers_run(workers, meet, &m, thread_count);
        for (uint32_t i = 1; i < thread_count && round % 3 == 1; i++) wait_for_sleep(m.ids[i]);
        cn_workers_close(workers);
    }
    // A joined thread leaves the kernel's list a moment after the join.
    for (int i = 0; i < 100000 && count_threads() > before; i++) sched_yield();
    assert_int_equal(count_threads(), before);
    cn_workers_close(NULL);
}

typedef struct order {
    uint32_t next;
    bool wrong;
} order;

static void in_order(void *self, uint32_t index, uint32_t thread)
{
    order *o = self;
    o->wrong |= index != o->next++ || thread != 0;
}

/* Catches work that is handed out where there is nobody to share it with: the leader does it alone. */
static void one_thread_or_one_chunk_stay_with_the_leader(void **state)
{
    (void)state;
    for (uint32_t thread_count = 1; thread_count <= THREADS_MAX; thread_count += 3) {
        cn_workers *workers;
        assert_int_equal(cn_workers_open(thread_count, &workers, NULL), CN_OK);
        order o = {0};
        cn_workers_run(workers, in_order, &o, thread_count == 1 ? 1000 : 1);
        assert_false(o.wrong);
        assert_int_equal(o.next, thread_count == 1 ? 1000 : 1);
        cn_workers_close(workers);
    }
}

int main(void)
{
    alarm(ALARM_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_runs_once),
        cmocka_unit_test(helpers_wake),
        cmocka_unit_test(leader_wakes),
        cmocka_unit_test(closes_in_every_state),
        cmocka_unit_test(one_thread_or_one_chunk_stay_with_the_leader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
