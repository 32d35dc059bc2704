#include "model/template_eval_int.h"

#include "model/template_exec_int.h"
#include "model/template_ops_int.h"
#include "model/template_text_int.h"

/* How it works. The tree is walked; its height is bounded by the parser, macro calls by depth_max,
 * and both together by CN_NESTED_MAX, so the C stack is bounded too. Arguments of a call live in
 * the C frame of that call unless there are many. */

enum { ARGS_INLINE = 8, NAMED_INLINE = 4 };

typedef struct arg_room {
    cn_value positional[ARGS_INLINE];
    cn_named named[NAMED_INLINE];
} arg_room;

static bool eval_star(cn_run *run, const cn_node *star, cn_value *items)
{
    *items = make_items(CN_LIST, NULL, 0);
    if (!star) return true;
    const cn_value v = cn_template_eval(run, star);
    if (is_bad(v)) return false;
    *items = cn_template_value_list(run, v);
    return !is_bad(*items);
}

static bool eval_star_star(cn_run *run, const cn_node *star_star, const cn_dict **dict)
{
    static const cn_dict empty;
    *dict = &empty;
    if (!star_star) return true;
    const cn_value v = cn_template_eval(run, star_star);
    if (v.kind == CN_DICT) {
        *dict = v.as.dict;
        return true;
    }
    cn_template_run_invalid(run, "argument after ** must be a mapping, not %s",
                            cn_template_value_type(v));
    return false;
}

static bool eval_positional(cn_run *run, const cn_call_args *source, cn_value lead, arg_room *room,
                            cn_args *out)
{
    cn_value star;
    if (!eval_star(run, source->star, &star)) return false;
    const uint32_t most = source->positional.count + star.len + 1;
    cn_value *values = room->positional;
    if (most > ARGS_INLINE) values = cn_template_run_take(run, most, sizeof *values);
    if (!values) return false;
    uint32_t count = 0;
    if (!is_missing(lead)) values[count++] = lead;
    for (uint32_t i = 0; i < source->positional.count; i++) {
        const cn_value v = cn_template_eval(run, source->positional.at[i]);
        if (is_bad(v)) return false;
        values[count++] = v;
    }
    if (star.len) memcpy(values + count, star.as.items, star.len * sizeof *values);
    out->positional = values;
    out->positional_count = count + star.len;
    return true;
}

static bool eval_named(cn_run *run, const cn_call_args *source, cn_value caller, arg_room *room,
                       cn_args *out)
{
    const cn_dict *dict;
    if (!eval_star_star(run, source->star_star, &dict)) return false;
    const uint32_t most = source->keyword_count + dict->count + 1;
    cn_named *named = room->named;
    if (most > NAMED_INLINE) named = cn_template_run_take(run, most, sizeof *named);
    if (!named) return false;
    uint32_t count = 0;
    for (uint32_t i = 0; i < source->keyword_count; i++) {
        const cn_value v = cn_template_eval(run, source->keywords[i].value);
        if (is_bad(v)) return false;
        named[count++] = (cn_named){source->keywords[i].name, v};
    }
    for (uint32_t i = 0; i < dict->count; i++) {
        if (!is_string(dict->entries[i].key)) {
            cn_template_run_invalid(run, "keywords must be strings");
            return false;
        }
        named[count++] = (cn_named){text_of(dict->entries[i].key), dict->entries[i].value};
    }
    if (!is_missing(caller)) named[count++] = (cn_named){text_from("caller"), caller};
    out->named = named;
    out->named_count = count;
    return true;
}

// `lead` comes before the arguments of the call: the filtered value, the object of a method.
static bool eval_args(cn_run *run, const cn_call_args *source, cn_value lead, cn_value caller,
                      arg_room *room, cn_args *out)
{
    return eval_positional(run, source, lead, room, out) &&
           eval_named(run, source, caller, room, out);
}

static cn_value apply_function(cn_run *run, const cn_function *function, const cn_args *args)
{
    if (is_missing(function->self)) return cn_template_native_call(run, function->native, args);
    cn_args with_self = *args;
    cn_value *values = cn_template_run_take(run, args->positional_count + 1u, sizeof *values);
    if (!values) return make_bad();
    values[0] = function->self;
    if (args->positional_count) {
        memcpy(values + 1, args->positional, args->positional_count * sizeof *values);
    }
    with_self.positional = values;
    with_self.positional_count++;
    return cn_template_native_call(run, function->native, &with_self);
}

static cn_value apply_joiner(cn_joiner *joiner)
{
    const bool used = joiner->used;
    joiner->used = true;
    return used ? joiner->separator : make_text("", 0);
}

