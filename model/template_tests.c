#include "model/template_native_int.h"

#include "model/template_ops_int.h"
#include "model/template_text_int.h"
#include "model/template_unicode_int.h"

static cn_value test_defined(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(!is_undefined(a[0]));
}

static cn_value test_undefined(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(is_undefined(a[0]));
}

static cn_value test_none(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_NONE);
}

static cn_value test_boolean(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_BOOL);
}

static cn_value test_true(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_BOOL && a[0].as.integer);
}

static cn_value test_false(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_BOOL && !a[0].as.integer);
}

static cn_value test_integer(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_INT);
}

static cn_value test_float(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_FLOAT);
}

static cn_value test_number(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(is_number(a[0]));
}

static cn_value test_string(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(is_string(a[0]));
}

static cn_value test_mapping(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(a[0].kind == CN_DICT);
}

// Has a length and items by index; Jinja's Undefined has both.
static cn_value test_sequence(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(cn_template_value_length(a[0]) >= 0 && a[0].kind != CN_VIEW);
}

static cn_value test_iterable(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(cn_template_value_length(a[0]) >= 0 || a[0].kind == CN_ITERATOR ||
                     a[0].kind == CN_LOOP);
}

static cn_value test_callable(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    // Jinja's Undefined has a __call__, which fails.
    return make_bool(a[0].kind == CN_FUNCTION || a[0].kind == CN_MACRO || a[0].kind == CN_JOINER ||
                     a[0].kind == CN_LOOP || is_undefined(a[0]));
}

static cn_value test_escaped(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(is_string(a[0]) && (a[0].flags & CN_MARKUP));
}

static cn_value test_sameas(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    if (a[0].kind != a[1].kind) return make_bool(false);
    if (a[0].kind == CN_NONE) return make_bool(true);
    return make_bool(a[0].as.items == a[1].as.items && a[0].len == a[1].len);
}

static cn_value remainder_is(cn_run *run, cn_value v, cn_value divisor, int64_t wanted)
{
    const cn_value remainder = cn_template_ops_binary(run, CN_OP_MODULO, v, divisor);
    if (is_bad(remainder)) return remainder;
    const int equal = cn_template_value_equal(run, remainder, make_int(wanted));
    return equal < 0 ? make_bad() : make_bool(equal);
}

static cn_value test_odd(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return remainder_is(run, a[0], make_int(2), 1);
}

static cn_value test_even(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return remainder_is(run, a[0], make_int(2), 0);
}

static cn_value test_divisibleby(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return remainder_is(run, a[0], a[1], 0);
}

// Every letter with a case has this one, and there is such a letter.
static cn_value all_in_case(cn_run *run, cn_value v, bool upper)
{
    const cn_value string = cn_template_text_string(run, v);
    bool found = false;
    size_t len;
    if (is_bad(string)) return string;
    for (size_t at = 0; at < string.len; at += len) {
        const uint32_t point =
            cn_template_unicode_decode((cn_text){string.as.text + at, string.len - at}, &len);
        const bool is_upper = cn_template_unicode_is_upper(point);
        const bool is_lower = cn_template_unicode_is_lower(point);
        if (cn_template_unicode_is_title(point) || (upper ? is_lower : is_upper)) {
            return make_bool(false);
        }
        found = found || is_upper || is_lower;
    }
    return make_bool(found);
}

static cn_value test_lower(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return all_in_case(run, a[0], false);
}

static cn_value test_upper(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return all_in_case(run, a[0], true);
}

static cn_value test_filter(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(is_string(a[0]) && cn_template_filters_find(text_of(a[0])));
}

static cn_value test_test(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)run, (void)args;
    return make_bool(is_string(a[0]) && cn_template_tests_find(text_of(a[0])));
}

static cn_value compared(cn_run *run, const cn_value *a, cn_op op)
{
    const int holds = cn_template_ops_compare(run, op, a[0], a[1]);
    return holds < 0 ? make_bad() : make_bool(holds);
}

static cn_value test_eq(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_EQ);
}

static cn_value test_ne(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_NE);
}

static cn_value test_lt(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_LT);
}

static cn_value test_le(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_LE);
}

static cn_value test_gt(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_GT);
}

static cn_value test_ge(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_GE);
}

static cn_value test_in(cn_run *run, const cn_value *a, const cn_args *args)
{
    (void)args;
    return compared(run, a, CN_OP_IN);
}

static const cn_native tests[] = {
    {"!=", test_ne, 2, 2, {NULL}},
    {"<", test_lt, 2, 2, {NULL}},
    {"<=", test_le, 2, 2, {NULL}},
    {"==", test_eq, 2, 2, {NULL}},
    {">", test_gt, 2, 2, {NULL}},
    {">=", test_ge, 2, 2, {NULL}},
    {"boolean", test_boolean, 1, 1, {NULL}},
    {"callable", test_callable, 1, 1, {NULL}},
    {"defined", test_defined, 1, 1, {NULL}},
    {"divisibleby", test_divisibleby, 2, 2, {"value", "num"}},
    {"eq", test_eq, 2, 2, {NULL}},
    {"equalto", test_eq, 2, 2, {NULL}},
    {"escaped", test_escaped, 1, 1, {NULL}},
    {"even", test_even, 1, 1, {NULL}},
    {"false", test_false, 1, 1, {NULL}},
    {"filter", test_filter, 1, 1, {NULL}},
    {"float", test_float, 1, 1, {NULL}},
    {"ge", test_ge, 2, 2, {NULL}},
    {"greaterthan", test_gt, 2, 2, {NULL}},
    {"gt", test_gt, 2, 2, {NULL}},
    {"in", test_in, 2, 2, {"value", "seq"}},
    {"integer", test_integer, 1, 1, {NULL}},
    {"iterable", test_iterable, 1, 1, {NULL}},
    {"le", test_le, 2, 2, {NULL}},
    {"lessthan", test_lt, 2, 2, {NULL}},
    {"lower", test_lower, 1, 1, {NULL}},
    {"lt", test_lt, 2, 2, {NULL}},
    {"mapping", test_mapping, 1, 1, {NULL}},
    {"ne", test_ne, 2, 2, {NULL}},
    {"none", test_none, 1, 1, {NULL}},
    {"number", test_number, 1, 1, {NULL}},
    {"odd", test_odd, 1, 1, {NULL}},
    {"sameas", test_sameas, 2, 2, {"value", "other"}},
    {"sequence", test_sequence, 1, 1, {NULL}},
    {"string", test_string, 1, 1, {NULL}},
    {"test", test_test, 1, 1, {NULL}},
    {"true", test_true, 1, 1, {NULL}},
    {"undefined", test_undefined, 1, 1, {NULL}},
    {"upper", test_upper, 1, 1, {NULL}},
    {NULL, NULL, 0, 0, {NULL}},
};

const cn_native *cn_template_tests_find(cn_text name)
{
    return cn_template_native_find(tests, name);
}
