#include "model/template_ops_int.h"

#include <math.h>

#include "model/template_eval_int.h"
#include "model/template_format_int.h"
#include "model/template_loop_int.h"
#include "model/template_text_int.h"

static cn_value overflow(cn_run *run)
{
    return cn_template_run_invalid(run, "an integer is beyond 64 bits");
}

static cn_value not_supported(cn_run *run, const char *op, cn_value a, cn_value b)
{
    if (is_undefined(a)) return cn_template_run_undefined(run, a);
    if (is_undefined(b)) return cn_template_run_undefined(run, b);
    return cn_template_run_invalid(run, "unsupported operand types for %s: '%s' and '%s'", op,
                                   cn_template_value_type(a), cn_template_value_type(b));
}

cn_value cn_template_ops_unary(cn_run *run, cn_op op, cn_value a)
{
    if (op == CN_OP_NOT) return make_bool(!cn_template_value_truth(a));
    if (is_undefined(a)) return cn_template_run_undefined(run, a);
    if (!is_number(a)) {
        return cn_template_run_invalid(run, "bad operand type for unary %s: '%s'",
                                       op == CN_OP_PLUS ? "+" : "-", cn_template_value_type(a));
    }
    if (a.kind == CN_FLOAT) return op == CN_OP_PLUS ? a : make_float(-a.as.real);
    if (op == CN_OP_PLUS) return make_int(whole_of(a));
    return whole_of(a) == INT64_MIN ? overflow(run) : make_int(-whole_of(a));
}

static cn_value escaped(cn_run *run, cn_value v)
{
    if (v.flags & CN_MARKUP) return v;
    const size_t mark = cn_template_run_begin(run);
    cn_template_text_escape(run, text_of(v));
    return cn_template_run_end(run, mark);
}

// Strings: what is markup makes the other one markup too.
static cn_value join_strings(cn_run *run, cn_value a, cn_value b)
{
    const uint8_t markup = (a.flags | b.flags) & CN_MARKUP;
    if (markup) {
        a = escaped(run, a);
        b = escaped(run, b);
        if (is_bad(a) || is_bad(b)) return make_bad();
    }
    char *text = cn_template_run_grow(run, a.as.text, a.len, b.len);
    if (!text) return make_bad();
    if (b.len) memcpy(text + a.len, b.as.text, b.len);
    cn_value joined = make_text(text, (size_t)a.len + b.len);
    joined.flags = markup;
    return joined;
}

static cn_value join_items(cn_run *run, cn_value a, cn_value b)
{
    const size_t size = sizeof(cn_value);
    cn_value *items = cn_template_run_grow(run, a.as.items, a.len * size, b.len * size);
    if (!items) return make_bad();
    if (b.len) memcpy(items + a.len, b.as.items, b.len * size);
    return make_items(a.kind, items, (size_t)a.len + b.len);
}

static bool is_sequence(cn_value v) { return v.kind == CN_LIST || v.kind == CN_TUPLE; }

static cn_value add(cn_run *run, cn_value a, cn_value b)
{
    int64_t sum;
    if (is_whole(a) && is_whole(b)) {
        return __builtin_add_overflow(whole_of(a), whole_of(b), &sum) ? overflow(run)
                                                                      : make_int(sum);
    }
    if (is_number(a) && is_number(b)) return make_float(real_of(a) + real_of(b));
    if (is_string(a) && is_string(b)) return join_strings(run, a, b);
    if (is_sequence(a) && a.kind == b.kind) return join_items(run, a, b);
    return not_supported(run, "+", a, b);
}

static cn_value subtract(cn_run *run, cn_value a, cn_value b)
{
    int64_t difference;
    if (is_whole(a) && is_whole(b)) {
        return __builtin_sub_overflow(whole_of(a), whole_of(b), &difference) ? overflow(run)
                                                                             : make_int(difference);
    }
    if (is_number(a) && is_number(b)) return make_float(real_of(a) - real_of(b));
    return not_supported(run, "-", a, b);
}

static cn_value repeat(cn_run *run, cn_value v, int64_t times)
{
    const size_t size = is_string(v) ? 1 : sizeof(cn_value);
    const size_t bytes = v.len * size;
    const size_t count = times > 0 && bytes ? (size_t)times : 0;
    char *copies = cn_template_run_take(run, count, bytes);
    if (!copies) return make_bad();
    for (size_t i = 0; i < count; i++) memcpy(copies + i * bytes, v.as.items, bytes);
    if (!is_string(v)) return make_items(v.kind, (cn_value *)(void *)copies, v.len * count);
    cn_value repeated = make_text(copies, bytes * count);
    repeated.flags = v.flags;
    return repeated;
}