cn_value cn_template_eval_apply(cn_run *run, cn_value callee, const cn_args *args)
{
    switch (callee.kind) {
    case CN_FUNCTION: return apply_function(run, callee.as.function, args);
    case CN_MACRO: return cn_template_exec_macro(run, callee.as.macro, args);
    case CN_JOINER: return apply_joiner(callee.as.joiner);
    case CN_UNDEFINED: return cn_template_run_undefined(run, callee);
    case CN_LOOP: return cn_template_run_invalid(run, "recursive loops are not supported");
    default:
        return cn_template_run_invalid(run, "'%s' object is not callable",
                                       cn_template_value_type(callee));
    }
}

// The method that a call names, if its object has one; saves making a bound method of it.
static const cn_native *direct_method(const cn_node *callee, cn_value of)
{
    if (!(callee->as.attribute.kinds & (1u << of.kind))) return NULL;
    const cn_native *native =
        cn_template_methods_find((cn_kind)of.kind, callee->as.attribute.name);
    return native->call ? native : NULL;
}

cn_value cn_template_eval_call(cn_run *run, const cn_node *node, cn_value caller)
{
    arg_room room;
    cn_args args;
    const cn_node *callee_node = node->as.call.of;
    const cn_native *method = NULL;
    cn_value callee, lead = make_missing();
    if (callee_node->kind == CN_NODE_ATTRIBUTE) {
        callee = cn_template_eval(run, callee_node->as.attribute.of);
        if (is_bad(callee)) return callee;
        run->line = callee_node->line;
        method = direct_method(callee_node, callee);
        if (method) lead = callee;
        else {
            callee = cn_template_ops_attribute(run, callee, callee_node->as.attribute.name,
                                               callee_node->as.attribute.kinds);
        }
    } else {
        callee = cn_template_eval(run, callee_node);
    }
    if (is_bad(callee)) return callee;
    if (!eval_args(run, &node->as.call.args, lead, caller, &room, &args)) return make_bad();
    run->line = node->line;
    const cn_value result = method ? cn_template_native_call(run, method, &args)
                                   : cn_template_eval_apply(run, callee, &args);
    run->line = node->line;
    return result;
}

// A filter or a test.
static cn_value eval_native(cn_run *run, const cn_node *node)
{
    arg_room room;
    cn_args args;
    const cn_native *native = node->as.call.native;
    const cn_value of = cn_template_eval(run, node->as.call.of);
    if (is_bad(of)) return of;
    if (!native) {
        const cn_text name = node->as.call.name;
        return cn_template_run_invalid(run, "no %s named '%.*s'",
                                       node->kind == CN_NODE_FILTER ? "filter" : "test",
                                       name.len < 60 ? (int)name.len : 60, name.at);
    }
    if (!eval_args(run, &node->as.call.args, of, make_missing(), &room, &args)) return make_bad();
    run->line = node->line;
    return cn_template_native_call(run, native, &args);
}

static cn_value eval_binary(cn_run *run, const cn_node *node)
{
    const cn_value left = cn_template_eval(run, node->as.operands.left);
    if (is_bad(left)) return left;
    if (node->op == CN_OP_AND && !cn_template_value_truth(left)) return left;
    if (node->op == CN_OP_OR && cn_template_value_truth(left)) return left;
    const cn_value right = cn_template_eval(run, node->as.operands.right);
    if (is_bad(right) || node->op == CN_OP_AND || node->op == CN_OP_OR) return right;
    return cn_template_ops_binary(run, (cn_op)node->op, left, right);
}

static cn_value eval_compare(cn_run *run, const cn_node *node)
{
    const cn_nodes *terms = &node->as.compare.terms;
    cn_value left = cn_template_eval(run, terms->at[0]);
    if (is_bad(left)) return left;
    for (uint32_t i = 1; i < terms->count; i++) {
        const cn_value right = cn_template_eval(run, terms->at[i]);
        if (is_bad(right)) return right;
        const cn_op op = (cn_op)node->as.compare.ops[i - 1];
        const int holds = cn_template_ops_compare(run, op, left, right);
        if (holds <= 0) return holds < 0 ? make_bad() : make_bool(false);
        left = right;
    }
    return make_bool(true);
}

static cn_value eval_concat(cn_run *run, const cn_nodes *terms)
{
    cn_value joined = make_text("", 0);
    for (uint32_t i = 0; i < terms->count; i++) {
        const cn_value v = cn_template_eval(run, terms->at[i]);
        cn_value text = cn_template_text_string(run, v);
        if (is_bad(text)) return text;
        text.flags = 0;
        joined = i ? cn_template_ops_binary(run, CN_OP_ADD, joined, text) : text;
        if (is_bad(joined)) return joined;
    }
    return joined;
}

