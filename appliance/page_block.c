#include "appliance/page_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Drawings are SVG with sizes as attributes, since the page's policy allows no style from here;
 * what a drawing shows is beside it as text, or in its label. */

static double most(const double *values, int count)
{
    double max = 0;
    for (int i = 0; i < count; i++) max = values[i] > max ? values[i] : max;
    return max;
}

// ---- drawings

static void add_points(const cn_page *p, double max, cn_buf *out)
{
    for (int i = 0; i < CN_PAGE_SPARK_COUNT; i++) {
        cn_buf_add_format(out, "%s%d %.2f", i ? "L" : "", i, 19 - 18 * p->spark[i] / max);
    }
}

void cn_page_block_spark(const cn_page *p, cn_buf *out)
{
    const double peak = most(p->spark, CN_PAGE_SPARK_COUNT), max = peak > 0 ? peak : 1;
    cn_buf_add_text(out, "<path class=\"area\" d=\"M0 20L");
    add_points(p, max, out);
    cn_buf_add_format(out, "L%d 20Z\"/><path class=\"line\" d=\"M", CN_PAGE_SPARK_COUNT - 1);
    add_points(p, max, out);
    cn_buf_add_text(out, "\"/>");
}

void cn_page_block_spark_text(const cn_page *p, cn_buf *out)
{
    cn_buf_add_text(out, "now ");
    cn_page_unit_rate(p->spark[CN_PAGE_SPARK_COUNT - 1], out);
    cn_buf_add_text(out, ", at most ");
    cn_page_unit_rate(most(p->spark, CN_PAGE_SPARK_COUNT), out);
}

void cn_page_block_meter(uint64_t value, uint64_t max, cn_buf *out)
{
    double share = max ? 100.0 * (double)value / (double)max : 0;
    if (share > 100) share = 100;
    cn_buf_add_format(out, "<svg class=\"meter%s\" aria-hidden=\"true\"><rect class=\"track\" "
                      "width=\"100%%\" height=\"8\" rx=\"4\"/>", share > 85 ? " hot" : "");
    if (value) {
        cn_buf_add_format(out, "<rect class=\"fill\" width=\"%.1f%%\" height=\"8\" rx=\"4\"/>",
                          share < 1.5 ? 1.5 : share);
    }
    cn_buf_add_text(out, "</svg>");
}

enum { MAP_COLUMNS = 48, MAP_ROWS = 8, MAP_CELLS = MAP_COLUMNS * MAP_ROWS };

/* How many cells stand for `pages`: a share, but one at least where there is something. */
static int cells_of(uint64_t pages, uint64_t all)
{
    const int cells = all ? (int)((pages * MAP_CELLS + all / 2) / all) : 0;
    return pages && cells == 0 ? 1 : cells;
}

static void add_cells(const char *kind, const char *shape, int from, int to, cn_buf *out)
{
    if (to <= from) return;
    cn_buf_add_format(out, "<path class=\"%s\" d=\"", kind);
    for (int i = from; i < to; i++) {
        cn_buf_add_format(out, "M%d %d%s", i % MAP_COLUMNS, i / MAP_COLUMNS, shape);
    }
    cn_buf_add_text(out, "\"/>");
}

// Each kind has a shape of its own, so that the map can be read without colours.
void cn_page_block_map(const cn_page *p, cn_buf *out)
{
    const int held = cells_of(p->pages_held, p->pages);
    int used = held + cells_of(p->pages_idle, p->pages);
    if (used > MAP_CELLS) used = MAP_CELLS;
    add_cells("held", "m.1 .1h.8v.8h-.8z", 0, held, out);
    add_cells("idle", "m.17 .17h.66v.66h-.66z", held, used, out);
    add_cells("free", "m.5 .37a.13 .13 0 1 0 .001 0z", used, MAP_CELLS, out);
}

// ---- lists

static void open_term(const char *term, cn_buf *out)
{
    cn_buf_add_format(out, "<dt>%s</dt><dd>", term);
}

static void close_term(cn_buf *out) { cn_buf_add_text(out, "</dd>"); }

static void add_count(const char *term, uint64_t value, cn_buf *out)
{
    open_term(term, out);
    cn_page_unit_count(value, out);
    close_term(out);
}

static void add_text(const char *term, const char *text, cn_buf *out)
{
    open_term(term, out);
    cn_page_unit_text(text, out);
    close_term(out);
}

// "up" and "down" are words, and coloured as well.
static void add_up(const char *term, bool up, const char *if_up, const char *if_down, cn_buf *out)
{
    open_term(term, out);
    cn_buf_add_format(out, "<span class=\"%s\">%s</span>", up ? "up" : "down",
                      up ? if_up : if_down);
    close_term(out);
}

static void add_pair(const char *term, double first, double second, bool bytes, cn_buf *out)
{
    open_term(term, out);
    for (int i = 0; i < 2; i++) {
        if (i) cn_buf_add_text(out, " / ");
        if (bytes) cn_page_unit_bytes(i ? second : first, out);
        else cn_page_unit_rate(i ? second : first, out);
    }
    cn_buf_add_text(out, bytes ? " /s" : "");
    close_term(out);
}

