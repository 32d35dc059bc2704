#include "model/template_exec_int.h"

#include "model/template_loop_int.h"
#include "model/template_ops_int.h"
#include "model/template_text_int.h"

/* How it works. A body runs statement by statement. Loops, macros, blocks and captures have scopes
 * of their own, ifs do not, as in Jinja: a set inside a for ends with the round. A scope is a short
 * list of bindings; the outermost names are an array by number. Scopes are reused from round to
 * round unless a macro was made inside, which keeps what it can see. */

static cn_scope *new_scope(cn_run *run, cn_scope *parent)
{
    cn_scope *scope = cn_template_run_take(run, 1, sizeof *scope);
    if (scope) *scope = (cn_scope){.parent = parent};
    return scope;
}

static bool unpack(cn_run *run, const cn_nodes *targets, cn_value value)
{
    const cn_value list = cn_template_value_list(run, value);
    if (is_bad(list)) return false;
    if (list.len != targets->count) {
        cn_template_run_invalid(run, "%u values cannot be unpacked to %u names", list.len,
                                targets->count);
        return false;
    }
    for (uint32_t i = 0; i < targets->count; i++) {
        if (!cn_template_exec_assign(run, targets->at[i], list.as.items[i])) return false;
    }
    return true;
}

static bool assign_attribute(cn_run *run, const cn_node *target, cn_value value)
{
    const cn_text name = target->as.target.attribute;
    const cn_value of = cn_template_run_load(run, target->as.target.number);
    if (is_bad(of)) return false;
    if (of.kind != CN_NAMESPACE) {
        cn_template_run_invalid(run, "cannot assign attribute on non-namespace object");
        return false;
    }
    if (name.at[0] == '_') {
        cn_template_run_invalid(run, "a namespace has no names with a leading underscore: '%.*s'",
                                name.len < 60 ? (int)name.len : 60, name.at);
        return false;
    }
    return cn_template_value_put(run, of.as.dict, make_text(name.at, name.len), value);
}

bool cn_template_exec_assign(cn_run *run, const cn_node *target, cn_value value)
{
    run->line = target->line;
    switch ((cn_node_kind)target->kind) {
    case CN_NODE_NAME: return cn_template_run_store(run, target->as.name.number, value);
    case CN_NODE_TUPLE: return unpack(run, &target->as.items, value);
    default: return assign_attribute(run, target, value);
    }
}

static cn_flow exec_if(cn_run *run, const cn_node *node)
{
    for (uint32_t i = 0; i < node->as.branch.count; i++) {
        const cn_branch *branch = &node->as.branch.branches[i];
        const cn_value test = cn_template_eval(run, branch->test);
        if (is_bad(test)) return CN_FLOW_FAILED;
        if (cn_template_value_truth(test)) return cn_template_exec_body(run, &branch->body);
    }
    return cn_template_exec_body(run, &node->as.branch.otherwise);
}

// One round: a fresh scope with `loop` and the target, then the body.
static cn_flow exec_round(cn_run *run, const cn_node *node, cn_loop *loop, cn_value item)
{
    const cn_value self = {.kind = CN_LOOP, .as.loop = loop};
    if (run->scope->kept) {
        run->scope = new_scope(run, loop->outer);
        if (!run->scope) return CN_FLOW_FAILED;
    }
    run->scope->count = 0;
    if (!cn_template_run_store(run, run->tmpl->loop_name, self) ||
        !cn_template_exec_assign(run, node->as.loop.target, item)) {
        return CN_FLOW_FAILED;
    }
    return cn_template_exec_body(run, &node->as.loop.body);
}

static cn_flow exec_otherwise(cn_run *run, const cn_node *node, cn_scope *outer)
{
    run->scope = new_scope(run, outer);
    return run->scope ? cn_template_exec_body(run, &node->as.loop.otherwise) : CN_FLOW_FAILED;
}