static cn_value eval_items(cn_run *run, const cn_nodes *nodes, cn_kind kind)
{
    cn_value *items = cn_template_run_take(run, nodes->count, sizeof *items);
    if (!items) return make_bad();
    for (uint32_t i = 0; i < nodes->count; i++) {
        items[i] = cn_template_eval(run, nodes->at[i]);
        if (is_bad(items[i])) return make_bad();
    }
    return make_items(kind, items, nodes->count);
}

static cn_value eval_dict(cn_run *run, const cn_nodes *nodes)
{
    cn_dict *dict = cn_template_value_dict(run, nodes->count / 2);
    if (!dict) return make_bad();
    for (uint32_t i = 0; i < nodes->count; i += 2) {
        const cn_value key = cn_template_eval(run, nodes->at[i]);
        if (is_bad(key)) return key;
        const cn_value value = cn_template_eval(run, nodes->at[i + 1]);
        if (is_bad(value) || !cn_template_value_put(run, dict, key, value)) return make_bad();
    }
    return make_dict(CN_DICT, dict);
}

static cn_value eval_item(cn_run *run, const cn_node *node)
{
    const cn_value of = cn_template_eval(run, node->as.item.of);
    if (is_bad(of)) return of;
    const cn_value index = cn_template_eval(run, node->as.item.index);
    return is_bad(index) ? index : cn_template_ops_item(run, of, index);
}

static cn_value eval_part(cn_run *run, const cn_node *node)
{
    return node ? cn_template_eval(run, node) : make_missing();
}

static cn_value eval_slice(cn_run *run, const cn_node *node)
{
    const cn_value of = cn_template_eval(run, node->as.slice.of);
    const cn_value start = is_bad(of) ? of : eval_part(run, node->as.slice.start);
    const cn_value stop = is_bad(start) ? start : eval_part(run, node->as.slice.stop);
    const cn_value step = is_bad(stop) ? stop : eval_part(run, node->as.slice.step);
    return is_bad(step) ? step : cn_template_ops_slice(run, of, start, stop, step);
}

static cn_value eval_condition(cn_run *run, const cn_node *node)
{
    const cn_value test = cn_template_eval(run, node->as.condition.test);
    if (is_bad(test)) return test;
    if (cn_template_value_truth(test)) return cn_template_eval(run, node->as.condition.then);
    if (node->as.condition.otherwise) return cn_template_eval(run, node->as.condition.otherwise);
    return make_sentence("the inline if-expression evaluated to false and has no else");
}

static cn_value eval_attribute(cn_run *run, const cn_node *node)
{
    const cn_value of = cn_template_eval(run, node->as.attribute.of);
    if (is_bad(of)) return of;
    return cn_template_ops_attribute(run, of, node->as.attribute.name, node->as.attribute.kinds);
}

static cn_value eval_inside(cn_run *run, const cn_node *node)
{
    switch ((cn_node_kind)node->kind) {
    case CN_NODE_ATTRIBUTE: return eval_attribute(run, node);
    case CN_NODE_ITEM: return eval_item(run, node);
    case CN_NODE_SLICE: return eval_slice(run, node);
    case CN_NODE_UNARY: {
        const cn_value of = cn_template_eval(run, node->as.operands.left);
        return is_bad(of) ? of : cn_template_ops_unary(run, (cn_op)node->op, of);
    }
    case CN_NODE_BINARY: return eval_binary(run, node);
    case CN_NODE_COMPARE: return eval_compare(run, node);
    case CN_NODE_CONCAT: return eval_concat(run, &node->as.items);
    case CN_NODE_CONDITION: return eval_condition(run, node);
    case CN_NODE_LIST: return eval_items(run, &node->as.items, CN_LIST);
    case CN_NODE_TUPLE: return eval_items(run, &node->as.items, CN_TUPLE);
    case CN_NODE_DICT: return eval_dict(run, &node->as.items);
    case CN_NODE_CALL: return cn_template_eval_call(run, node, make_missing());
    case CN_NODE_FILTER:
    case CN_NODE_TEST: return eval_native(run, node);
    default: return run->input;
    }
}

cn_value cn_template_eval(cn_run *run, const cn_node *node)
{
    if (node->kind == CN_NODE_CONST) return node->as.constant;
    run->line = node->line;
    if (!cn_template_run_charge(run, 1)) return make_bad();
    if (node->kind == CN_NODE_NAME) return cn_template_run_load(run, node->as.name.number);
    if (!cn_template_run_enter(run)) return make_bad();
    const cn_value v = eval_inside(run, node);
    leave(run);
    return v;
}