void cn_page_block_resumed(const cn_page *p, cn_buf *out)
{
    static const char *const names[] = {"device", "host memory", "Redis", "computed again"};
    for (int i = 0; i < CN_PAGE_TIER_COUNT; i++) {
        cn_buf_add_format(out, "<tr><th scope=\"row\">%s</th><td class=\"n\">", names[i]);
        cn_page_unit_count(p->resumed_turns[i], out);
        cn_buf_add_text(out, "</td><td class=\"n\">");
        cn_page_unit_count(p->resumed_tokens[i], out);
        cn_buf_add_text(out, "</td></tr>");
    }
}

void cn_page_block_tiers(const cn_page *p, cn_buf *out)
{
    open_term("Host memory", out);
    if (p->host_pages) {
        cn_page_unit_count(p->host_pages_used, out);
        cn_buf_add_text(out, " of ");
        cn_page_unit_count(p->host_pages, out);
        cn_buf_add_text(out, " pages");
    } else {
        cn_buf_add_text(out, "none");
    }
    close_term(out);
    add_count("Wait to be written", p->behind_pages, out);
    add_count("Not written behind", p->behind_lost, out);
    add_count("Pages written to Redis", p->store_pages_written, out);
    add_count("Pages read from Redis", p->store_pages_read, out);
}

void cn_page_block_device(const cn_page *p, cn_buf *out)
{
    add_text("Backend", p->backend, out);
    open_term("Busy", out);
    cn_buf_add_format(out, "%.0f %%", 100 * (p->busy_ratio > 1 ? 1 : p->busy_ratio));
    close_term(out);
    open_term("Steps per second", out);
    cn_page_unit_rate(p->steps_rate, out);
    close_term(out);
    add_text("Hardware", p->hardware, out);
}

void cn_page_block_net(const cn_page *p, cn_buf *out)
{
    if (p->has_port) {
        add_up("Link", p->link_up && !p->port_gone, "up", p->port_gone ? "device gone" : "down",
               out);
        add_pair("Frames in / out", p->frames_in_rate, p->frames_out_rate, false, out);
        add_count("Frames dropped", p->port_dropped, out);
    } else {
        add_text("Transport", "kernel sockets", out);
    }
    add_text("Address", p->address, out);
    add_pair("In / out", p->received_rate, p->sent_rate, true, out);
    add_count("Dropped, slow reader", p->slow_readers, out);
    add_count("Timed out", p->timeouts, out);
    add_count("Malformed", p->malformed, out);
}

static void add_write_latency(const cn_page *p, cn_buf *out)
{
    open_term("Durable write, p50 / p99", out);
    if (p->write.count[1]) {
        cn_page_unit_time(p->write.p50_ns[1], out);
        cn_buf_add_text(out, " / ");
        cn_page_unit_time(p->write.p99_ns[1], out);
    } else {
        cn_buf_add_text(out, "–");
    }
    close_term(out);
}

void cn_page_block_redis(const cn_page *p, cn_buf *out)
{
    if (!p->has_store) {
        add_text("Store", "none: turns are not kept", out);
        return;
    }
    add_up("Turns", p->log_up, "up", "away", out);
    add_up("Pages", p->pages_up, "up", "away", out);
    add_text("Acknowledged survives", p->durability, out);
    add_write_latency(p, out);
    add_count("Connections that broke", p->store_reconnects, out);
    add_count("Writes not done in time", p->store_failed, out);
    if (*p->store_text) add_text("Reason", p->store_text, out);
}

// ---- the last slow requests

static uint64_t whole_ns(const cn_tracing_record *r)
{
    uint64_t ns = 0;
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) ns += r->phase_ns[i];
    return ns;
}

static void add_phases(const cn_tracing_record *r, uint64_t longest_ns, cn_buf *out)
{
    cn_buf_add_text(out, "<svg class=\"phases\" role=\"img\" aria-label=\"");
    for (int i = 0, any = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        if (!r->phase_ns[i]) continue;
        cn_buf_add_format(out, "%s%s ", any++ ? ", " : "",
                          cn_tracing_phase_name((cn_tracing_phase)i));
        cn_page_unit_time(r->phase_ns[i], out);
    }
    cn_buf_add_text(out, "\">");
    double at = 0;
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        const double width = 100.0 * (double)r->phase_ns[i] / (double)(longest_ns ? longest_ns : 1);
        const char *name = cn_tracing_phase_name((cn_tracing_phase)i);
        if (width >= 0.05) {
            cn_buf_add_format(out, "<rect class=\"%s\" x=\"%.2f%%\" width=\"%.2f%%\" height=\"14\">"
                              "<title>%s ", name, at, width, name);
            cn_page_unit_time(r->phase_ns[i], out);
            cn_buf_add_text(out, "</title></rect>");
        }
        at += width;
    }
    cn_buf_add_text(out, "</svg>");
}