static cn_value multiply(cn_run *run, cn_value a, cn_value b)
{
    int64_t product;
    if (is_whole(a) && is_whole(b)) {
        return __builtin_mul_overflow(whole_of(a), whole_of(b), &product) ? overflow(run)
                                                                          : make_int(product);
    }
    if (is_number(a) && is_number(b)) return make_float(real_of(a) * real_of(b));
    if ((is_string(a) || is_sequence(a)) && is_whole(b)) return repeat(run, a, whole_of(b));
    if ((is_string(b) || is_sequence(b)) && is_whole(a)) return repeat(run, b, whole_of(a));
    return not_supported(run, "*", a, b);
}

static cn_value by_zero(cn_run *run) { return cn_template_run_invalid(run, "division by zero"); }

static cn_value divide(cn_run *run, cn_value a, cn_value b)
{
    if (!is_number(a) || !is_number(b)) return not_supported(run, "/", a, b);
    if (real_of(b) == 0) return by_zero(run);
    if (is_whole(a) && is_whole(b)) {
        return make_float((double)((long double)whole_of(a) / (long double)whole_of(b)));
    }
    return make_float(real_of(a) / real_of(b));
}

// Python rounds the quotient down, and the remainder has the sign of the divisor.
static double floor_remainder(double a, double b, double *quotient)
{
    double remainder = fmod(a, b);
    double q = (a - remainder) / b;
    if (remainder != 0 && (remainder < 0) != (b < 0)) {
        remainder += b;
        q -= 1;
    }
    if (remainder == 0) remainder = copysign(0, b);
    *quotient = q == 0 ? copysign(0, a / b) : floor(q) + (q - floor(q) > 0.5);
    return remainder;
}

static cn_value floor_divide(cn_run *run, cn_value a, cn_value b)
{
    double quotient;
    if (!is_number(a) || !is_number(b)) return not_supported(run, "//", a, b);
    if (real_of(b) == 0) return by_zero(run);
    if (!is_whole(a) || !is_whole(b)) {
        floor_remainder(real_of(a), real_of(b), &quotient);
        return make_float(quotient);
    }
    const int64_t x = whole_of(a), y = whole_of(b);
    if (y == -1) return x == INT64_MIN ? overflow(run) : make_int(-x);
    return make_int(x / y - (x % y != 0 && (x % y < 0) != (y < 0)));
}

static cn_value modulo(cn_run *run, cn_value a, cn_value b)
{
    double quotient;
    if (is_string(a)) return cn_template_format_percent(run, a, b);
    if (!is_number(a) || !is_number(b)) return not_supported(run, "%", a, b);
    if (real_of(b) == 0) return by_zero(run);
    if (!is_whole(a) || !is_whole(b)) {
        return make_float(floor_remainder(real_of(a), real_of(b), &quotient));
    }
    const int64_t y = whole_of(b);
    const int64_t remainder = y == -1 ? 0 : whole_of(a) % y;
    return make_int(remainder && (remainder < 0) != (y < 0) ? remainder + y : remainder);
}

static cn_value whole_power(cn_run *run, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    while (exponent) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result)) return overflow(run);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) return overflow(run);
    }
    return make_int(result);
}

static cn_value power(cn_run *run, cn_value a, cn_value b)
{
    if (!is_number(a) || !is_number(b)) return not_supported(run, "**", a, b);
    if (is_whole(a) && is_whole(b) && whole_of(b) >= 0) {
        return whole_power(run, whole_of(a), whole_of(b));
    }
    const double x = real_of(a), y = real_of(b);
    if (x == 0 && y < 0) return by_zero(run);
    if (x < 0 && isfinite(x) && isfinite(y) && y != floor(y)) {
        return cn_template_run_invalid(run, "complex numbers are not supported");
    }
    const double result = pow(x, y);
    if (isinf(result) && isfinite(x) && isfinite(y)) {
        return cn_template_run_invalid(run, "a float is out of range");
    }
    return make_float(result);
}

