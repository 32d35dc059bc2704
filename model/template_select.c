#include "model/template_select_int.h"

#include "model/template_ops_int.h"
#include "model/template_sort_int.h"
#include "model/template_strings_int.h"
#include "model/template_text_int.h"
#include "model/template_unicode_int.h"

/* How it works. Filters that Python writes as generators are computed at once and give an ITERATOR:
 * it can be walked once, has no length and no items by index, as templates expect of them. */

// What to take from an item before it is compared.
typedef struct getter {
    cn_value attribute;          // a path "a.b.0", an int, or MISSING: the item itself
    cn_value absent;             // instead of undefined; MISSING: stays undefined
    bool ignore_case;
} getter;

static bool flag(cn_value v) { return !is_missing(v) && cn_template_value_truth(v); }

static cn_value lower_case(cn_run *run, cn_value v)
{
    if (!is_string(v)) return v;
    const size_t mark = cn_template_run_begin(run);
    cn_template_unicode_lower(run, text_of(v));
    return cn_template_run_end(run, mark);
}

static cn_value path_part(cn_text part)
{
    int64_t number = 0;
    for (size_t i = 0; i < part.len; i++) {
        if (part.at[i] < '0' || part.at[i] > '9' || i == 18) return make_text(part.at, part.len);
        number = number * 10 + (part.at[i] - '0');
    }
    return part.len ? make_int(number) : make_text(part.at, 0);
}

static cn_value step_into(cn_run *run, cn_value item, cn_value part, cn_value absent)
{
    item = cn_template_ops_item(run, item, part);
    return is_undefined(item) && !is_missing(absent) ? absent : item;
}

static cn_value follow(cn_run *run, cn_value item, cn_text path, cn_value absent)
{
    for (;;) {
        const char *dot = path.len ? memchr(path.at, '.', path.len) : NULL;
        const cn_text part = {path.at, dot ? (size_t)(dot - path.at) : path.len};
        item = step_into(run, item, path_part(part), absent);
        if (is_bad(item) || !dot) return item;
        path.len -= part.len + 1;
        path.at = dot + 1;
    }
}

static cn_value get(cn_run *run, cn_value item, const void *context)
{
    const getter *g = context;
    if (is_string(g->attribute)) item = follow(run, item, text_of(g->attribute), g->absent);
    else if (!is_missing(g->attribute) && g->attribute.kind != CN_NONE) {
        item = step_into(run, item, g->attribute, g->absent);
    }
    return is_bad(item) || !g->ignore_case ? item : lower_case(run, item);
}

/* As get, in a list: an attribute "a,b" gives both. It is a list also for one, because equal items
 * of lists need no order: what is undefined twice can be sorted. */
static cn_value get_many(cn_run *run, cn_value item, const void *context)
{
    getter g = *(const getter *)context;
    const bool named = is_string(g.attribute);
    const cn_text names = named ? text_of(g.attribute) : (cn_text){"", 0};
    size_t count = 1;
    for (size_t i = 0; i < names.len; i++) count += names.at[i] == ',';
    cn_value *keys = cn_template_run_take(run, count, sizeof *keys);
    if (!keys) return make_bad();
    const char *at = names.at, *end = names.at + names.len;
    for (size_t i = 0; i < count; i++) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        if (named) g.attribute = make_text(at, (size_t)((comma ? comma : end) - at));
        keys[i] = get(run, item, &g);
        if (is_bad(keys[i])) return make_bad();
        at = comma ? comma + 1 : end;
    }
    return make_items(CN_LIST, keys, count);
}

static cn_value iterator(cn_run *run, cn_value list)
{
    if (is_bad(list)) return list;
    cn_iterator *made = cn_template_run_take(run, 1, sizeof *made);
    if (!made) return make_bad();
    *made = (cn_iterator){.items = list.as.items, .count = list.len};
    return (cn_value){.kind = CN_ITERATOR, .as.iterator = made};
}

static cn_value *copy_room(cn_run *run, cn_value list)
{
    return is_bad(list) ? NULL : cn_template_run_take(run, list.len, sizeof(cn_value));
}

static cn_value filter_sort(cn_run *run, const cn_value *a, const cn_args *args)
{
    const getter g = {.attribute = a[3], .absent = make_missing(), .ignore_case = !flag(a[2])};
    int64_t reverse;
    (void)args;
    if (!cn_template_strings_want_int(run, a[1], "reverse", 0, &reverse)) return make_bad();
    return cn_template_sort_items(run, a[0], reverse != 0, get_many, &g);
}

