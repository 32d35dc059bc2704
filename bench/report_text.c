#include "bench/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_row(cn_buf *out, const char *name, const cn_figures *f)
{
    cn_buf_add_format(out, "  %-26s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, f->mean, f->median,
                      f->p90, f->p99, f->max);
}

static void add_outcomes(const cn_report_run *r, cn_buf *out)
{
    const cn_summary *s = r->summary;
    for (int i = 0; i < CN_OUTCOME_COUNT; i++) {
        if (i == CN_OUTCOME_OK || s->outcomes[i] == 0) continue;
        cn_buf_add_format(out, "  %-12s %8llu   %s\n", cn_tally_outcome_name((cn_outcome)i),
                          (unsigned long long)s->outcomes[i], cn_tally_outcome_what((cn_outcome)i));
        for (uint32_t k = 0; k < r->tally->turn_count; k++) {
            const cn_tally_turn *t = &r->tally->turns[k];
            if ((int)t->outcome != i || !t->error) continue;
            // What a server says does not command the terminal.
            char text[CN_TALLY_ERROR_BYTES + 1];
            size_t len = strnlen(t->error, CN_TALLY_ERROR_BYTES);
            for (size_t c = 0; c < len; c++)
                text[c] = (unsigned char)t->error[c] < 32 ? ' ' : t->error[c];
            text[len] = '\0';
            cn_buf_add_format(out, "%24s first: %s\n", "", text);
            break;
        }
    }
}

static void add_turns(const cn_summary *s, cn_buf *out)
{
    if (s->turns_count < 2) return;
    cn_buf_add_text(out, "\n  turn     requests   first token p50        p99   cached\n");
    for (uint32_t k = 0; k < s->turns_count; k++) {
        const cn_summary_turn *t = &s->turns[k];
        if (t->count == 0) continue;
        cn_buf_add_format(out, "  %4u     %8llu        %10.2f %10.2f   ", k + 1,
                          (unsigned long long)t->count, t->ttft_ms.median, t->ttft_ms.p99);
        if (s->cached_told && t->input_tokens > 0) {
            cn_buf_add_format(out, "%5.1f %%\n",
                              100 * (double)t->cached_tokens / (double)t->input_tokens);
        } else cn_buf_add_text(out, "not told\n");
    }
}

void cn_report_write_text(const cn_report_run *r, cn_buf *out)
{
    const cn_summary *s = r->summary;
    if (!s->valid)
        cn_buf_add_format(out,
                          "INVALID: %s\nThe figures below say more about the generator "
                          "than about the server.\n\n",
                          s->invalid_why);
    else {
        cn_buf_add_format(out, "%.2f requests/s, %.1f output tokens/s", s->request_per_s,
                          s->output_per_s);
        if (r->has_slo) {
            cn_buf_add_format(out, ", goodput %.2f requests/s (%.1f %% within the service level)",
                              s->goodput_per_s,
                              100 * (double)s->due.good / fmax(1, (double)s->completed));
        }
        cn_buf_add_text(out, "\n\n");
    }
    cn_buf_add_format(out, "  %llu answered, %llu failed, in %.2f s; %llu tokens in, %llu out",
                      (unsigned long long)s->completed, (unsigned long long)s->failed,
                      s->duration_s, (unsigned long long)s->input_tokens,
                      (unsigned long long)s->output_tokens);
    if (s->cached_told && s->input_tokens > 0) {
        cn_buf_add_format(out, ", %.1f %% of those in from a cache",
                          100 * (double)s->cached_tokens / (double)s->input_tokens);
    }
    cn_buf_add_text(out, "\n");
    add_outcomes(r, out);
    cn_buf_add_text(out,
                    "\n  milliseconds                     mean        p50        p90        p99"
                    "        max\n");
    add_row(out, "first token, from due", &s->due.ttft_ms);
    add_row(out, "first token, from sent", &s->sent.ttft_ms);
    add_row(out, "whole answer, from due", &s->due.e2el_ms);
    add_row(out, "whole answer, from sent", &s->sent.e2el_ms);
    add_row(out, "per output token", &s->tpot_ms);
    add_row(out, "between tokens", &s->itl_ms);
    if (s->queue_ms.max > 0) add_row(out, "held by --max-concurrency", &s->queue_ms);
    add_turns(s, out);
    cn_buf_add_format(
        out,
        "\n  generator: %.3f ms late at p99.9 (worst %.3f), %.0f %% of a core, %.0f "
        "events/s%s\n  digest %02x%02x%02x%02x%02x%02x%02x%02x of %llu answers (%s)\n",
        s->lateness_ms.p999, s->lateness_ms.max, 100 * s->cpu_share, s->events_per_s,
        r->tally->realtime ? ", real-time priority" : "", s->digest[0], s->digest[1], s->digest[2],
        s->digest[3], s->digest[4], s->digest[5], s->digest[6], s->digest[7],
        (unsigned long long)s->digest_turns, r->settings->token_ids ? "token ids" : "text");
}