cn_value cn_template_ops_binary(cn_run *run, cn_op op, cn_value a, cn_value b)
{
    switch (op) {
    case CN_OP_ADD: return add(run, a, b);
    case CN_OP_SUBTRACT: return subtract(run, a, b);
    case CN_OP_MULTIPLY: return multiply(run, a, b);
    case CN_OP_DIVIDE: return divide(run, a, b);
    case CN_OP_FLOOR_DIVIDE: return floor_divide(run, a, b);
    case CN_OP_MODULO: return modulo(run, a, b);
    default: return power(run, a, b);
    }
}

static int contains_text(cn_run *run, cn_value haystack, cn_value needle)
{
    if (!is_string(needle)) {
        cn_template_run_invalid(run, "'in <string>' requires string as left operand, not %s",
                                cn_template_value_type(needle));
        return -1;
    }
    if (!cn_template_run_charge_bytes(run, haystack.len)) return -1;
    return needle.len == 0 || memmem(haystack.as.text, haystack.len, needle.as.text, needle.len);
}

static int contains(cn_run *run, cn_value haystack, cn_value needle)
{
    cn_walk walk;
    cn_value item;
    if (is_string(haystack)) return contains_text(run, haystack, needle);
    if (haystack.kind == CN_DICT ||
        (haystack.kind == CN_VIEW && haystack.flags == CN_VIEW_KEYS)) {
        const bool found = cn_template_value_find(run, haystack.as.dict, needle) != NULL;
        return run->code ? -1 : found;
    }
    if (!cn_template_value_walk(run, haystack, &walk)) return -1;
    while (cn_template_value_next(run, &walk, &item)) {
        const int equal = cn_template_value_equal(run, item, needle);
        if (equal) return equal;
    }
    return run->code ? -1 : 0;
}

int cn_template_ops_compare(cn_run *run, cn_op op, cn_value a, cn_value b)
{
    int order, found;
    switch (op) {
    case CN_OP_EQ: return cn_template_value_equal(run, a, b);
    case CN_OP_NE:
        found = cn_template_value_equal(run, a, b);
        return found < 0 ? found : !found;
    case CN_OP_IN: return contains(run, b, a);
    case CN_OP_NOT_IN:
        found = contains(run, b, a);
        return found < 0 ? found : !found;
    default: break;
    }
    if (!cn_template_value_order(run, a, b, &order)) return -1;
    switch (op) {
    case CN_OP_LT: return order == -1;
    case CN_OP_LE: return order == -1 || order == 0;
    case CN_OP_GT: return order == 1;
    default: return order == 1 || order == 0;
    }
}

static cn_value no_attribute(cn_value of, cn_text name)
{
    return (cn_value){.kind = CN_UNDEFINED, .flags = CN_NO_ATTRIBUTE, .of = of.kind,
                      .len = (uint32_t)name.len, .as.text = name.at};
}

static cn_value bind_method(cn_run *run, cn_value of, const cn_native *native)
{
    if (!native->call) return make_sentence("access to this attribute is unsafe");
    cn_function *function = cn_template_run_take(run, 1, sizeof *function);
    if (!function) return make_bad();
    *function = (cn_function){.native = native, .self = of};
    return (cn_value){.kind = CN_FUNCTION, .as.function = function};
}

// Attributes that are no methods; MISSING if there is none.
static cn_value property(cn_run *run, cn_value of, cn_text name)
{
    switch (of.kind) {
    case CN_LOOP: return cn_template_loop_attribute(run, of.as.loop, name);
    case CN_NAMESPACE: {
        const cn_entry *entry = cn_template_value_find_text(run, of.as.dict, name);
        return run->code ? make_bad() : entry ? entry->value : make_missing();
    }
    case CN_TUPLE:
        if (!(of.flags & CN_GROUP)) break;
        if (text_is(name, "grouper")) return of.as.items[0];
        if (text_is(name, "list")) return of.as.items[1];
        break;
    case CN_RANGE:
        if (text_is(name, "start")) return make_int(of.as.range->start);
        if (text_is(name, "stop")) return make_int(of.as.range->stop);
        if (text_is(name, "step")) return make_int(of.as.range->step);
        break;
    case CN_CYCLER:
        if (text_is(name, "current")) return of.as.cycler->items[of.as.cycler->at];
        break;
    case CN_MACRO: {
        const cn_text macro = of.as.macro->def->name;
        if (text_is(name, "name")) return macro.len ? make_text(macro.at, macro.len) : make_none();
        break;
    }
    default: break;
    }
    return make_missing();
}

