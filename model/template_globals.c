#include "model/template_native_int.h"

#include <stdio.h>
#include <time.h>

#include "model/template_run_int.h"
#include "model/template_strings_int.h"
#include "model/template_text_int.h"

enum { RANGE_MAX = 100000 };     // as Jinja's sandbox

static cn_value range_of(cn_run *run, int64_t start, int64_t stop, int64_t step)
{
    if (step == 0) return cn_template_run_invalid(run, "range() arg 3 must not be zero");
    const __int128 span = step > 0 ? (__int128)stop - start : (__int128)start - stop;
    const __int128 by = step > 0 ? step : -(__int128)step;
    const __int128 count = span <= 0 ? 0 : (span - 1) / by + 1;
    if (count > RANGE_MAX) {
        return cn_template_run_fail(run, CN_E_LIMIT, "range() is longer than %d", RANGE_MAX);
    }
    cn_range *range = cn_template_run_take(run, 1, sizeof *range);
    if (!range) return make_bad();
    *range = (cn_range){.start = start, .stop = stop, .step = step, .count = (int64_t)count};
    return (cn_value){.kind = CN_RANGE, .as.range = range};
}

static cn_value global_range(cn_run *run, const cn_value *a, const cn_args *args)
{
    int64_t first, second, step;
    (void)args;
    if (!cn_template_strings_want_int(run, a[0], "range's argument", 0, &first) ||
        !cn_template_strings_want_int(run, a[1], "range's argument", 0, &second) ||
        !cn_template_strings_want_int(run, a[2], "range's argument", 1, &step)) {
        return make_bad();
    }
    return is_missing(a[1]) ? range_of(run, 0, first, 1) : range_of(run, first, second, step);
}

static bool add_pair(cn_run *run, cn_dict *dict, cn_value item)
{
    const cn_value pair = cn_template_value_list(run, item);
    if (is_bad(pair)) return false;
    if (pair.len == 2) return cn_template_value_put(run, dict, pair.as.items[0], pair.as.items[1]);
    cn_template_run_invalid(run, "dict() wants pairs, not %u values", pair.len);
    return false;
}

static bool add_all(cn_run *run, cn_dict *dict, cn_value from)
{
    cn_walk walk;
    cn_value item;
    if (from.kind == CN_DICT) {
        for (uint32_t i = 0; i < from.as.dict->count; i++) {
            const cn_entry *entry = &from.as.dict->entries[i];
            if (!cn_template_value_put(run, dict, entry->key, entry->value)) return false;
        }
        return true;
    }
    if (is_undefined(from)) {
        cn_template_run_undefined(run, from);
        return false;
    }
    if (!cn_template_value_walk(run, from, &walk)) return false;
    while (cn_template_value_next(run, &walk, &item)) {
        if (!add_pair(run, dict, item)) return false;
    }
    return !run->code;
}

static cn_dict *dict_of(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_dict *dict = cn_template_value_dict(run, args->named_count);
    if (!dict) return NULL;
    if (args->positional_count > 1) {
        cn_template_run_invalid(run, "dict expected at most 1 argument, got %u",
                                args->positional_count);
        return NULL;
    }
    if (args->positional_count && !add_all(run, dict, a[0])) return NULL;
    for (uint32_t i = 0; i < args->named_count; i++) {
        const cn_text name = args->named[i].name;
        const cn_value key = make_text(name.at, name.len);
        if (!cn_template_value_put(run, dict, key, args->named[i].value)) return NULL;
    }
    return dict;
}

static cn_value global_dict(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_dict *dict = dict_of(run, a, args);
    return dict ? make_dict(CN_DICT, dict) : make_bad();
}

static cn_value global_namespace(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_dict *dict = dict_of(run, a, args);
    if (!dict) return make_bad();
    for (uint32_t i = 0; i < dict->count; i++) {
        const cn_value key = dict->entries[i].key;
        if (!is_string(key) || !key.len || key.as.text[0] != '_') continue;
        return cn_template_run_invalid(
            run, "a namespace has no names with a leading underscore: '%.*s'",
            key.len < 60 ? (int)key.len : 60, key.as.text);
    }
    return make_dict(CN_NAMESPACE, dict);
}

