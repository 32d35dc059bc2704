#include "model/template_value_int.h"

#include <math.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/assert.h"
#include "model/template_run_int.h"

/* How it works. Values are compared, hashed and walked with Python's rules: bool is a number, 1 and
 * 1.0 and True are one dict key, strings are sequences of code points.
 *
 * A dict is its entries in order of insertion. Up to ORDERED_FROM entries it is searched from the
 * front, comparing hashes; above, `order` holds the entry indices sorted by hash and is searched by
 * bisection. A client who finds keys of equal hash gains nothing: each entry that is looked at
 * costs a step. The order is made at the first search and has room for `capacity` entries. */

enum { ORDERED_FROM = 12 };

const char *cn_template_value_type(cn_value v)
{
    static const char *const names[] = {
#define X(name, type) type,
        CN_KINDS(X)
#undef X
    };
    static const char *const views[] = {"", "dict_keys", "dict_values", "dict_items"};
    CN_ASSERT(v.kind < CN_KIND_COUNT);
    return v.kind == CN_VIEW ? views[v.flags] : names[v.kind];
}

bool cn_template_value_truth(cn_value v)
{
    switch (v.kind) {
    case CN_UNDEFINED:
    case CN_NONE: return false;
    case CN_BOOL:
    case CN_INT: return v.as.integer != 0;
    case CN_FLOAT: return v.as.real != 0;
    default: return cn_template_value_length(v) != 0;
    }
}

int64_t cn_template_value_length(cn_value v)
{
    switch (v.kind) {
    case CN_UNDEFINED: return 0;
    case CN_STRING: return (int64_t)cn_template_value_points(text_of(v));
    case CN_LIST:
    case CN_TUPLE: return v.len;
    case CN_DICT:
    case CN_VIEW: return v.as.dict->count;
    case CN_RANGE: return v.as.range->count;
    default: return -1;
    }
}

size_t cn_template_value_points(cn_text text)
{
    size_t points = 0;
    for (size_t i = 0; i < text.len; i++) points += ((unsigned char)text.at[i] & 0xC0) != 0x80;
    return points;
}

size_t cn_template_value_offset(cn_text text, size_t index)
{
    size_t at = 0;
    for (; index && at < text.len; index--) {
        do at++;
        while (at < text.len && ((unsigned char)text.at[at] & 0xC0) == 0x80);
    }
    return at;
}

static int compare_real(long double a, long double b)
{
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2;
}

// Exact also where an int has no double: long double holds 64 bits.
static long double exact_of(cn_value v)
{
    return v.kind == CN_FLOAT ? (long double)v.as.real : (long double)v.as.integer;
}

static int compare_text(cn_text a, cn_text b)
{
    const size_t shorter = a.len < b.len ? a.len : b.len;
    const int order = shorter ? memcmp(a.at, b.at, shorter) : 0;
    if (order) return order < 0 ? -1 : 1;
    return a.len < b.len ? -1 : a.len > b.len;
}

static int equal_dicts(cn_run *run, cn_dict *a, cn_dict *b)
{
    if (a->count != b->count) return 0;
    for (uint32_t i = 0; i < a->count; i++) {
        const cn_entry *other = cn_template_value_find(run, b, a->entries[i].key);
        if (run->code) return -1;
        if (!other) return 0;
        const int equal = cn_template_value_equal(run, a->entries[i].value, other->value);
        if (equal != 1) return equal;
    }
    return 1;
}

static int equal_items(cn_run *run, cn_value a, cn_value b)
{
    if (a.len != b.len) return 0;
    for (uint32_t i = 0; i < a.len; i++) {
        const int equal = cn_template_value_equal(run, a.as.items[i], b.as.items[i]);
        if (equal != 1) return equal;
    }
    return 1;
}

static int equal_ranges(const cn_range *a, const cn_range *b)
{
    if (a->count != b->count) return 0;
    if (a->count == 0) return 1;
    return a->start == b->start && (a->count == 1 || a->step == b->step);
}