static bool is_dunder(cn_text name)
{
    return name.len > 4 && memcmp(name.at, "__", 2) == 0 &&
           memcmp(name.at + name.len - 2, "__", 2) == 0;
}

// A method or property, MISSING if there is neither.
static cn_value member(cn_run *run, cn_value of, cn_text name, uint32_t kinds)
{
    if (is_dunder(name)) return make_sentence("access to this attribute is unsafe");
    if (kinds & (1u << of.kind)) {
        return bind_method(run, of, cn_template_methods_find((cn_kind)of.kind, name));
    }
    return property(run, of, name);
}

cn_value cn_template_ops_attribute(cn_run *run, cn_value of, cn_text name, uint32_t kinds)
{
    if (is_undefined(of)) return cn_template_run_undefined(run, of);
    const cn_value found = member(run, of, name, kinds);
    if (!is_missing(found)) return found;
    if (of.kind == CN_DICT) {
        const cn_entry *entry = cn_template_value_find_text(run, of.as.dict, name);
        if (entry) return entry->value;
        if (run->code) return make_bad();
    }
    return no_attribute(of, name);
}

static uint32_t kind_bit(cn_value of, cn_text name)
{
    return cn_template_methods_find((cn_kind)of.kind, name) ? 1u << of.kind : 0;
}

cn_value cn_template_ops_member_or_item(cn_run *run, cn_value of, cn_text name)
{
    return cn_template_ops_attribute(run, of, name, kind_bit(of, name));
}

cn_value cn_template_ops_member(cn_run *run, cn_value of, cn_text name)
{
    return member(run, of, name, kind_bit(of, name));
}

static cn_value indexed(cn_value of, int64_t index)
{
    const int64_t length = cn_template_value_length(of);
    if (index < 0) index += length;
    if (index < 0 || index >= length) return make_missing();
    if (of.kind == CN_RANGE) return make_int(of.as.range->start + index * of.as.range->step);
    if (is_sequence(of)) return of.as.items[index];
    const cn_text text = text_of(of);
    const size_t at = cn_template_value_offset(text, (size_t)index);
    const size_t len = cn_template_value_offset((cn_text){text.at + at, text.len - at}, 1);
    cn_value character = make_text(text.at + at, len);
    character.flags = of.flags;
    return character;
}

static bool is_hashable(cn_value v)
{
    if (v.kind != CN_TUPLE) {
        return is_number(v) || is_string(v) || v.kind == CN_NONE || is_undefined(v);
    }
    for (uint32_t i = 0; i < v.len; i++) {
        // Tuples in tuples are not looked into: as keys they do not occur.
        if (v.as.items[i].kind == CN_TUPLE || !is_hashable(v.as.items[i])) return false;
    }
    return true;
}

cn_value cn_template_ops_item(cn_run *run, cn_value of, cn_value index)
{
    cn_value found = make_missing();
    if (is_undefined(of)) return cn_template_run_undefined(run, of);
    if (of.kind == CN_DICT && is_hashable(index)) {
        const cn_entry *entry = cn_template_value_find(run, of.as.dict, index);
        if (entry) return entry->value;
        if (run->code) return make_bad();
    } else if (is_whole(index) && (is_sequence(of) || is_string(of) || of.kind == CN_RANGE)) {
        if (is_string(of) && !cn_template_run_charge_bytes(run, of.len)) return make_bad();
        found = indexed(of, whole_of(index));
    }
    if (!is_missing(found)) return found;
    if (is_string(index)) {
        found = cn_template_ops_member(run, of, text_of(index));
        return is_missing(found) ? no_attribute(of, text_of(index)) : found;
    }
    if (is_whole(index)) {
        return (cn_value){.kind = CN_UNDEFINED, .flags = CN_NO_ELEMENT, .of = of.kind,
                          .as.integer = whole_of(index)};
    }
    return make_sentence("there is no such element");
}

// One end of a slice, brought into 0..length (or -1..length-1 when walking back).
static bool slice_end(cn_run *run, cn_value v, int64_t length, bool back, int64_t absent,
                      int64_t *end)
{
    if (is_missing(v) || v.kind == CN_NONE) {
        *end = absent;
        return true;
    }
    if (!is_whole(v)) {
        cn_template_run_invalid(run, "slice indices must be integers or None, not %s",
                                cn_template_value_type(v));
        return false;
    }
    int64_t at = whole_of(v);
    const int64_t low = back ? -1 : 0, high = back ? length - 1 : length;
    if (at < 0) at = at < -length ? low : at + length;
    *end = at < low ? low : at > high ? high : at;
    return true;
}