static cn_value by_position(cn_run *run, cn_value pair, const void *context)
{
    const getter *g = context;
    const cn_value v = pair.as.items[whole_of(g->attribute)];
    return g->ignore_case ? lower_case(run, v) : v;
}

static cn_value filter_dictsort(cn_run *run, const cn_value *a, const cn_args *args)
{
    getter g = {.attribute = make_int(0), .ignore_case = !flag(a[1])};
    int64_t reverse;
    (void)args;
    if (!cn_template_strings_want_int(run, a[3], "reverse", 0, &reverse)) return make_bad();
    if (a[0].kind != CN_DICT) {
        if (is_undefined(a[0])) return cn_template_run_undefined(run, a[0]);
        return cn_template_run_invalid(run, "dictsort() wants a dict, not %s",
                                       cn_template_value_type(a[0]));
    }
    if (!is_missing(a[2])) {
        const bool by_value = is_string(a[2]) && text_is(text_of(a[2]), "value");
        if (!by_value && !(is_string(a[2]) && text_is(text_of(a[2]), "key"))) {
            return cn_template_run_invalid(run, "dictsort() sorts by \"key\" or \"value\"");
        }
        g.attribute = make_int(by_value);
    }
    const cn_value items = {.kind = CN_VIEW, .flags = CN_VIEW_ITEMS, .as.dict = a[0].as.dict};
    return cn_template_sort_items(run, items, reverse != 0, by_position, &g);
}

static cn_value filter_unique(cn_run *run, const cn_value *a, const cn_args *args)
{
    const getter g = {.attribute = a[2], .absent = make_missing(), .ignore_case = !flag(a[1])};
    const cn_value list = cn_template_value_list(run, a[0]);
    cn_value *kept = copy_room(run, list);
    cn_dict *seen = kept ? cn_template_value_dict(run, 0) : NULL;
    size_t count = 0;
    (void)args;
    if (!seen) return make_bad();
    for (uint32_t i = 0; i < list.len; i++) {
        const uint32_t before = seen->count;
        const cn_value key = get(run, list.as.items[i], &g);
        if (is_bad(key) || !cn_template_value_put(run, seen, key, make_none())) return make_bad();
        if (seen->count > before) kept[count++] = list.as.items[i];
    }
    return iterator(run, make_items(CN_LIST, kept, count));
}

// The item whose key is least (`sign` -1) or greatest (1), the first among equals.
static cn_value extreme(cn_run *run, const cn_value *a, int sign)
{
    const getter g = {.attribute = a[2], .absent = make_missing(), .ignore_case = !flag(a[1])};
    const cn_value list = cn_template_value_list(run, a[0]);
    cn_value best_key = make_missing();
    uint32_t best = 0;
    int order;
    if (is_bad(list)) return list;
    if (!list.len) return make_sentence("No aggregated item, sequence was empty.");
    for (uint32_t i = 0; i < list.len; i++) {
        const cn_value key = get(run, list.as.items[i], &g);
        if (is_bad(key)) return key;
        if (i && !cn_template_value_order(run, key, best_key, &order)) return make_bad();
        if (i && order != sign) continue;
        best_key = key;
        best = i;
    }
    return list.as.items[best];
}

static cn_value filter_min(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return extreme(run, a, -1);
}

static cn_value filter_max(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return extreme(run, a, 1);
}

static cn_value make_group(cn_run *run, const cn_value *items, size_t count, const getter *g)
{
    getter shown = *g;
    shown.ignore_case = false;
    cn_value *pair = cn_template_run_take(run, 2, sizeof *pair);
    if (!pair) return make_bad();
    pair[0] = get(run, items[0], &shown);
    pair[1] = make_items(CN_LIST, items, count);
    cn_value group = make_items(CN_TUPLE, pair, 2);
    group.flags = CN_GROUP;
    return is_bad(pair[0]) ? make_bad() : group;
}

static cn_value filter_groupby(cn_run *run, const cn_value *a, const cn_args *args)
{
    const getter g = {.attribute = a[1], .absent = a[2].kind == CN_NONE ? make_missing() : a[2],
                      .ignore_case = !flag(a[3])};
    const cn_value sorted = cn_template_sort_items(run, a[0], false, get, &g);
    cn_value *groups = copy_room(run, sorted);
    size_t count = 0;
    (void)args;
    if (!groups) return make_bad();
    for (uint32_t from = 0, end; from < sorted.len; from = end) {
        const cn_value key = get(run, sorted.as.items[from], &g);
        for (end = from + 1; end < sorted.len; end++) {
            const int equal =
                cn_template_value_equal(run, key, get(run, sorted.as.items[end], &g));
            if (equal < 0) return make_bad();
            if (!equal) break;
        }
        groups[count] = make_group(run, sorted.as.items + from, end - from, &g);
        if (is_bad(groups[count++])) return make_bad();
    }
    return make_items(CN_LIST, groups, count);
}