static int equal_inside(cn_run *run, cn_value a, cn_value b)
{
    switch (a.kind) {
    case CN_STRING: return compare_text(text_of(a), text_of(b)) == 0;
    case CN_LIST:
    case CN_TUPLE: return equal_items(run, a, b);
    case CN_DICT: return equal_dicts(run, a.as.dict, b.as.dict);
    case CN_RANGE: return equal_ranges(a.as.range, b.as.range);
    case CN_UNDEFINED:
    case CN_NONE: return 1;
    case CN_VIEW: return a.flags == b.flags && a.as.dict == b.as.dict;
    default: return a.as.items == b.as.items;
    }
}

int cn_template_value_equal(cn_run *run, cn_value a, cn_value b)
{
    if (is_number(a) && is_number(b)) return compare_real(exact_of(a), exact_of(b)) == 0;
    if (a.kind != b.kind) return 0;
    if (is_string(a) && a.len != b.len) return 0;
    if (!cn_template_run_charge(run, 1)) return -1;
    if (is_string(a) && !cn_template_run_charge_bytes(run, a.len)) return -1;
    if (!cn_template_run_enter(run)) return -1;
    const int equal = equal_inside(run, a, b);
    leave(run);
    return equal;
}

static bool order_items(cn_run *run, cn_value a, cn_value b, int *order)
{
    for (uint32_t i = 0; i < a.len && i < b.len; i++) {
        const int equal = cn_template_value_equal(run, a.as.items[i], b.as.items[i]);
        if (equal < 0) return false;
        if (equal) continue;
        if (!cn_template_run_enter(run)) return false;
        const bool ordered = cn_template_value_order(run, a.as.items[i], b.as.items[i], order);
        leave(run);
        return ordered;
    }
    *order = a.len < b.len ? -1 : a.len > b.len;
    return true;
}

bool cn_template_value_order(cn_run *run, cn_value a, cn_value b, int *order)
{
    if (is_number(a) && is_number(b)) {
        *order = compare_real(exact_of(a), exact_of(b));
        return true;
    }
    if (is_string(a) && is_string(b)) {
        *order = compare_text(text_of(a), text_of(b));
        return cn_template_run_charge_bytes(run, a.len < b.len ? a.len : b.len);
    }
    if (a.kind == b.kind && (a.kind == CN_LIST || a.kind == CN_TUPLE)) {
        return order_items(run, a, b, order);
    }
    if (is_undefined(a) || is_undefined(b)) {
        cn_template_run_undefined(run, is_undefined(a) ? a : b);
        return false;
    }
    cn_template_run_invalid(run, "'%s' and '%s' have no order", cn_template_value_type(a),
                            cn_template_value_type(b));
    return false;
}

bool cn_template_value_walk(cn_run *run, cn_value v, cn_walk *walk)
{
    switch (v.kind) {
    case CN_UNDEFINED:
    case CN_STRING:
    case CN_LIST:
    case CN_TUPLE:
    case CN_DICT:
    case CN_VIEW:
    case CN_RANGE:
    case CN_ITERATOR: *walk = (cn_walk){.of = v}; return true;
    default:
        cn_template_run_invalid(run, "'%s' object is not iterable", cn_template_value_type(v));
        return false;
    }
}

static bool next_entry(cn_run *run, cn_walk *walk, cn_value *item)
{
    const cn_dict *dict = walk->of.as.dict;
    if (walk->at >= dict->count) return false;
    const cn_entry *entry = &dict->entries[walk->at++];
    if (walk->of.kind == CN_DICT || walk->of.flags == CN_VIEW_KEYS) {
        *item = entry->key;
    } else if (walk->of.flags == CN_VIEW_VALUES) {
        *item = entry->value;
    } else {
        cn_value *pair = cn_template_run_take(run, 2, sizeof *pair);
        if (!pair) return false;
        pair[0] = entry->key;
        pair[1] = entry->value;
        *item = make_items(CN_TUPLE, pair, 2);
    }
    return true;
}

