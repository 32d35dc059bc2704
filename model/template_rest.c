#include "model/template_rest.h"

#include "model/template_exec_int.h"
#include "model/template_rest_int.h"

/* How it works. The outermost statements must be
 *
 *    before ...   {% for message in messages %} within ... {% endfor %}   behind ...
 *
 * and nothing may carry from one round to the next, or look at other messages. So no round knows
 * `messages`, and of `loop` no more than index, index0 and first; none ends the loop, and none sets a
 * member of a namespace. Before the loop only messages[0], and whether there are messages, may be asked.
 * What changes by being looked at (an iterator, a cycler, a joiner) is made nowhere outside of a round.
 * Behind the loop, nothing knows `messages`.
 *
 * A later round then writes the same whether the earlier ones were run or not: to write the rest, what is
 * before the loop runs for what it sets, and the loop begins late. A template with macros or blocks, or one
 * that asks for the time, is left alone, as is everything that is not listed here. */

typedef enum part { BEFORE, WITHIN, BEHIND } part;

typedef struct look {
    part part;
    uint32_t loops;              // that the node is in, beside the one over messages
    bool asks_first;             // messages[0] was met
} look;

static bool fits(look *l, const cn_node *node);

static bool is_name(const cn_node *node, const char *name)
{
    return node && node->kind == CN_NODE_NAME && text_is(node->as.name.text, name);
}

// The others are `messages`, `loop` by itself, and what makes a value that changes.
static bool name_fits(const cn_node *node)
{
    static const char *const refused[] = {"messages", "loop", "cycler", "joiner", "strftime_now"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (is_name(node, refused[i])) return false;
    }
    return true;
}

static bool nodes_fit(look *l, const cn_nodes *nodes)
{
    for (uint32_t i = 0; i < nodes->count; i++) {
        if (!fits(l, nodes->at[i])) return false;
    }
    return true;
}

// A value of which only the truth counts: there always is a message.
static bool truth_fits(look *l, const cn_node *node)
{
    return (l->part == BEFORE && is_name(node, "messages")) || fits(l, node);
}

static bool attribute_fits(look *l, const cn_node *node)
{
    const cn_text name = node->as.attribute.name;
    if (!is_name(node->as.attribute.of, "loop")) return fits(l, node->as.attribute.of);
    if (l->loops > 0) return !text_is(name, "changed");
    return text_is(name, "index") || text_is(name, "index0") || text_is(name, "first");
}

static bool item_fits(look *l, const cn_node *node)
{
    const cn_node *index = node->as.item.index;
    const bool is_first = index->kind == CN_NODE_CONST && index->as.constant.kind == CN_INT &&
                          index->as.constant.as.integer == 0;
    if (l->part == BEFORE && is_first && is_name(node->as.item.of, "messages")) {
        l->asks_first = true;
        return true;
    }
    return fits(l, node->as.item.of) && fits(l, index);
}

// Filters that give no iterator.
static bool filter_is_plain(cn_text name)
{
    static const char *const plain[] = {
        "trim", "tojson", "length", "count", "upper", "lower", "title", "capitalize", "default", "d",
        "string", "int", "float", "join", "replace", "indent", "list", "sort", "first", "last", "safe"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (text_is(name, plain[i])) return true;
    }
    return false;
}

static bool call_fits(look *l, const cn_node *node)
{
    const cn_call_args *args = &node->as.call.args;
    if (node->kind == CN_NODE_FILTER && l->part == BEFORE && !filter_is_plain(node->as.call.name)) {
        return false;
    }
    for (uint32_t i = 0; i < args->keyword_count; i++) {
        if (!fits(l, args->keywords[i].value)) return false;
    }
    return fits(l, node->as.call.of) && nodes_fit(l, &args->positional) && fits(l, args->star) &&
           fits(l, args->star_star);
}

static bool operands_fit(look *l, const cn_node *node)
{
    const cn_node *left = node->as.operands.left, *right = node->as.operands.right;
    const bool asks = (node->kind == CN_NODE_UNARY && node->op == CN_OP_NOT) ||
                      (node->kind == CN_NODE_BINARY && node->op == CN_OP_AND);
    if (!(asks ? truth_fits(l, left) : fits(l, left))) return false;
    return node->kind == CN_NODE_UNARY || fits(l, right);
}

