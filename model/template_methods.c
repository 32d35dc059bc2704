#include "model/template_native_int.h"

#include <math.h>

#include "model/template_format_int.h"
#include "model/template_loop_int.h"
#include "model/template_methods_int.h"
#include "model/template_ops_int.h"
#include "model/template_strings_int.h"

/* Methods of everything but strings. Those that would change a value are in the tables without a
 * function: templates get an undefined value for them, as from Jinja's immutable sandbox. */

static cn_value view(cn_value of, uint8_t flags)
{
    return (cn_value){.kind = CN_VIEW, .flags = flags, .as.dict = of.as.dict};
}

static cn_value dict_items(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return view(a[0], CN_VIEW_ITEMS);
}

static cn_value dict_keys(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return view(a[0], CN_VIEW_KEYS);
}

static cn_value dict_values(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return view(a[0], CN_VIEW_VALUES);
}

static cn_value dict_get(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    const cn_entry *entry = cn_template_value_find(run, a[0].as.dict, a[1]);
    if (entry) return entry->value;
    if (run->code) return make_bad();
    return is_missing(a[2]) ? make_none() : a[2];
}

// Values are immutable, so a copy is the value.
static cn_value copy(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return a[0];
}

static cn_value sequence_count(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value list = cn_template_value_list(run, a[0]);
    int64_t count = 0;
    (void)args;
    for (uint32_t i = 0; i < list.len; i++) {
        const int equal = cn_template_value_equal(run, list.as.items[i], a[1]);
        if (equal < 0) return make_bad();
        count += equal;
    }
    return is_bad(list) ? list : make_int(count);
}

static cn_value sequence_index(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value list = cn_template_value_list(run, a[0]);
    int64_t from, to;
    (void)args;
    if (is_bad(list)) return list;
    if (!cn_template_strings_want_int(run, a[2], "index's start", 0, &from) ||
        !cn_template_strings_want_int(run, a[3], "index's end", list.len, &to)) {
        return make_bad();
    }
    if (from < 0) from = from + list.len < 0 ? 0 : from + list.len;
    if (to < 0) to += list.len;
    for (int64_t i = from; i < to && i < list.len; i++) {
        const int equal = cn_template_value_equal(run, list.as.items[i], a[1]);
        if (equal < 0) return make_bad();
        if (equal) return make_int(i);
    }
    return cn_template_run_invalid(run, "index(): the value is not in the %s",
                                   cn_template_value_type(a[0]));
}

static cn_value loop_cycle(cn_run *run, const cn_value *a, const cn_args *args)
{
    const uint32_t count = args->positional_count - 1;
    if (!count) return cn_template_run_invalid(run, "no items for cycling given");
    return a[1 + a[0].as.loop->index0 % count];
}

static cn_value loop_changed(cn_run *run, const cn_value *a, const cn_args *args)
{
    const uint32_t count = args->positional_count - 1;
    cn_value *values = cn_template_run_take(run, count, sizeof *values);
    if (!values) return make_bad();
    if (count) memcpy(values, a + 1, count * sizeof *values);
    const cn_value tuple = make_items(CN_TUPLE, values, count);
    const int changed = cn_template_loop_changed(run, a[0].as.loop, tuple);
    return changed < 0 ? make_bad() : make_bool(changed);
}

static cn_value cycler_next(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_cycler *cycler = a[0].as.cycler;
    const cn_value item = cycler->items[cycler->at];
    (void)run, (void)args;
    cycler->at = (cycler->at + 1) % cycler->count;
    return item;
}

static cn_value cycler_reset(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    a[0].as.cycler->at = 0;
    return make_none();
}

static cn_value float_is_integer(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(isfinite(a[0].as.real) && a[0].as.real == floor(a[0].as.real));
}

static const cn_native dict_methods[] = {
    {"copy", copy, 1, 1, {NULL}},
    {"get", dict_get, 2, 3, {NULL}},
    {"items", dict_items, 1, 1, {NULL}},
    {"keys", dict_keys, 1, 1, {NULL}},
    {"values", dict_values, 1, 1, {NULL}},
    {"clear", NULL, 0, 0, {NULL}},
    {"fromkeys", NULL, 0, 0, {NULL}},
    {"pop", NULL, 0, 0, {NULL}},
    {"popitem", NULL, 0, 0, {NULL}},
    {"setdefault", NULL, 0, 0, {NULL}},
    {"update", NULL, 0, 0, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

static const cn_native list_methods[] = {
    {"copy", copy, 1, 1, {NULL}},
    {"count", sequence_count, 2, 2, {NULL}},
    {"index", sequence_index, 2, 4, {NULL}},
    {"append", NULL, 0, 0, {NULL}},
    {"clear", NULL, 0, 0, {NULL}},
    {"extend", NULL, 0, 0, {NULL}},
    {"insert", NULL, 0, 0, {NULL}},
    {"pop", NULL, 0, 0, {NULL}},
    {"remove", NULL, 0, 0, {NULL}},
    {"reverse", NULL, 0, 0, {NULL}},
    {"sort", NULL, 0, 0, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

// Tuples and ranges.
static const cn_native tuple_methods[] = {
    {"count", sequence_count, 2, 2, {NULL}},
    {"index", sequence_index, 2, 4, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

static const cn_native loop_methods[] = {
    {"changed", loop_changed, 1, CN_VARIADIC, {NULL}},
    {"cycle", loop_cycle, 1, CN_VARIADIC, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

static const cn_native cycler_methods[] = {
    {"next", cycler_next, 1, 1, {NULL}},
    {"reset", cycler_reset, 1, 1, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

static const cn_native float_methods[] = {
    {"is_integer", float_is_integer, 1, 1, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

const cn_native *cn_template_methods_find(cn_kind kind, cn_text name)
{
    switch (kind) {
    case CN_STRING: return cn_template_native_find(cn_template_string_methods, name);
    case CN_DICT: return cn_template_native_find(dict_methods, name);
    case CN_LIST: return cn_template_native_find(list_methods, name);
    case CN_TUPLE:
    case CN_RANGE: return cn_template_native_find(tuple_methods, name);
    case CN_LOOP: return cn_template_native_find(loop_methods, name);
    case CN_CYCLER: return cn_template_native_find(cycler_methods, name);
    case CN_FLOAT: return cn_template_native_find(float_methods, name);
    default: return NULL;
    }
}
