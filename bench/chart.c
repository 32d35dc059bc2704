#include "bench/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 720, HEIGHT = 280, LEFT = 72, RIGHT = 16, TOP = 28, BOTTOM = 48, TICKS = 5 };

void cn_chart_add_text(const char *text, cn_buf *out)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': cn_buf_add_text(out, "&amp;"); break;
        case '<': cn_buf_add_text(out, "&lt;"); break;
        case '>': cn_buf_add_text(out, "&gt;"); break;
        case '"': cn_buf_add_text(out, "&quot;"); break;
        default: cn_buf_add_char(out, *text);
        }
    }
}

// The smallest of 1, 2, 5 times a power of ten that makes at most TICKS steps up to `max`.
static double step_for(double max)
{
    if (!(max > 0)) return 1;
    const double power = pow(10, floor(log10(max / TICKS)));
    for (double factor = 1; factor < 20; factor = factor == 1 ? 2 : factor == 2 ? 5 : 10) {
        if (power * factor * TICKS >= max * (1 - 1e-9)) return power * factor;
    }
    return power * 10;
}

static double max_of(const cn_chart *c)
{
    double max = 0;
    for (uint32_t k = 0; k < c->line_count; k++) {
        for (uint32_t i = 0; i < c->count; i++) max = fmax(max, c->lines[k].y[i]);
    }
    return max;
}

static double plot_x(double share) { return LEFT + share * (WIDTH - LEFT - RIGHT); }
static double plot_y(double share) { return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM); }

// Where an x value lies from 0 to 1.
static double share_of(const cn_chart *c, double x)
{
    const double first = c->x[0], last = c->x[c->count - 1];
    if (c->nines) return -log10(fmax(1e-3, 1 - x / 100)) / 3;
    return last > first ? (x - first) / (last - first) : 0.5;
}

static void begin(const cn_chart *c, double top, double step, cn_buf *out)
{
    cn_buf_add_format(out, "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"%s-t "
                      "%s-d\"><title id=\"%s-t\">", WIDTH, HEIGHT, c->id, c->id, c->id);
    cn_chart_add_text(c->title, out);
    cn_buf_add_format(out, "</title><desc id=\"%s-d\">", c->id);
    for (uint32_t k = 0; k < c->line_count; k++) {
        double line_max = 0;
        for (uint32_t i = 0; i < c->count; i++) line_max = fmax(line_max, c->lines[k].y[i]);
        cn_buf_add_text(out, k ? "; " : "");
        cn_chart_add_text(c->lines[k].name, out);
        cn_buf_add_format(out, ": at most %.6g, at the end %.6g", line_max,
                          c->count ? c->lines[k].y[c->count - 1] : 0);
    }
    cn_buf_add_text(out, "</desc>");
    for (double y = 0; y <= top + step / 2; y += step) {
        const double at = plot_y(y / top);
        cn_buf_add_format(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"y\" x=\"%d\" "
                          "y=\"%.1f\">%.6g</text>", LEFT, at, WIDTH - RIGHT, LEFT - 8, at + 4, y);
    }
    cn_buf_add_format(out, "<text x=\"%d\" y=\"16\">", LEFT - 60);
    cn_chart_add_text(c->y_name, out);
    cn_buf_add_format(out, "</text><text class=\"x\" x=\"%.1f\" y=\"%d\">", plot_x(0.5),
                      HEIGHT - 8);
    cn_chart_add_text(c->x_name, out);
    cn_buf_add_text(out, "</text>");
}

static void add_x_ticks(const cn_chart *c, cn_buf *out)
{
    static const double nines[] = {0, 50, 90, 99, 99.9};
    const double step = c->count ? step_for(c->x[c->count - 1]) : 1;
    for (int i = 0; i <= TICKS; i++) {
        const double x = c->nines ? nines[i < TICKS ? i : 0] : i * step;
        if ((c->nines && i == TICKS) || (!c->nines && (x < c->x[0] || x > c->x[c->count - 1])))
            continue;
        cn_buf_add_format(out, "<text class=\"x\" x=\"%.1f\" y=\"%d\">%.6g</text>",
                          plot_x(share_of(c, x)), HEIGHT - BOTTOM + 18, x);
    }
}

static void add_legend(const cn_chart *c, cn_buf *out)
{
    cn_buf_add_text(out, "</svg><figcaption>");
    cn_chart_add_text(c->title, out);
    for (uint32_t k = 0; k < c->line_count && c->line_count > 1; k++) {
        cn_buf_add_format(
            out,
            " <span class=\"key\"><svg viewBox=\"0 0 32 8\" aria-hidden=\"true\"><path "
            "class=\"line l%u\" d=\"M0 4H32\"/></svg>",
            k);
        cn_chart_add_text(c->lines[k].name, out);
        cn_buf_add_text(out, "</span>");
    }
    cn_buf_add_text(out, "</figcaption></figure>\n");
}

static double top_of(double max, double step)
{
    return max > 0 ? ceil(max / step - 1e-9) * step : step;
}

void cn_chart_write_lines(const cn_chart *c, cn_buf *out)
{
    const double max = max_of(c), step = step_for(max), top = top_of(max, step);
    begin(c, top, step, out);
    if (c->count > 0) add_x_ticks(c, out);
    for (uint32_t k = 0; k < c->line_count && c->count > 0; k++) {
        cn_buf_add_format(out, "<path class=\"line l%u\" d=\"", k);
        for (uint32_t i = 0; i < c->count; i++) {
            cn_buf_add_format(out, "%c%.1f %.1f", i ? 'L' : 'M', plot_x(share_of(c, c->x[i])),
                              plot_y(c->lines[k].y[i] / top));
        }
        // A single point is a line too short to be seen.
        if (c->count == 1) cn_buf_add_text(out, "h8");
        cn_buf_add_text(out, "\"/>");
    }
    add_legend(c, out);
}

void cn_chart_write_bars(const cn_chart *c, const char *const *labels, cn_buf *out)
{
    const double max = max_of(c), step = step_for(max), top = top_of(max, step);
    begin(c, top, step, out);
    for (uint32_t i = 0; i < c->count; i++) {
        const double from = plot_x((i + 0.1) / c->count), to = plot_x((i + 0.9) / c->count);
        const double at = plot_y(c->lines[0].y[i] / top);
        cn_buf_add_format(
            out,
            "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>"
            "<text class=\"x\" x=\"%.1f\" y=\"%d\">%s</text>",
            from, at, to - from, plot_y(0) - at, (from + to) / 2, HEIGHT - BOTTOM + 18, labels[i]);
    }
    add_legend(c, out);
}