static cn_value global_cycler(cn_run *run, const cn_value *a, const cn_args *args)
{
    const uint32_t count = args->positional_count;
    if (!count) return cn_template_run_invalid(run, "at least one item has to be provided");
    cn_value *items = cn_template_run_take(run, count, sizeof *items);
    cn_cycler *cycler = cn_template_run_take(run, 1, sizeof *cycler);
    if (!items || !cycler) return make_bad();
    memcpy(items, a, count * sizeof *items);
    *cycler = (cn_cycler){.items = items, .count = count};
    return (cn_value){.kind = CN_CYCLER, .as.cycler = cycler};
}

static cn_value global_joiner(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_joiner *joiner = cn_template_run_take(run, 1, sizeof *joiner);
    (void)args;
    if (!joiner) return make_bad();
    *joiner = (cn_joiner){.separator = is_missing(a[0]) ? make_text(", ", 2) : a[0]};
    return (cn_value){.kind = CN_JOINER, .as.joiner = joiner};
}

// The template's own sentence is the error, without name and line.
static cn_value global_raise_exception(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const cn_value text = cn_template_text_string(run, a[0]);
    if (is_bad(text)) return text;
    run->code = cn_err_set(run->err, CN_E_INVALID, "%.*s", (int)text.len, text.as.text);
    return make_bad();
}

// One conversion `%x`, `%-x`, ... at `at`, which it passes.
static bool emit_time(cn_run *run, cn_text format, size_t *at, const struct tm *now)
{
    char conversion[4] = "%", text[256];
    size_t len = 1;
    (*at)++;
    if (*at < format.len && strchr("-_0^#", format.at[*at])) conversion[len++] = format.at[(*at)++];
    const char letter = *at < format.len ? format.at[(*at)++] : 0;
    if (letter == 'f') return cn_template_run_emit_text(run, "000000");
    // The time is naive, as datetime.now(): it has no zone to write.
    if (letter == 'z' || letter == 'Z') return true;
    if (!letter || !strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%", letter)) {
        cn_template_run_invalid(run, "strftime_now() does not know '%%%c'", letter ? letter : ' ');
        return false;
    }
    conversion[len++] = letter;
    conversion[len] = '\0';
    return cn_template_run_emit(run, text, strftime(text, sizeof text, conversion, now));
}

static cn_value global_strftime_now(cn_run *run, const cn_value *a, const cn_args *args)
{
    const time_t seconds = (time_t)run->now_s;
    struct tm now;
    cn_text format;
    (void)args;
    if (!cn_template_strings_want(run, a[0], "strftime_now's format", &format)) return make_bad();
    if (!gmtime_r(&seconds, &now)) return cn_template_run_invalid(run, "the time is out of range");
    const size_t mark = cn_template_run_begin(run);
    for (size_t at = 0; at < format.len && !run->code;) {
        if (format.at[at] == '%') emit_time(run, format, &at, &now);
        else cn_template_run_emit(run, format.at + at++, 1);
    }
    return cn_template_run_end(run, mark);
}

static const cn_function globals[] = {
#define GLOBAL(name, function, min, max, ...)                                                      \
    {&(const cn_native){name, function, min, max, {__VA_ARGS__}}, {.kind = CN_MISSING}}
    GLOBAL("cycler", global_cycler, 0, CN_VARIADIC, NULL),
    GLOBAL("dict", global_dict, 0, CN_VARIADIC, NULL),
    GLOBAL("joiner", global_joiner, 0, 1, "sep"),
    GLOBAL("namespace", global_namespace, 0, CN_VARIADIC, NULL),
    GLOBAL("raise_exception", global_raise_exception, 1, 1, "message"),
    GLOBAL("range", global_range, 1, 3, NULL),
    GLOBAL("strftime_now", global_strftime_now, 1, 1, "format"),
#undef GLOBAL
};

cn_value cn_template_globals_find(cn_run *run, cn_text name)
{
    (void)run;
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (text_is(name, globals[i].native->name)) {
            return (cn_value){.kind = CN_FUNCTION, .as.function = &globals[i]};
        }
    }
    return make_missing();
}