static cn_value filter_sum(cn_run *run, const cn_value *a, const cn_args *args)
{
    const getter g = {.attribute = a[1], .absent = make_missing()};
    cn_value total = is_missing(a[2]) ? make_int(0) : a[2];
    cn_walk walk;
    cn_value item;
    (void)args;
    if (is_string(total)) return cn_template_run_invalid(run, "sum() can't sum strings");
    if (!cn_template_value_walk(run, a[0], &walk)) return make_bad();
    while (cn_template_value_next(run, &walk, &item)) {
        item = get(run, item, &g);
        if (is_bad(item)) return item;
        total = cn_template_ops_binary(run, CN_OP_ADD, total, item);
        if (is_bad(total)) return total;
    }
    return run->code ? make_bad() : total;
}

static cn_value filter_join(cn_run *run, const cn_value *a, const cn_args *args)
{
    const getter g = {.attribute = a[2], .absent = make_missing()};
    const cn_value separator =
        is_missing(a[1]) ? make_text("", 0) : cn_template_text_string(run, a[1]);
    cn_walk walk;
    cn_value item;
    (void)args;
    if (is_bad(separator) || !cn_template_value_walk(run, a[0], &walk)) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    for (bool first = true; cn_template_value_next(run, &walk, &item); first = false) {
        if (!first && !cn_template_run_emit(run, separator.as.text, separator.len)) break;
        if (!cn_template_text_str(run, get(run, item, &g))) break;
    }
    return cn_template_run_end(run, mark);
}

// map

static cn_value map_attribute(cn_run *run, cn_value list, const cn_args *args)
{
    const getter g = {.attribute = cn_template_native_named(args, "attribute"),
                      .absent = cn_template_native_named(args, "default")};
    const uint32_t known = 1 + !is_missing(g.absent);
    cn_value *mapped = copy_room(run, list);
    if (!mapped) return make_bad();
    if (args->named_count > known) {
        return cn_template_run_invalid(run, "map() takes only attribute and default by name");
    }
    for (uint32_t i = 0; i < list.len; i++) {
        mapped[i] = get(run, list.as.items[i], &g);
        if (is_bad(mapped[i])) return make_bad();
    }
    return iterator(run, make_items(CN_LIST, mapped, list.len));
}

// The arguments behind the first `skipped`, with room for an item before them.
static bool inner_args(cn_run *run, const cn_args *args, uint32_t skipped, cn_value **room,
                       cn_args *inner)
{
    const uint32_t rest = args->positional_count - skipped;
    *room = cn_template_run_take(run, rest + 1u, sizeof **room);
    if (!*room) return false;
    if (rest) memcpy(*room + 1, args->positional + skipped, rest * sizeof **room);
    *inner = *args;
    inner->positional = *room;
    inner->positional_count = rest + 1;
    return true;
}

static const cn_native *named_native(cn_run *run, cn_value name, bool is_filter)
{
    const cn_text text = is_string(name) ? text_of(name) : (cn_text){"", 0};
    const cn_native *native =
        is_filter ? cn_template_filters_find(text) : cn_template_tests_find(text);
    if (native && native->call) return native;
    cn_template_run_invalid(run, "no %s named '%.*s'", is_filter ? "filter" : "test",
                            text.len < 60 ? (int)text.len : 60, text.at);
    return NULL;
}

static cn_value filter_map(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_value *room;
    cn_args inner;
    if (!cn_template_value_truth(a[0])) return iterator(run, make_items(CN_LIST, NULL, 0));
    const cn_value list = cn_template_value_list(run, a[0]);
    if (is_bad(list)) return list;
    if (args->positional_count == 1) {
        if (!is_missing(cn_template_native_named(args, "attribute"))) {
            return map_attribute(run, list, args);
        }
        return cn_template_run_invalid(run, "map() wants a filter or attribute=");
    }
    const cn_native *native = list.len ? named_native(run, a[1], true) : NULL;
    cn_value *mapped = copy_room(run, list);
    if ((list.len && !native) || !mapped || !inner_args(run, args, 2, &room, &inner)) {
        return make_bad();
    }
    for (uint32_t i = 0; i < list.len; i++) {
        room[0] = list.as.items[i];
        mapped[i] = cn_template_native_call(run, native, &inner);
        if (is_bad(mapped[i])) return make_bad();
    }
    return iterator(run, make_items(CN_LIST, mapped, list.len));
}