bool cn_template_value_next(cn_run *run, cn_walk *walk, cn_value *item)
{
    const cn_value of = walk->of;
    if (!cn_template_run_charge(run, 1)) return false;
    switch (of.kind) {
    case CN_STRING: {
        if (walk->at >= of.len) return false;
        const cn_text rest = {of.as.text + walk->at, of.len - walk->at};
        *item = make_text(rest.at, cn_template_value_offset(rest, 1));
        walk->at += item->len;
        return true;
    }
    case CN_LIST:
    case CN_TUPLE:
        if (walk->at >= of.len) return false;
        *item = of.as.items[walk->at++];
        return true;
    case CN_DICT:
    case CN_VIEW: return next_entry(run, walk, item);
    case CN_RANGE:
        if (walk->at >= (uint64_t)of.as.range->count) return false;
        *item = make_int(of.as.range->start + (int64_t)walk->at++ * of.as.range->step);
        return true;
    case CN_ITERATOR:
        if (of.as.iterator->at >= of.as.iterator->count) return false;
        *item = of.as.iterator->items[of.as.iterator->at++];
        return true;
    default: return false;
    }
}

// How many items a walk will find at most.
static size_t walk_count(cn_value v)
{
    if (v.kind == CN_ITERATOR) return v.as.iterator->count - v.as.iterator->at;
    const int64_t length = cn_template_value_length(v);
    return length < 0 ? 0 : (size_t)length;
}

cn_value cn_template_value_list(cn_run *run, cn_value v)
{
    cn_walk walk;
    if (v.kind == CN_LIST || v.kind == CN_TUPLE) return make_items(CN_LIST, v.as.items, v.len);
    if (!cn_template_value_walk(run, v, &walk)) return make_bad();
    const size_t capacity = walk_count(v);
    cn_value *items = cn_template_run_take(run, capacity, sizeof *items);
    size_t count = 0;
    if (!items) return make_bad();
    while (count < capacity && cn_template_value_next(run, &walk, &items[count])) count++;
    return run->code ? make_bad() : make_items(CN_LIST, items, count);
}

static uint64_t hash_real(double real)
{
    if (real == floor(real) && fabs(real) < 0x1p63) {
        const int64_t whole = (int64_t)real;
        return XXH3_64bits(&whole, sizeof whole);
    }
    return XXH3_64bits(&real, sizeof real);
}

static bool hash_of(cn_run *run, cn_value v, uint64_t *hash)
{
    switch (v.kind) {
    case CN_STRING: *hash = XXH3_64bits(v.as.text, v.len); return true;
    case CN_BOOL:
    case CN_INT: *hash = XXH3_64bits(&v.as.integer, sizeof v.as.integer); return true;
    case CN_FLOAT: *hash = hash_real(v.as.real); return true;
    case CN_UNDEFINED:
    case CN_NONE: *hash = v.kind; return true;
    case CN_TUPLE:
        if (!cn_template_run_enter(run)) return false;
        *hash = v.len;
        for (uint32_t i = 0; i < v.len; i++) {
            uint64_t item;
            if (!hash_of(run, v.as.items[i], &item)) return false;
            *hash = XXH3_64bits_withSeed(&item, sizeof item, *hash);
        }
        leave(run);
        return true;
    default:
        cn_template_run_invalid(run, "unhashable type: '%s'", cn_template_value_type(v));
        return false;
    }
}

cn_dict *cn_template_value_dict(cn_run *run, uint32_t capacity)
{
    cn_dict *dict = cn_template_run_take(run, 1, sizeof *dict);
    if (!dict) return NULL;
    *dict = (cn_dict){.capacity = capacity};
    if (capacity) {
        dict->entries = cn_template_run_take(run, capacity, sizeof *dict->entries);
        if (!dict->entries) return NULL;
    }
    return dict;
}