static void add_slow_row(const cn_tracing_record *r, uint64_t longest_ns, cn_buf *out)
{
    char time[24];
    cn_page_time(r->end_wall_ns, time, sizeof time);
    time[8] = '\0';
    cn_buf_add_format(out, "<tr><td>%s</td><td class=\"mono\" title=\"", time);
    cn_page_unit_text(r->request_id, out);
    cn_buf_add_text(out, "\">");
    cn_page_unit_text(r->request_id, out);
    cn_buf_add_text(out, "</td><td>");
    cn_page_unit_text(r->route, out);
    cn_buf_add_format(out, "</td><td class=\"n\">%" PRIu32 "</td><td class=\"n\">", r->status);
    cn_page_unit_count(r->prompt_tokens, out);
    cn_buf_add_text(out, " → ");
    cn_page_unit_count(r->completion_tokens, out);
    cn_buf_add_text(out, "</td><td class=\"n\">");
    cn_page_unit_time(whole_ns(r), out);
    cn_buf_add_text(out, "</td><td class=\"wide\">");
    add_phases(r, longest_ns, out);
    cn_buf_add_text(out, "</td></tr>");
}

static void add_phase_key(cn_buf *out)
{
    cn_buf_add_text(out, "<ul class=\"key\">");
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        const char *name = cn_tracing_phase_name((cn_tracing_phase)i);
        cn_buf_add_format(out,
                          "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"%s\" "
                          "width=\"10\" height=\"10\" rx=\"2\"/></svg>%s</li>",
                          name, name);
    }
    cn_buf_add_text(out, "</ul>");
}

// The same as numbers, for those who want them or cannot see the bars.
static void add_phase_table(const cn_page *p, cn_buf *out)
{
    cn_buf_add_text(
        out, "<details><summary>Phases as numbers</summary><div class=\"scroll\" tabindex=\"0\" "
             "role=\"region\" aria-label=\"Phases as numbers\"><table class=\"slow\">"
             "<thead><tr><th scope=\"col\">Request</th>");
    for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
        cn_buf_add_format(out, "<th scope=\"col\" class=\"n\">%s</th>",
                          cn_tracing_phase_name((cn_tracing_phase)i));
    }
    cn_buf_add_text(out, "</tr></thead><tbody>");
    for (uint32_t k = 0; k < p->slow_count; k++) {
        cn_buf_add_text(out, "<tr><th scope=\"row\" class=\"mono\">");
        cn_page_unit_text(p->slow[k].request_id, out);
        cn_buf_add_text(out, "</th>");
        for (int i = 0; i < CN_TRACING_PHASE_COUNT; i++) {
            cn_buf_add_text(out, "<td class=\"n\">");
            cn_page_unit_time(p->slow[k].phase_ns[i], out);
            cn_buf_add_text(out, "</td>");
        }
        cn_buf_add_text(out, "</tr>");
    }
    cn_buf_add_text(out, "</tbody></table></div></details>");
}

void cn_page_block_slow(const cn_page *p, cn_buf *out)
{
    if (p->slow_count == 0) {
        cn_buf_add_text(
            out, "<p class=\"empty\">No request has been in the queue in the last hour.</p>");
        return;
    }
    cn_buf_add_text(
        out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"h-slow\">"
             "<table class=\"slow bars\"><thead><tr><th scope=\"col\">Ended</th><th scope=\"col\">"
             "Request</th><th scope=\"col\">Route</th><th scope=\"col\" class=\"n\">Status</th>"
             "<th scope=\"col\" class=\"n\">Tokens</th><th scope=\"col\" class=\"n\">Time</th>"
             "<th scope=\"col\">Where it went</th></tr></thead><tbody>");
    for (uint32_t i = 0; i < p->slow_count; i++) {
        add_slow_row(&p->slow[i], whole_ns(&p->slow[0]), out);
    }
    cn_buf_add_text(out, "</tbody></table></div>");
    add_phase_key(out);
    add_phase_table(p, out);
}

void cn_page_block_config(const cn_page *p, cn_buf *out)
{
    if (p->setting_count == 0) {
        cn_buf_add_text(out, "<p class=\"empty\">Everything is at its default.</p>");
        return;
    }
    cn_buf_add_text(
        out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"h-config\">"
             "<table class=\"keys\"><thead><tr><th scope=\"col\">Key</th>"
             "<th scope=\"col\">Value</th><th scope=\"col\">Set by</th></tr></thead><tbody>");
    for (uint32_t i = 0; i < p->setting_count; i++) {
        const cn_page_setting *s = &p->settings[i];
        cn_buf_add_format(out, "<tr><th scope=\"row\" class=\"mono\">%s</th><td class=\"mono\">",
                          s->key);
        cn_page_unit_text(s->value, out);
        cn_buf_add_format(out, "</td><td>%s</td></tr>", s->source);
    }
    cn_buf_add_text(out, "</tbody></table></div>");
}