static bool branches_fit(look *l, const cn_node *node)
{
    for (uint32_t i = 0; i < node->as.branch.count; i++) {
        const cn_branch *branch = &node->as.branch.branches[i];
        if (!truth_fits(l, branch->test) || !nodes_fit(l, &branch->body)) return false;
    }
    return nodes_fit(l, &node->as.branch.otherwise);
}

static bool inner_loop_fits(look *l, const cn_for *loop)
{
    if (!fits(l, loop->source) || !fits(l, loop->test) || !nodes_fit(l, &loop->otherwise)) return false;
    l->loops++;
    const bool ok = fits(l, loop->target) && nodes_fit(l, &loop->body);
    l->loops--;
    return ok;
}

// Expressions, and NULL where a part is left out.
static bool expression_fits(look *l, const cn_node *node)
{
    switch ((cn_node_kind)node->kind) {
    case CN_NODE_CONST:
    case CN_NODE_INPUT: return true;
    case CN_NODE_NAME: return name_fits(node);
    case CN_NODE_ATTRIBUTE: return attribute_fits(l, node);
    case CN_NODE_ITEM: return item_fits(l, node);
    case CN_NODE_SLICE:
        return fits(l, node->as.slice.of) && fits(l, node->as.slice.start) &&
               fits(l, node->as.slice.stop) && fits(l, node->as.slice.step);
    case CN_NODE_UNARY:
    case CN_NODE_BINARY: return operands_fit(l, node);
    case CN_NODE_COMPARE: return nodes_fit(l, &node->as.compare.terms);
    case CN_NODE_CONDITION:
        return truth_fits(l, node->as.condition.test) && fits(l, node->as.condition.then) &&
               fits(l, node->as.condition.otherwise);
    case CN_NODE_CONCAT:
    case CN_NODE_LIST:
    case CN_NODE_TUPLE:
    case CN_NODE_DICT: return nodes_fit(l, &node->as.items);
    case CN_NODE_CALL:
    case CN_NODE_FILTER:
    case CN_NODE_TEST: return call_fits(l, node);
    case CN_NODE_NAMESPACE_TARGET: return l->part != WITHIN;
    default: return false;
    }
}

static bool fits(look *l, const cn_node *node)
{
    if (!node) return true;
    switch ((cn_node_kind)node->kind) {
    case CN_NODE_TEXT:
    case CN_NODE_CONTINUE: return true;
    case CN_NODE_BREAK: return l->loops > 0;
    case CN_NODE_PRINT: return fits(l, node->as.expression);
    case CN_NODE_IF: return branches_fit(l, node);
    case CN_NODE_FOR: return inner_loop_fits(l, &node->as.loop);
    case CN_NODE_SET: return fits(l, node->as.set.target) && fits(l, node->as.set.value);
    case CN_NODE_SET_BLOCK:
    case CN_NODE_FILTER_BLOCK:
    case CN_NODE_SCOPE:
        return fits(l, node->as.block.target) && fits(l, node->as.block.filter) &&
               nodes_fit(l, &node->as.block.body);
    case CN_NODE_WITH:
        return nodes_fit(l, &node->as.with.targets) && nodes_fit(l, &node->as.with.values) &&
               nodes_fit(l, &node->as.with.body);
    default: return expression_fits(l, node);
    }
}

static bool goes_over_messages(const cn_node *node)
{
    const cn_for *loop = &node->as.loop;
    return node->kind == CN_NODE_FOR && is_name(loop->source, "messages") && !loop->test &&
           loop->otherwise.count == 0 && loop->target->kind == CN_NODE_NAME && name_fits(loop->target);
}

uint32_t cn_template_rest_find(const cn_template *tmpl, bool *asks_first)
{
    look l = {BEFORE, 0, false};
    uint32_t found = UINT32_MAX;
    for (uint32_t i = 0; i < tmpl->body.count; i++) {
        const cn_node *node = tmpl->body.at[i];
        if (l.part == BEFORE && goes_over_messages(node)) {
            found = i;
            l.part = WITHIN;
            if (!nodes_fit(&l, &node->as.loop.body)) return UINT32_MAX;
            l.part = BEHIND;
        } else if (!fits(&l, node)) {
            return UINT32_MAX;
        }
    }
    *asks_first = l.asks_first;
    return found;
}

bool cn_template_rest_is_possible(const cn_template *tmpl) { return tmpl->messages_at != UINT32_MAX; }

bool cn_template_rest_asks_first(const cn_template *tmpl) { return tmpl->asks_first; }