static cn_value slice_text(cn_run *run, cn_value of, int64_t start, int64_t step, int64_t count)
{
    const cn_text text = text_of(of);
    cn_value result;
    if (step == 1) {
        const size_t from = cn_template_value_offset(text, (size_t)start);
        const cn_text rest = {text.at + from, text.len - from};
        result = make_text(rest.at, cn_template_value_offset(rest, (size_t)count));
        result.flags = of.flags;
        return result;
    }
    uint32_t *offsets = cn_template_run_take(run, (size_t)of.len + 1, sizeof *offsets);
    if (!offsets) return make_bad();
    size_t points = 0;
    for (uint32_t i = 0; i < of.len; i++) {
        if (((unsigned char)text.at[i] & 0xC0) != 0x80) offsets[points++] = i;
    }
    offsets[points] = of.len;
    char *out = cn_template_run_take(run, of.len, 1);
    if (!out) return make_bad();
    size_t len = 0;
    for (int64_t i = 0, at = start; i < count; i++, at += step) {
        memcpy(out + len, text.at + offsets[at], offsets[at + 1] - offsets[at]);
        len += offsets[at + 1] - offsets[at];
    }
    result = make_text(out, len);
    result.flags = of.flags;
    return result;
}

static cn_value slice_items(cn_run *run, cn_value of, int64_t start, int64_t step, int64_t count)
{
    if (step == 1) return make_items(of.kind, of.as.items + (count ? start : 0), (size_t)count);
    cn_value *items = cn_template_run_take(run, (size_t)count, sizeof *items);
    if (!items) return make_bad();
    for (int64_t i = 0; i < count; i++) items[i] = of.as.items[start + i * step];
    return make_items(of.kind, items, (size_t)count);
}

static cn_value slice_range(cn_run *run, const cn_range *of, int64_t start, int64_t stop,
                            int64_t step, int64_t count)
{
    cn_range *range = cn_template_run_take(run, 1, sizeof *range);
    if (!range) return make_bad();
    if (__builtin_mul_overflow(start, of->step, &range->start) ||
        __builtin_add_overflow(range->start, of->start, &range->start) ||
        __builtin_mul_overflow(stop, of->step, &range->stop) ||
        __builtin_add_overflow(range->stop, of->start, &range->stop) ||
        __builtin_mul_overflow(step, of->step, &range->step)) {
        return overflow(run);
    }
    range->count = count;
    return (cn_value){.kind = CN_RANGE, .as.range = range};
}

cn_value cn_template_ops_slice(cn_run *run, cn_value of, cn_value start, cn_value stop,
                               cn_value step)
{
    int64_t by = 1, from, to;
    if (is_undefined(of)) return cn_template_run_undefined(run, of);
    if (!is_string(of) && !is_sequence(of) && of.kind != CN_RANGE) {
        return cn_template_run_invalid(run, "'%s' object cannot be sliced",
                                       cn_template_value_type(of));
    }
    if (is_whole(step)) by = whole_of(step);
    else if (!is_missing(step) && step.kind != CN_NONE) {
        return cn_template_run_invalid(run, "slice indices must be integers or None, not %s",
                                       cn_template_value_type(step));
    }
    if (by == 0) return cn_template_run_invalid(run, "slice step cannot be zero");
    if (is_string(of) && !cn_template_run_charge_bytes(run, of.len)) return make_bad();
    const int64_t length = cn_template_value_length(of);
    const bool back = by < 0;
    if (by > length) by = length + 1;
    if (by < -length) by = -length - 1;
    if (!slice_end(run, start, length, back, back ? length - 1 : 0, &from) ||
        !slice_end(run, stop, length, back, back ? -1 : length, &to)) {
        return make_bad();
    }
    const int64_t span = back ? from - to : to - from;
    const int64_t count = span <= 0 ? 0 : (span - 1) / (back ? -by : by) + 1;
    if (is_string(of)) return slice_text(run, of, from, by, count);
    if (is_sequence(of)) return slice_items(run, of, from, by, count);
    return slice_range(run, of.as.range, from, to, by, count);
}