// select and its kin

typedef struct selection {
    bool by_attribute;
    bool wanted;                 // of the test, for an item to stay
} selection;

// Truth of the test `native` (NULL: of the value itself); -1 on failure.
static int test_of(cn_run *run, const cn_native *native, cn_value v, cn_value *room,
                   const cn_args *inner)
{
    if (is_bad(v)) return -1;
    if (!native) return cn_template_value_truth(v);
    room[0] = v;
    const cn_value result = cn_template_native_call(run, native, inner);
    return is_bad(result) ? -1 : cn_template_value_truth(result);
}

static cn_value select_items(cn_run *run, const cn_value *a, const cn_args *args, selection s)
{
    const uint32_t name = s.by_attribute ? 2 : 1;
    cn_value *room = NULL;
    cn_args inner = {0};
    const cn_native *native = NULL;
    size_t count = 0;
    if (!cn_template_value_truth(a[0])) return iterator(run, make_items(CN_LIST, NULL, 0));
    const cn_value list = cn_template_value_list(run, a[0]);
    cn_value *kept = copy_room(run, list);
    if (!kept) return make_bad();
    if (args->positional_count < name) {
        return cn_template_run_invalid(run, "selectattr() and rejectattr() want an attribute");
    }
    if (list.len && args->positional_count > name) {
        native = named_native(run, a[name], false);
        if (!native || !inner_args(run, args, name + 1, &room, &inner)) return make_bad();
    }
    const getter g = {.attribute = s.by_attribute ? a[1] : make_missing(),
                      .absent = make_missing()};
    for (uint32_t i = 0; i < list.len; i++) {
        const int test = test_of(run, native, get(run, list.as.items[i], &g), room, &inner);
        if (test < 0) return make_bad();
        if ((test != 0) == s.wanted) kept[count++] = list.as.items[i];
    }
    return iterator(run, make_items(CN_LIST, kept, count));
}

static cn_value filter_select(cn_run *run, const cn_value *a, const cn_args *args)
{
    return select_items(run, a, args, (selection){.by_attribute = false, .wanted = true});
}

static cn_value filter_reject(cn_run *run, const cn_value *a, const cn_args *args)
{
    return select_items(run, a, args, (selection){.by_attribute = false, .wanted = false});
}

static cn_value filter_selectattr(cn_run *run, const cn_value *a, const cn_args *args)
{
    return select_items(run, a, args, (selection){.by_attribute = true, .wanted = true});
}

static cn_value filter_rejectattr(cn_run *run, const cn_value *a, const cn_args *args)
{
    return select_items(run, a, args, (selection){.by_attribute = true, .wanted = false});
}

// batch and slice

static bool want_count(cn_run *run, cn_value v, const char *filter, int64_t *count)
{
    if (is_whole(v) && whole_of(v) > 0 && whole_of(v) <= INT32_MAX) {
        *count = whole_of(v);
        return true;
    }
    cn_template_run_invalid(run, "%s() wants a count of 1 or more", filter);
    return false;
}

// `count` items from `from`, and `padding` times `filler` behind them, as a list.
static cn_value piece(cn_run *run, const cn_value *from, size_t count, cn_value filler,
                      size_t padding)
{
    cn_value *items = cn_template_run_take(run, count + padding, sizeof *items);
    if (!items) return make_bad();
    if (count) memcpy(items, from, count * sizeof *items);
    for (size_t i = 0; i < padding; i++) items[count + i] = filler;
    return make_items(CN_LIST, items, count + padding);
}

static bool has_filler(cn_value v) { return !is_missing(v) && v.kind != CN_NONE; }

static cn_value filter_batch(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value list = cn_template_value_list(run, a[0]);
    int64_t width;
    (void)args;
    if (is_bad(list) || !want_count(run, a[1], "batch", &width)) return make_bad();
    const size_t count = (list.len + (size_t)width - 1) / (size_t)width;
    cn_value *batches = cn_template_run_take(run, count, sizeof *batches);
    if (!batches) return make_bad();
    for (size_t i = 0; i < count; i++) {
        const size_t from = i * (size_t)width;
        const size_t here = list.len - from < (size_t)width ? list.len - from : (size_t)width;
        const size_t padding = has_filler(a[2]) ? (size_t)width - here : 0;
        batches[i] = piece(run, list.as.items + from, here, a[2], padding);
        if (is_bad(batches[i])) return make_bad();
    }
    return iterator(run, make_items(CN_LIST, batches, count));
}

