#include "model/pre_tokenizer_int.h"

#include <string.h>

#include "model/tokenizer_unicode_int.h"

/* How it works. The steps are nested: each piece that a step cuts goes through all later steps before
 * the next piece is looked for, so no list of pieces exists. A step may first rewrite the piece
 * (spaces to a mark, something in front), then cuts it into ranges that are matches or lie between
 * matches; the behavior says which ranges are dropped and which join. Every behavior needs to know
 * at most the range before, which is held back until it is certain. */

typedef struct walk {
    const cn_pre_tokenizer *pre;
    cn_tokenizer_work *work;
    cn_pre_tokenizer_sink *take;
    const void *sink;
} walk;

typedef struct cutter {
    const walk *walk;
    uint32_t next;                   // the step that takes the pieces
    cn_tokenizer_text text;
    cn_pre_tokenizer_behavior behavior;
    bool invert;
    bool held;                       // [start, end) waits to be joined or passed on
    bool held_match;
    size_t start, end;
} cutter;

static cn_code run_steps(const walk *w, uint32_t index, const cn_tokenizer_text *text);

static cn_code pass_on(cutter *c, size_t start, size_t end)
{
    if (start == end) return CN_OK;
    const cn_tokenizer_text piece = {c->text.at + start, end - start, c->text.first && start == 0};
    return run_steps(c->walk, c->next, &piece);
}

static cn_code release(cutter *c)
{
    if (!c->held) return CN_OK;
    c->held = false;
    return pass_on(c, c->start, c->end);
}

// Whether a range joins the one that is held.
static bool joins(const cutter *c, bool match)
{
    switch (c->behavior) {
    case CN_PRE_TOKENIZER_MERGED_WITH_PREVIOUS: return match && !c->held_match;
    case CN_PRE_TOKENIZER_MERGED_WITH_NEXT: return !match && c->held_match;
    case CN_PRE_TOKENIZER_CONTIGUOUS: return match == c->held_match;
    case CN_PRE_TOKENIZER_REMOVED:
    case CN_PRE_TOKENIZER_ISOLATED: break;
    }
    return false;
}

static cn_code cut(cutter *c, size_t start, size_t end, bool match)
{
    match ^= c->invert;
    if (c->behavior == CN_PRE_TOKENIZER_REMOVED) return match ? CN_OK : pass_on(c, start, end);
    if (c->behavior == CN_PRE_TOKENIZER_ISOLATED) return pass_on(c, start, end);
    if (c->held && joins(c, match)) {
        c->end = end;
        c->held_match = c->behavior == CN_PRE_TOKENIZER_MERGED_WITH_NEXT ? false : match;
        return CN_OK;
    }
    const cn_code code = release(c);
    c->held = true;
    c->held_match = match;
    c->start = start;
    c->end = end;
    return code;
}

static cn_code cut_by_pattern(cutter *c, const cn_tokenizer_pattern *pattern)
{
    cn_tokenizer_scan scan;
    size_t done = 0, start, end;
    bool found = true;
    cn_tokenizer_work *work = c->walk->work;
    cn_code code = cn_tokenizer_pattern_scan(pattern, work, c->text.at, c->text.len, &scan);
    while (code == CN_OK) {
        code = cn_tokenizer_pattern_next(&scan, &found, &start, &end);
        if (code != CN_OK || !found) break;
        if (done != start) code = cut(c, done, start, false);
        if (code == CN_OK) code = cut(c, start, end, true);
        done = end;
    }
    if (code == CN_OK && done != c->text.len) code = cut(c, done, c->text.len, false);
    return code == CN_OK ? release(c) : code;
}

static cn_code cut_by_class(cutter *c, bool (*is_cut)(int32_t))
{
    size_t done = 0;
    cn_code code = CN_OK;
    for (size_t at = 0, step; at < c->text.len && code == CN_OK; at += step) {
        if (!is_cut(cn_tokenizer_unicode_at(c->text.at + at, &step))) continue;
        if (done != at) code = cut(c, done, at, false);
        if (code == CN_OK) code = cut(c, at, at + step, true);
        done = at + step;
    }
    if (code == CN_OK && done != c->text.len) code = cut(c, done, c->text.len, false);
    return code == CN_OK ? release(c) : code;
}

// The text with every space as the mark; itself if there is none. False: no memory.
static bool mark_spaces(const cn_pre_tokenizer_step *step, cn_arena *arena, cn_tokenizer_text *text)
{
    size_t spaces = 0, len = 0;
    for (size_t i = 0; i < text->len; i++) spaces += text->at[i] == ' ';
    if (spaces == 0) return true;
    char *out = cn_arena_take(arena, text->len + spaces * step->mark_len);
    if (!out) return false;
    for (size_t i = 0; i < text->len; i++) {
        if (text->at[i] != ' ') {
            out[len++] = text->at[i];
            continue;
        }
        memcpy(out + len, step->mark, step->mark_len);
        len += step->mark_len;
    }
    text->at = out;
    text->len = len;
    return true;
}

static bool prepend_mark(const cn_pre_tokenizer_step *step, cn_arena *arena,
                         cn_tokenizer_text *text)
{
    const bool wanted = step->prepend == CN_PRE_TOKENIZER_ALWAYS ||
                        (step->prepend == CN_PRE_TOKENIZER_FIRST && text->first);
    const size_t n = step->mark_len;
    if (!wanted || (text->len >= n && memcmp(text->at, step->mark, n) == 0)) return true;
    char *out = cn_arena_take(arena, text->len + n);
    if (!out) return false;
    memcpy(out, step->mark, n);
    memcpy(out + n, text->at, text->len);
    text->at = out;
    text->len += n;
    return true;
}

static cn_code run_steps(const walk *w, uint32_t index, const cn_tokenizer_text *text)
{
    if (index == w->pre->count) return w->take(w->sink, w->work, text->at, text->len);
    const cn_pre_tokenizer_step *step = &w->pre->steps[index];
    cutter c = {.walk = w, .next = index + 1, .text = *text, .invert = step->invert,
                .behavior = (cn_pre_tokenizer_behavior)step->behavior};
    if ((step->marks && !mark_spaces(step, w->work->arena, &c.text)) ||
        !prepend_mark(step, w->work->arena, &c.text)) {
        return cn_tokenizer_work_memory(w->work);
    }
    if (step->passes) return run_steps(w, index + 1, &c.text);
    return step->pattern ? cut_by_pattern(&c, step->pattern) : cut_by_class(&c, step->is_cut);
}

cn_code cn_pre_tokenizer_run(const cn_pre_tokenizer *pre, cn_tokenizer_work *work,
                             const cn_tokenizer_text *text, cn_pre_tokenizer_sink *take,
                             const void *sink)
{
    const walk w = {pre, work, take, sink};
    return text->len ? run_steps(&w, 0, text) : CN_OK;
}