static cn_flow exec_for(cn_run *run, const cn_node *node)
{
    cn_scope *outer = run->scope;
    const cn_value source = cn_template_eval(run, node->as.loop.source);
    if (is_bad(source)) return CN_FLOW_FAILED;
    cn_loop *loop = cn_template_loop_open(run, &node->as.loop, source);
    cn_scope *scope = new_scope(run, outer);
    cn_flow flow = CN_FLOW_NEXT;
    cn_value item;
    // Jinja's `else` runs unless some round came to its end without break and continue.
    bool completed = false;
    if (!loop || !scope) return CN_FLOW_FAILED;
    if (run->place > 0 && node == run->tmpl->body.at[run->tmpl->messages_at]) {
        cn_template_loop_skip(run, loop, run->place);
    }
    run->scope = scope;
    while (cn_template_loop_next(run, loop, &item)) {
        flow = exec_round(run, node, loop, item);
        completed = completed || flow == CN_FLOW_NEXT;
        if (flow == CN_FLOW_BREAK || flow == CN_FLOW_FAILED) break;
    }
    if (run->code) return CN_FLOW_FAILED;
    flow = CN_FLOW_NEXT;
    if (!completed && node->as.loop.otherwise.count) flow = exec_otherwise(run, node, outer);
    run->scope = outer;
    return flow;
}

static cn_flow done(bool ok) { return ok ? CN_FLOW_NEXT : CN_FLOW_FAILED; }

// Runs a body in a scope of its own below `parent`.
static cn_flow exec_scoped(cn_run *run, const cn_nodes *body, cn_scope *parent)
{
    cn_scope *outer = run->scope;
    run->scope = new_scope(run, parent);
    if (!run->scope) return CN_FLOW_FAILED;
    const cn_flow flow = cn_template_exec_body(run, body);
    run->scope = outer;
    return flow;
}

/* The body of a set or filter block as text, filtered. A break or continue inside is passed on in
 * *flow; then what was written is dropped. */
static cn_value captured(cn_run *run, const cn_node *node, cn_flow *flow)
{
    cn_scope *outer = run->scope;
    const cn_value input = run->input;
    run->scope = new_scope(run, outer);
    if (!run->scope) return make_bad();
    const size_t mark = cn_template_run_begin(run);
    *flow = cn_template_exec_body(run, &node->as.block.body);
    cn_value text = cn_template_run_end(run, mark);
    if (node->as.block.filter && !is_bad(text) && *flow == CN_FLOW_NEXT) {
        run->input = text;
        text = cn_template_eval(run, node->as.block.filter);
        run->input = input;
    }
    run->scope = outer;
    return text;
}

// The result of a block is not converted: Jinja joins it with the strings around it.
static cn_flow emit_string(cn_run *run, cn_value v, const char *what)
{
    if (is_string(v)) return done(cn_template_run_emit(run, v.as.text, v.len));
    cn_template_run_invalid(run, "%s must give a str, not %s", what, cn_template_value_type(v));
    return CN_FLOW_FAILED;
}

static cn_flow exec_capture(cn_run *run, const cn_node *node)
{
    cn_flow flow = CN_FLOW_NEXT;
    const cn_value text = captured(run, node, &flow);
    if (is_bad(text)) return CN_FLOW_FAILED;
    if (flow != CN_FLOW_NEXT) return flow;
    if (node->kind == CN_NODE_SET_BLOCK) {
        return done(cn_template_exec_assign(run, node->as.block.target, text));
    }
    return emit_string(run, text, "a filter block");
}

static cn_value make_macro(cn_run *run, const cn_macro_def *def)
{
    cn_macro *macro = cn_template_run_take(run, 1, sizeof *macro);
    if (!macro) return make_bad();
    *macro = (cn_macro){.def = def, .scope = run->scope};
    for (cn_scope *scope = run->scope; scope; scope = scope->parent) scope->kept = true;
    return (cn_value){.kind = CN_MACRO, .as.macro = macro};
}

static cn_flow exec_macro_definition(cn_run *run, const cn_macro_def *def)
{
    const cn_value macro = make_macro(run, def);
    return done(!is_bad(macro) && cn_template_run_store(run, def->name_number, macro));
}

