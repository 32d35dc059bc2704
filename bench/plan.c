#include "bench/plan.h"

#include <stdlib.h>
#include <string.h>

#include "bench/words.h"

enum { ARENA_BYTES_MAX = 1 << 30 };

// Each use of the seed is a stream of its own: more turns do not move the arrivals.
enum { STREAM_ARRIVALS = 1, STREAM_SHAPE, STREAM_TEXT, STREAM_PREFIX, STREAM_TROUBLE,
       STREAM_RECONNECT };

void cn_plan_init(cn_plan *plan)
{
    *plan = (cn_plan){0};
    cn_arena_init(&plan->arena, ARENA_BYTES_MAX);
}

void cn_plan_close(cn_plan *plan)
{
    free(plan->sessions);
    free(plan->turns);
    cn_arena_close(&plan->arena);
    cn_plan_init(plan);
}

// Room for one more: the array doubles.
static void *grow(void *array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) return array;
    const uint32_t wanted = *capacity ? *capacity * 2 : 1024;
    void *grown = wanted <= CN_PLAN_COUNT_MAX ? realloc(array, (size_t)wanted * size) : NULL;
    if (grown) *capacity = wanted;
    return grown;
}

cn_plan_session *cn_plan_add_session(cn_plan *plan)
{
    void *grown = grow(plan->sessions, plan->session_count, &plan->session_capacity,
                       sizeof *plan->sessions);
    if (!grown) return NULL;
    plan->sessions = grown;
    cn_plan_session *session = &plan->sessions[plan->session_count++];
    *session = (cn_plan_session){.turn_first = plan->turn_count};
    return session;
}

cn_plan_turn *cn_plan_add_turn(cn_plan *plan)
{
    void *grown = grow(plan->turns, plan->turn_count, &plan->turn_capacity, sizeof *plan->turns);
    if (!grown) return NULL;
    plan->turns = grown;
    plan->sessions[plan->session_count - 1].turn_count++;
    cn_plan_turn *turn = &plan->turns[plan->turn_count++];
    *turn = (cn_plan_turn){.output_tokens = 1};
    return turn;
}

static cn_code draw_times(const cn_plan_schedule *s, uint64_t **out, uint32_t *count, cn_err *err)
{
    uint64_t state = cn_words_mix(s->seed, STREAM_ARRIVALS);
    const cn_random random = cn_random_seeded(&state);
    *out = calloc(s->count_max ? s->count_max : 1, sizeof **out);
    if (!*out) return cn_err_set(err, CN_E_MEMORY, "no memory for %u sessions", s->count_max);
    *count = s->at_once
                 ? s->count_max
                 : cn_arrivals_draw(&s->arrivals, &random, s->duration_ns, s->count_max, *out);
    if (*count > 0) return CN_OK;
    free(*out);
    return cn_err_set(err, CN_E_INVALID, "no session arrives: the rate (%g per second) is too low "
                      "for the duration, or there are no sessions", s->arrivals.rate_per_s);
}

static bool add_session(cn_plan *plan, const cn_plan_shape *shape, const cn_random *random,
                        uint64_t due_ns)
{
    const uint32_t index = plan->session_count;
    const uint32_t turns = cn_draw_take_count(&shape->turns, random, 1, CN_PLAN_COUNT_MAX);
    cn_plan_session *session = cn_plan_add_session(plan);
    if (!session) return false;
    session->due_ns = due_ns;
    session->prefix_tokens = shape->prefix_tokens;
    session->prefix_seed = cn_words_mix(cn_words_mix(shape->seed, STREAM_PREFIX),
                                        cn_random_u64(random) % shape->prefix_groups);
    for (uint32_t i = 0; i < turns; i++) {
        cn_plan_turn *turn = cn_plan_add_turn(plan);
        if (!turn) return false;
        const double think_s = cn_draw_take(&shape->think_s, random);
        turn->think_ns = i ? (uint64_t)(think_s * 1e9) : 0;
        turn->input_tokens =
            cn_draw_take_count(&shape->input_tokens, random, 1, CN_PLAN_TOKENS_MAX);
        turn->output_tokens =
            cn_draw_take_count(&shape->output_tokens, random, 1, CN_PLAN_TOKENS_MAX);
        turn->seed =
            cn_words_mix(cn_words_mix(shape->seed, STREAM_TEXT), (uint64_t)index << 32 | i);
    }
    return true;
}

cn_code cn_plan_synthetic(cn_plan *plan, const cn_plan_schedule *schedule,
                          const cn_plan_shape *shape, cn_err *err)
{
    uint64_t *due_ns, state = cn_words_mix(shape->seed, STREAM_SHAPE);
    const cn_random random = cn_random_seeded(&state);
    uint32_t count;
    cn_code code = draw_times(schedule, &due_ns, &count, err);
    if (code != CN_OK) return code;
    for (uint32_t i = 0; i < count && code == CN_OK; i++) {
        if (!add_session(plan, shape, &random, due_ns[i])) {
            code = cn_err_set(err, CN_E_MEMORY,
                              "no memory for %u sessions; at most %d sessions and "
                              "turns",
                              count, CN_PLAN_COUNT_MAX);
        }
    }
    free(due_ns);
    return code;
}

cn_code cn_plan_reschedule(cn_plan *plan, const cn_plan_schedule *schedule, cn_err *err)
{
    uint64_t *due_ns;
    uint32_t count;
    cn_plan_schedule s = *schedule;
    if (s.count_max == 0 || s.count_max > plan->session_count) s.count_max = plan->session_count;
    const cn_code code = draw_times(&s, &due_ns, &count, err);
    if (code != CN_OK) return code;
    plan->session_count = count;
    const cn_plan_session *last = &plan->sessions[count - 1];
    plan->turn_count = last->turn_first + last->turn_count;
    for (uint32_t i = 0; i < count; i++) plan->sessions[i].due_ns = due_ns[i];
    free(due_ns);
    return CN_OK;
}

void cn_plan_disturb(cn_plan *plan, const cn_plan_trouble *trouble)
{
    uint64_t state = cn_words_mix(trouble->seed, STREAM_TROUBLE);
    uint64_t reconnect_state = cn_words_mix(trouble->seed, STREAM_RECONNECT);
    const cn_random random = cn_random_seeded(&state);
    const cn_random reconnect = cn_random_seeded(&reconnect_state);
    for (uint32_t i = 0; i < plan->turn_count; i++) {
        cn_plan_turn *turn = &plan->turns[i];
        const double after_s = cn_draw_take(&trouble->cancel_after_s, &random);
        if (cn_draw_uniform(&random) < trouble->cancel_share) {
            turn->cancel_after_ns = 1 + (uint64_t)(after_s * 1e9);
        }
        if (cn_draw_uniform(&random) < trouble->slow_share) {
            turn->slow_bytes_per_s = trouble->slow_bytes_per_s;
        }
        const double lost_s = cn_draw_take(&trouble->reconnect_after_s, &reconnect);
        if (cn_draw_uniform(&reconnect) < trouble->reconnect_share) {
            turn->reconnect_after_ns = 1 + (uint64_t)(lost_s * 1e9);
        }
    }
}