static int by_hash(const void *a, const void *b, void *context)
{
    const cn_entry *entries = context;
    const uint64_t left = entries[*(const uint32_t *)a].hash;
    const uint64_t right = entries[*(const uint32_t *)b].hash;
    return left < right ? -1 : left > right;
}

static bool make_order(cn_run *run, cn_dict *dict)
{
    if (!cn_template_run_charge(run, dict->count)) return false;
    uint32_t *order = cn_template_run_take(run, dict->capacity, sizeof *order);
    if (!order) return false;
    for (uint32_t i = 0; i < dict->count; i++) order[i] = i;
    qsort_r(order, dict->count, sizeof *order, by_hash, dict->entries);
    dict->order = order;
    return true;
}

static uint32_t first_of_hash(const cn_dict *dict, uint64_t hash)
{
    uint32_t low = 0, high = dict->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (dict->entries[dict->order[middle]].hash < hash) low = middle + 1;
        else high = middle;
    }
    return low;
}

static cn_entry *find_hashed(cn_run *run, cn_dict *dict, cn_value key, uint64_t hash)
{
    uint32_t at = 0;
    const bool ordered = dict->count > ORDERED_FROM;
    if (ordered) {
        if (!dict->order && !make_order(run, dict)) return NULL;
        at = first_of_hash(dict, hash);
    }
    for (; at < dict->count; at++) {
        cn_entry *entry = &dict->entries[ordered ? dict->order[at] : at];
        if (entry->hash != hash) {
            if (ordered) return NULL;
            continue;
        }
        const int equal = cn_template_value_equal(run, entry->key, key);
        if (equal < 0) return NULL;
        if (equal) return entry;
    }
    return NULL;
}

cn_entry *cn_template_value_find(cn_run *run, cn_dict *dict, cn_value key)
{
    uint64_t hash;
    return hash_of(run, key, &hash) ? find_hashed(run, dict, key, hash) : NULL;
}

cn_entry *cn_template_value_find_text(cn_run *run, cn_dict *dict, cn_text key)
{
    return cn_template_value_find(run, dict, make_text(key.at, key.len));
}

static bool make_room(cn_run *run, cn_dict *dict)
{
    if (dict->count < dict->capacity) return true;
    const uint32_t capacity = dict->capacity ? dict->capacity * 2 : 4;
    cn_entry *entries = cn_template_run_take(run, capacity, sizeof *entries);
    if (!entries) return false;
    if (dict->count) memcpy(entries, dict->entries, dict->count * sizeof *entries);
    dict->entries = entries;
    dict->capacity = capacity;
    dict->order = NULL;
    return true;
}

static bool insert_in_order(cn_run *run, cn_dict *dict, uint64_t hash)
{
    const uint32_t at = first_of_hash(dict, hash);
    const size_t behind = (dict->count - at) * sizeof *dict->order;
    memmove(dict->order + at + 1, dict->order + at, behind);
    dict->order[at] = dict->count;
    return cn_template_run_charge_bytes(run, behind);
}

bool cn_template_value_put(cn_run *run, cn_dict *dict, cn_value key, cn_value value)
{
    uint64_t hash;
    if (!hash_of(run, key, &hash)) return false;
    cn_entry *entry = find_hashed(run, dict, key, hash);
    if (run->code) return false;
    if (entry) {
        entry->value = value;
        return true;
    }
    if (!make_room(run, dict)) return false;
    if (dict->order && !insert_in_order(run, dict, hash)) return false;
    dict->entries[dict->count++] = (cn_entry){.key = key, .value = value, .hash = hash};
    return true;
}

bool cn_template_value_add(cn_run *run, cn_dict *dict, cn_text key, cn_value value)
{
    if (!make_room(run, dict)) return false;
    dict->entries[dict->count++] = (cn_entry){
        .key = make_text(key.at, key.len), .value = value, .hash = XXH3_64bits(key.at, key.len)};
    dict->order = NULL;
    return true;
}