static cn_flow exec_call_block(cn_run *run, const cn_node *node)
{
    const cn_value caller = make_macro(run, node->as.call_block.macro);
    if (is_bad(caller)) return CN_FLOW_FAILED;
    const cn_value text = cn_template_eval_call(run, node->as.call_block.call, caller);
    return is_bad(text) ? CN_FLOW_FAILED : emit_string(run, text, "a call block");
}

static cn_flow exec_with(cn_run *run, const cn_node *node)
{
    cn_scope *outer = run->scope;
    cn_scope *scope = new_scope(run, outer);
    if (!scope) return CN_FLOW_FAILED;
    for (uint32_t i = 0; i < node->as.with.targets.count; i++) {
        const cn_value value = cn_template_eval(run, node->as.with.values.at[i]);
        if (is_bad(value)) return CN_FLOW_FAILED;
        run->scope = scope;
        if (!cn_template_exec_assign(run, node->as.with.targets.at[i], value)) {
            return CN_FLOW_FAILED;
        }
        run->scope = outer;
    }
    run->scope = scope;
    const cn_flow flow = cn_template_exec_body(run, &node->as.with.body);
    run->scope = outer;
    return flow;
}

static cn_flow exec_set(cn_run *run, const cn_node *node)
{
    const cn_value value = cn_template_eval(run, node->as.set.value);
    return done(!is_bad(value) && cn_template_exec_assign(run, node->as.set.target, value));
}

static cn_flow exec(cn_run *run, const cn_node *node)
{
    switch ((cn_node_kind)node->kind) {
    case CN_NODE_TEXT:
        return done(cn_template_run_emit(run, node->as.constant.as.text, node->as.constant.len));
    case CN_NODE_PRINT:
        return done(cn_template_text_str(run, cn_template_eval(run, node->as.expression)));
    case CN_NODE_IF: return exec_if(run, node);
    case CN_NODE_FOR: return exec_for(run, node);
    case CN_NODE_SET: return exec_set(run, node);
    case CN_NODE_SET_BLOCK:
    case CN_NODE_FILTER_BLOCK: return exec_capture(run, node);
    case CN_NODE_MACRO: return exec_macro_definition(run, node->as.macro);
    case CN_NODE_CALL_BLOCK: return exec_call_block(run, node);
    case CN_NODE_WITH: return exec_with(run, node);
    case CN_NODE_SCOPE: return exec_scoped(run, &node->as.block.body, run->scope);
    case CN_NODE_BLOCK: return exec_scoped(run, &node->as.block.body, NULL);
    case CN_NODE_BREAK: return CN_FLOW_BREAK;
    default: return CN_FLOW_CONTINUE;
    }
}

// Calls and bodies inside each other are bounded by depth_max.
static bool deeper(cn_run *run)
{
    if (run->depth < run->depth_max) {
        run->depth++;
        return true;
    }
    cn_template_run_fail(run, CN_E_LIMIT, "calls and blocks are nested more than %u deep",
                         run->depth_max);
    return false;
}

cn_flow cn_template_exec_body(cn_run *run, const cn_nodes *body)
{
    cn_flow flow = CN_FLOW_NEXT;
    if (!body->count) return CN_FLOW_NEXT;
    if (!deeper(run)) return CN_FLOW_FAILED;
    for (uint32_t i = 0; i < body->count && flow == CN_FLOW_NEXT; i++) {
        run->line = body->at[i]->line;
        if (!cn_template_run_charge(run, 1)) return CN_FLOW_FAILED;
        flow = exec(run, body->at[i]);
    }
    run->depth--;
    return flow;
}

/* Binds what was given by position and by name; *given has bit i for parameter i, *taken bit i for
 * keyword i (of the first 64; later ones count as not taken). */
static bool bind_params(cn_run *run, const cn_macro_def *def, const cn_args *args, uint64_t *given,
                        uint64_t *taken)
{
    for (uint32_t i = 0; i < def->param_count; i++) {
        cn_value value = {.kind = CN_UNDEFINED, .flags = CN_NO_NAME,
                          .len = (uint32_t)def->params[i].len, .as.text = def->params[i].at};
        if (i < args->positional_count) {
            value = args->positional[i];
            *given |= 1ull << i;
        }
        for (uint32_t k = 0; k < args->named_count && k < 64 && !(*given & 1ull << i); k++) {
            if (!text_equal(args->named[k].name, def->params[i])) continue;
            value = args->named[k].value;
            *given |= 1ull << i;
            *taken |= 1ull << k;
        }
        if (!cn_template_run_store(run, def->param_numbers[i], value)) return false;
    }
    return true;
}

