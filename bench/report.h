/* bench/report.h: a finished run as text for a terminal, as the JSON that plotting scripts of
 * `vllm bench serve` read, as one line of JSON per request, and as a page of HTML.
 * The keys of vLLM stand at the top with its units and types; all that is ours is under "cairn".
 * Where vLLM counts from sending, the top-level figures count from the due time, and
 * "cairn.from_sent" has the same figures as vLLM would count them.
 *
 * Threads: one.
 * Memory:  appends to the caller's buffer. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "bench/plan.h"
#include "bench/settings.h"
#include "bench/summary.h"
#include "bench/tally.h"

typedef struct cn_report_run {
    const cn_settings *settings;
    unsigned command;            // CN_SETTINGS_RUN or CN_SETTINGS_REPLAY
    const cn_plan *plan;
    const cn_tally *tally;
    const cn_summary *summary;
    const char *model;
    bool has_slo;
    const cn_buf *server; // object of JSON: what the server's counters gained; NULL: not known
} cn_report_run;

/* Everything, as one object. */
void cn_report_write_json(const cn_report_run *run, cn_buf *out);

/* A line per turn that was due. */
void cn_report_write_log(const cn_report_run *run, cn_buf *out);

/* For a terminal: the verdict first, then figures from due beside figures from sent. */
void cn_report_write_text(const cn_report_run *run, cn_buf *out);

/* A file that cn_report_write_json wrote. */
typedef struct cn_report_file {
    const char *name;            // what to call it
    const char *json;
    size_t json_len;
} cn_report_file;

/* One self-contained page for several runs: charts are inline SVG, nothing is loaded, nothing needs
 * a script. Errors: CN_E_SYNTAX, CN_E_FORMAT (not from `cairn bench`). */
cn_code cn_report_write_html(const cn_report_file *files, uint32_t count, cn_buf *out, cn_err *err);