static cn_value filter_slice(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value list = cn_template_value_list(run, a[0]);
    int64_t slices;
    (void)args;
    if (is_bad(list) || !want_count(run, a[1], "slice", &slices)) return make_bad();
    const size_t count = (size_t)slices, each = list.len / count, longer = list.len % count;
    cn_value *made = cn_template_run_take(run, count, sizeof *made);
    if (!made) return make_bad();
    for (size_t i = 0, from = 0; i < count; i++) {
        const size_t here = each + (i < longer);
        made[i] = piece(run, list.as.items + from, here, a[2], has_filler(a[2]) && i >= longer);
        if (is_bad(made[i])) return make_bad();
        from += here;
    }
    return iterator(run, make_items(CN_LIST, made, count));
}

static cn_value filter_items(cn_run *run, const cn_value *a, const cn_args *args)
{
    const cn_value view = {.kind = CN_VIEW, .flags = CN_VIEW_ITEMS, .as.dict = a[0].as.dict};
    (void)args;
    if (is_undefined(a[0])) return iterator(run, make_items(CN_LIST, NULL, 0));
    if (a[0].kind != CN_DICT) {
        return cn_template_run_invalid(run, "Can only get item pairs from a mapping.");
    }
    return iterator(run, cn_template_value_list(run, view));
}

static cn_value reversed(cn_run *run, cn_value list)
{
    cn_value *items = copy_room(run, list);
    if (!items) return make_bad();
    for (uint32_t i = 0; i < list.len; i++) items[i] = list.as.items[list.len - 1 - i];
    return make_items(CN_LIST, items, list.len);
}

static cn_value filter_reverse(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    if (is_string(a[0])) {
        return cn_template_ops_slice(run, a[0], make_missing(), make_missing(), make_int(-1));
    }
    const cn_value list = reversed(run, cn_template_value_list(run, a[0]));
    // Only what Python cannot walk backwards becomes a list.
    return a[0].kind == CN_ITERATOR ? list : iterator(run, list);
}

static cn_value filter_first(cn_run *run, const cn_value *a, const cn_args *args)
{
    cn_walk walk;
    cn_value item;
    (void)args;
    if (!cn_template_value_walk(run, a[0], &walk)) return make_bad();
    if (cn_template_value_next(run, &walk, &item)) return item;
    return run->code ? make_bad() : make_sentence("No first item, sequence was empty.");
}

static cn_value filter_last(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    if (a[0].kind == CN_ITERATOR) {
        return cn_template_run_invalid(run, "'generator' object is not reversible");
    }
    const cn_value list = cn_template_value_list(run, a[0]);
    if (is_bad(list) || list.len) return is_bad(list) ? list : list.as.items[list.len - 1];
    return make_sentence("No last item, sequence was empty.");
}

const cn_native cn_template_select_filters[] = {
    {"batch", filter_batch, 2, 3, {"value", "linecount", "fill_with"}},
    {"dictsort", filter_dictsort, 1, 4, {"value", "case_sensitive", "by", "reverse"}},
    {"first", filter_first, 1, 1, {"seq"}},
    {"groupby", filter_groupby, 2, 4, {"value", "attribute", "default", "case_sensitive"}},
    {"items", filter_items, 1, 1, {"value"}},
    {"join", filter_join, 1, 3, {"value", "d", "attribute"}},
    {"last", filter_last, 1, 1, {"seq"}},
    {"map", filter_map, 1, CN_VARIADIC, {"value"}},
    {"max", filter_max, 1, 3, {"value", "case_sensitive", "attribute"}},
    {"min", filter_min, 1, 3, {"value", "case_sensitive", "attribute"}},
    {"reject", filter_reject, 1, CN_VARIADIC, {"value"}},
    {"rejectattr", filter_rejectattr, 1, CN_VARIADIC, {"value"}},
    {"reverse", filter_reverse, 1, 1, {"value"}},
    {"select", filter_select, 1, CN_VARIADIC, {"value"}},
    {"selectattr", filter_selectattr, 1, CN_VARIADIC, {"value"}},
    {"slice", filter_slice, 2, 3, {"value", "slices", "fill_with"}},
    {"sort", filter_sort, 1, 4, {"value", "reverse", "case_sensitive", "attribute"}},
    {"sum", filter_sum, 1, 3, {"iterable", "attribute", "start"}},
    {"unique", filter_unique, 1, 3, {"value", "case_sensitive", "attribute"}},
    {NULL, NULL, 0, 0, {NULL}},
};