static bool bind_caller(cn_run *run, const cn_args *args, uint64_t *taken)
{
    cn_value caller = make_sentence("No caller defined");
    for (uint32_t k = 0; k < args->named_count && k < 64; k++) {
        if (!text_is(args->named[k].name, "caller") || (*taken & 1ull << k)) continue;
        if (args->named[k].value.kind != CN_NONE) caller = args->named[k].value;
        *taken |= 1ull << k;
    }
    return cn_template_run_store(run, run->tmpl->caller_name, caller);
}

static bool bind_kwargs(cn_run *run, const cn_macro_def *def, const cn_args *args, uint64_t taken)
{
    cn_dict *rest = cn_template_value_dict(run, args->named_count);
    if (!rest) return false;
    for (uint32_t k = 0; k < args->named_count; k++) {
        const cn_text name = args->named[k].name;
        if (k < 64 && (taken & 1ull << k)) continue;
        if (!(def->uses & CN_USES_KWARGS)) {
            cn_template_run_invalid(run, "macro '%.*s' takes no keyword argument '%.*s'",
                                    (int)def->name.len, def->name.at,
                                    name.len < 60 ? (int)name.len : 60, name.at);
            return false;
        }
        if (!cn_template_value_put(run, rest, make_text(name.at, name.len), args->named[k].value)) {
            return false;
        }
    }
    if (!(def->uses & CN_USES_KWARGS)) return true;
    return cn_template_run_store(run, run->tmpl->kwargs_name, make_dict(CN_DICT, rest));
}

static bool bind_varargs(cn_run *run, const cn_macro_def *def, const cn_args *args)
{
    const uint32_t extra =
        args->positional_count > def->param_count ? args->positional_count - def->param_count : 0;
    if (!(def->uses & CN_USES_VARARGS)) {
        if (!extra) return true;
        cn_template_run_invalid(run, "macro '%.*s' takes not more than %u argument(s)",
                                (int)def->name.len, def->name.at, def->param_count);
        return false;
    }
    // The arguments may live in the caller's frame, which a value must not.
    cn_value *items = cn_template_run_take(run, extra, sizeof *items);
    if (!items) return false;
    if (extra) memcpy(items, args->positional + def->param_count, extra * sizeof *items);
    return cn_template_run_store(run, run->tmpl->varargs_name, make_items(CN_TUPLE, items, extra));
}

static bool bind_defaults(cn_run *run, const cn_macro_def *def, uint64_t given)
{
    for (uint32_t i = 0; i < def->param_count; i++) {
        if ((given & 1ull << i) || !def->defaults[i]) continue;
        const cn_value value = cn_template_eval(run, def->defaults[i]);
        if (is_bad(value) || !cn_template_run_store(run, def->param_numbers[i], value)) {
            return false;
        }
    }
    return true;
}

static bool bind_all(cn_run *run, const cn_macro_def *def, const cn_args *args)
{
    uint64_t given = 0, taken = 0;
    return bind_params(run, def, args, &given, &taken) &&
           (!(def->uses & CN_USES_CALLER) || bind_caller(run, args, &taken)) &&
           bind_kwargs(run, def, args, taken) && bind_varargs(run, def, args) &&
           bind_defaults(run, def, given);
}

cn_value cn_template_exec_macro(cn_run *run, const cn_macro *macro, const cn_args *args)
{
    cn_scope *outer = run->scope;
    cn_scope *scope = new_scope(run, macro->scope);
    if (!scope) return make_bad();
    run->scope = scope;
    const size_t mark = cn_template_run_begin(run);
    if (bind_all(run, macro->def, args)) cn_template_exec_body(run, &macro->def->body);
    run->scope = outer;
    return cn_template_run_end(run, mark);
}
