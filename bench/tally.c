#include "bench/tally.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *what;
} outcomes[] = {
#define X(id, name, what) {name, what},
    CN_OUTCOMES(X)
#undef X
};

cn_code cn_tally_open(uint32_t turn_count, cn_tally *out, cn_err *err)
{
    *out = (cn_tally){.turn_count = turn_count, .turns = calloc(turn_count, sizeof *out->turns)};
    if (!out->turns) return cn_err_set(err, CN_E_MEMORY, "no memory for %u turns", turn_count);
    for (uint32_t i = 0; i < turn_count; i++) {
        out->turns[i].input_tokens = out->turns[i].output_tokens = out->turns[i].cached_tokens = -1;
    }
    return CN_OK;
}

void cn_tally_close(cn_tally *tally)
{
    for (uint32_t i = 0; tally->turns && i < tally->turn_count; i++) {
        free(tally->turns[i].gaps_s);
        free(tally->turns[i].text);
        free(tally->turns[i].error);
    }
    free(tally->turns);
    *tally = (cn_tally){0};
}

const char *cn_tally_outcome_name(cn_outcome outcome) { return outcomes[outcome].name; }

const char *cn_tally_outcome_what(cn_outcome outcome) { return outcomes[outcome].what; }

bool cn_tally_event(cn_tally_turn *turn, uint64_t now_ns)
{
    if (turn->event_count++ == 0) turn->first_ns = now_ns;
    else {
        if (turn->gap_count == turn->gap_capacity) {
            const uint32_t capacity = turn->gap_capacity ? turn->gap_capacity * 2 : 16;
            float *grown = realloc(turn->gaps_s, capacity * sizeof *grown);
            if (!grown) return false;
            turn->gaps_s = grown;
            turn->gap_capacity = capacity;
        }
        turn->gaps_s[turn->gap_count++] = (float)((double)(now_ns - turn->last_ns) / 1e9);
    }
    turn->last_ns = now_ns;
    return true;
}

void cn_tally_error(cn_tally_turn *turn, const char *text, size_t len)
{
    free(turn->error);
    turn->error = strndup(text, len < CN_TALLY_ERROR_BYTES ? len : CN_TALLY_ERROR_BYTES);
}
