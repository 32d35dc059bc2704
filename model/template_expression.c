#include "model/template_expression_int.h"

#include <stdarg.h>
#include <stdio.h>

/* How it works. Recursive descent with Jinja's grammar, which differs from Python's in places:
 *
 *    condition   or [if or [else condition]]
 *    or, and, not
 *    compare     sum ((== != < <= > >= in, not in) sum)*            chains as in Python
 *    sum         concat ((+ -) concat)*
 *    concat      product (~ product)*                               binds tighter than + and -
 *    product     power ((* / // %) power)*
 *    power       unary (** unary)*                                  from left to right
 *    unary       (- +)* primary postfix* filter*                    -x|abs is (-x)|abs
 *
 * Every node knows the height of its tree, and trees above CN_HEIGHT_MAX are refused; the parser's
 * own recursion has the same bound. */

void *cn_template_expression_fail(cn_parser *p, cn_code code, const char *format, ...)
{
    char sentence[300];
    va_list args;
    if (p->code) return NULL;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    p->code = cn_err_set(p->err, code, "%s:%u: %s", p->tmpl->name, p->token->line, sentence);
    return NULL;
}

static const char *describe(const cn_token *token)
{
    switch (token->kind) {
    case CN_TOKEN_END: return "end of template";
    case CN_TOKEN_DATA: return "text";
    case CN_TOKEN_PRINT_BEGIN: return "{{";
    case CN_TOKEN_PRINT_END: return "}}";
    case CN_TOKEN_TAG_BEGIN: return "{%";
    case CN_TOKEN_TAG_END: return "%}";
    case CN_TOKEN_STRING: return "string";
    case CN_TOKEN_INT: return "integer";
    case CN_TOKEN_FLOAT: return "float";
    default: return NULL;
    }
}

void *cn_template_expression_expected(cn_parser *p, const char *wanted)
{
    const char *found = describe(p->token);
    const cn_text text = found ? text_from(found) : p->token->text;
    return cn_template_expression_fail(p, CN_E_FORMAT, "found '%.*s'; expected %s",
                                       text.len < 60 ? (int)text.len : 60, text.at, wanted);
}

bool cn_template_expression_is(const cn_parser *p, cn_token_kind kind, const char *text)
{
    return p->token->kind == kind && (!text || text_is(p->token->text, text));
}

static bool next_is(const cn_parser *p, cn_token_kind kind, const char *text)
{
    return p->token->kind != CN_TOKEN_END && p->token[1].kind == kind &&
           text_is(p->token[1].text, text);
}

bool cn_template_expression_skip(cn_parser *p, cn_token_kind kind, const char *text)
{
    if (!cn_template_expression_is(p, kind, text)) return false;
    if (p->token->kind != CN_TOKEN_END) p->token++;
    return true;
}

bool cn_template_expression_expect(cn_parser *p, cn_token_kind kind, const char *text)
{
    char wanted[40];
    if (cn_template_expression_skip(p, kind, text)) return true;
    const cn_token token = {.kind = kind};
    snprintf(wanted, sizeof wanted, "'%s'", text ? text : describe(&token));
    cn_template_expression_expected(p, wanted);
    return false;
}

bool cn_template_expression_name(cn_parser *p, cn_text *name)
{
    *name = p->token->text;
    if (cn_template_expression_skip(p, CN_TOKEN_NAME, NULL)) return true;
    cn_template_expression_expected(p, "a name");
    return false;
}

static bool is_op(const cn_parser *p, const char *text)
{
    return cn_template_expression_is(p, CN_TOKEN_OPERATOR, text);
}

static bool skip_op(cn_parser *p, const char *text)
{
    return cn_template_expression_skip(p, CN_TOKEN_OPERATOR, text);
}

static bool expect_op(cn_parser *p, const char *text)
{
    return cn_template_expression_expect(p, CN_TOKEN_OPERATOR, text);
}

static bool is_word(const cn_parser *p, const char *text)
{
    return cn_template_expression_is(p, CN_TOKEN_NAME, text);
}

static bool skip_word(cn_parser *p, const char *text)
{
    return cn_template_expression_skip(p, CN_TOKEN_NAME, text);
}

void *cn_template_expression_take(cn_parser *p, size_t count, size_t size)
{
    void *piece = cn_arena_take_array(&p->tmpl->arena, count, size);
    if (piece) return piece;
    return cn_template_expression_fail(p, CN_E_MEMORY, "no memory for the parsed template");
}

cn_node *cn_template_expression_node(cn_parser *p, cn_node_kind kind)
{
    cn_node *node = cn_template_expression_take(p, 1, sizeof *node);
    if (!node) return NULL;
    node->kind = (uint8_t)kind;
    node->height = 1;
    node->line = p->token->line;
    return node;
}

// Notes that `child` (may be NULL: its parsing failed) is below `node`.
static bool adopt(cn_parser *p, cn_node *node, const cn_node *child)
{
    if (!node || !child) return false;
    if (child->height >= node->height) node->height = child->height + 1;
    if (node->height <= CN_HEIGHT_MAX) return true;
    cn_template_expression_fail(p, CN_E_FORMAT, "the expression is nested more than %d deep",
                                CN_HEIGHT_MAX);
    return false;
}

bool cn_template_expression_push(cn_parser *p, cn_growing *list, cn_node *node)
{
    if (!node) return false;
    if (list->count == list->capacity) {
        const uint32_t capacity = list->capacity ? list->capacity * 2 : 4;
        cn_node **at = cn_template_expression_take(p, capacity, sizeof *at);
        if (!at) return false;
        if (list->count) memcpy(at, list->at, list->count * sizeof *at);
        list->at = at;
        list->capacity = capacity;
    }
    list->at[list->count++] = node;
    return true;
}

static bool push_below(cn_parser *p, cn_node *parent, cn_growing *list, cn_node *node)
{
    return adopt(p, parent, node) && cn_template_expression_push(p, list, node);
}

static cn_nodes finished(const cn_growing *list)
{
    return (cn_nodes){.at = list->at, .count = list->count};
}

static bool add_name(cn_parser *p, cn_text name, uint32_t number)
{
    cn_template *tmpl = p->tmpl;
    if (number == p->names_capacity) {
        const uint32_t capacity = number ? number * 2 : 32;
        cn_text *names = cn_template_expression_take(p, capacity, sizeof *names);
        if (!names) return false;
        if (number) memcpy(names, tmpl->names, number * sizeof *names);
        tmpl->names = names;
        p->names_capacity = capacity;
    }
    tmpl->names[tmpl->name_count++] = name;
    if (cn_map_put(p->names, name.at, (uint32_t)name.len, number) == CN_OK) return true;
    cn_template_expression_fail(p, CN_E_MEMORY, "no memory for the parsed template");
    return false;
}

bool cn_template_expression_number(cn_parser *p, cn_text name, uint32_t *number)
{
    uint64_t found;
    if (cn_map_find(p->names, name.at, (uint32_t)name.len, &found)) {
        *number = (uint32_t)found;
        return true;
    }
    *number = p->tmpl->name_count;
    return add_name(p, name, *number);
}

static uint32_t special_name(cn_text name)
{
    return text_is(name, "caller")    ? CN_USES_CALLER
           : text_is(name, "kwargs")  ? CN_USES_KWARGS
           : text_is(name, "varargs") ? CN_USES_VARARGS
                                      : 0;
}

void cn_template_expression_bind(cn_parser *p, cn_text name)
{
    const uint32_t special = special_name(name);
    for (cn_macro_scope *macro = p->macros; special && macro; macro = macro->outer) {
        macro->hidden |= special;
    }
}

static cn_node *name_node(cn_parser *p, cn_text name)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_NAME);
    const uint32_t special = special_name(name);
    if (!node || !cn_template_expression_number(p, name, &node->as.name.number)) return NULL;
    node->as.name.text = name;
    for (cn_macro_scope *macro = p->macros; special && macro; macro = macro->outer) {
        macro->uses |= special & ~macro->hidden;
    }
    return node;
}

static cn_node *const_node(cn_parser *p, cn_value value)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_CONST);
    if (node) node->as.constant = value;
    return node;
}

// "a" "b" is "ab".
static cn_node *string_node(cn_parser *p)
{
    size_t len = 0;
    const cn_token *end = p->token;
    for (; end->kind == CN_TOKEN_STRING; end++) len += end->text.len;
    if (end == p->token + 1) {
        cn_node *only = const_node(p, make_text(p->token->text.at, len));
        p->token = end;
        return only;
    }
    char *joined = cn_template_expression_take(p, len + 1, 1);
    cn_node *node = const_node(p, make_text(joined, len));
    if (!joined || !node) return NULL;
    for (; p->token < end; p->token++) {
        memcpy(joined, p->token->text.at, p->token->text.len);
        joined += p->token->text.len;
    }
    return node;
}

static cn_node *list_node(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_LIST);
    cn_growing items = {0};
    if (!node || !expect_op(p, "[")) return NULL;
    while (!is_op(p, "]")) {
        if (items.count && !expect_op(p, ",")) return NULL;
        if (is_op(p, "]")) break;
        if (!push_below(p, node, &items, cn_template_expression_parse(p))) return NULL;
    }
    node->as.items = finished(&items);
    return expect_op(p, "]") ? node : NULL;
}

static cn_node *dict_node(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_DICT);
    cn_growing items = {0};
    if (!node || !expect_op(p, "{")) return NULL;
    while (!is_op(p, "}")) {
        if (items.count && !expect_op(p, ",")) return NULL;
        if (is_op(p, "}")) break;
        if (!push_below(p, node, &items, cn_template_expression_parse(p))) return NULL;
        if (!expect_op(p, ":")) return NULL;
        if (!push_below(p, node, &items, cn_template_expression_parse(p))) return NULL;
    }
    node->as.items = finished(&items);
    return expect_op(p, "}") ? node : NULL;
}

static cn_node *condition(cn_parser *p);
static cn_node *or_expression(cn_parser *p);

static bool tuple_ends(const cn_parser *p)
{
    return p->token->kind == CN_TOKEN_PRINT_END || p->token->kind == CN_TOKEN_TAG_END ||
           is_op(p, ")");
}

static cn_node *tuple(cn_parser *p, bool with_if, bool may_be_empty)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_TUPLE);
    cn_growing items = {0};
    bool is_tuple = false;
    if (!node) return NULL;
    for (;;) {
        if (items.count && !expect_op(p, ",")) return NULL;
        if (tuple_ends(p) || (!with_if && is_word(p, "recursive"))) break;
        cn_node *item = with_if ? cn_template_expression_parse(p) : or_expression(p);
        if (!push_below(p, node, &items, item)) return NULL;
        if (!is_op(p, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && items.count) return items.at[0];
    if (!is_tuple && !may_be_empty) return cn_template_expression_expected(p, "an expression");
    node->as.items = finished(&items);
    return node;
}

cn_node *cn_template_expression_tuple(cn_parser *p, bool with_if)
{
    return tuple(p, with_if, false);
}

static cn_node *constant_name(cn_parser *p, cn_text name)
{
    if (text_is(name, "true") || text_is(name, "True")) return const_node(p, make_bool(true));
    if (text_is(name, "false") || text_is(name, "False")) return const_node(p, make_bool(false));
    if (text_is(name, "none") || text_is(name, "None")) return const_node(p, make_none());
    return NULL;
}

static cn_node *primary(cn_parser *p)
{
    cn_node *node = NULL;
    switch (p->token->kind) {
    case CN_TOKEN_NAME:
        node = constant_name(p, p->token->text);
        if (!node) node = name_node(p, p->token->text);
        p->token++;
        return node;
    case CN_TOKEN_STRING: return string_node(p);
    case CN_TOKEN_INT:
    case CN_TOKEN_FLOAT:
        node = const_node(p, p->token->number);
        p->token++;
        return node;
    default: break;
    }
    if (is_op(p, "[")) return list_node(p);
    if (is_op(p, "{")) return dict_node(p);
    if (!is_op(p, "(")) return cn_template_expression_expected(p, "an expression");
    p->token++;
    node = tuple(p, true, true);
    return node && expect_op(p, ")") ? node : NULL;
}

static uint32_t kinds_with_method(cn_text name)
{
    uint32_t kinds = 0;
    for (uint32_t kind = 0; kind < CN_KIND_COUNT; kind++) {
        if (cn_template_methods_find((cn_kind)kind, name)) kinds |= 1u << kind;
    }
    return kinds;
}

static cn_node *attribute(cn_parser *p, cn_node *of)
{
    const bool numbered = p->token->kind == CN_TOKEN_INT;
    cn_node *node = cn_template_expression_node(p, numbered ? CN_NODE_ITEM : CN_NODE_ATTRIBUTE);
    if (!adopt(p, node, of)) return NULL;
    if (numbered) {
        node->as.item.of = of;
        node->as.item.index = const_node(p, p->token->number);
        p->token++;
        return node->as.item.index ? node : NULL;
    }
    node->as.attribute.of = of;
    if (!cn_template_expression_name(p, &node->as.attribute.name)) return NULL;
    node->as.attribute.kinds = kinds_with_method(node->as.attribute.name);
    return node;
}

// An optional part of a slice; false on error.
static bool slice_part(cn_parser *p, cn_node *slice, cn_node **part)
{
    if (is_op(p, ":") || is_op(p, "]") || is_op(p, ",")) return true;
    *part = cn_template_expression_parse(p);
    return adopt(p, slice, *part);
}

// Behind `[`, when what follows has a colon: `start` is what stands before it, NULL if nothing.
static cn_node *slice_node(cn_parser *p, cn_node *of, cn_node *start)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_SLICE);
    if (!adopt(p, node, of) || (start && !adopt(p, node, start)) || !expect_op(p, ":")) return NULL;
    node->as.slice.of = of;
    node->as.slice.start = start;
    if (!slice_part(p, node, &node->as.slice.stop)) return NULL;
    if (skip_op(p, ":") && !slice_part(p, node, &node->as.slice.step)) return NULL;
    return node;
}

static cn_node *subscript(cn_parser *p, cn_node *of)
{
    cn_node *index = NULL;
    if (!is_op(p, ":")) {
        // A tuple as index finds the tuple keys of a dict.
        cn_growing parts = {0};
        cn_node *tuple_index = cn_template_expression_node(p, CN_NODE_TUPLE);
        do {
            index = cn_template_expression_parse(p);
            if (!push_below(p, tuple_index, &parts, index)) return NULL;
        } while (skip_op(p, ",") && !is_op(p, "]"));
        tuple_index->as.items = finished(&parts);
        if (parts.count > 1) index = tuple_index;
    }
    if (is_op(p, ":")) {
        cn_node *slice = slice_node(p, of, index);
        return slice && expect_op(p, "]") ? slice : NULL;
    }
    cn_node *node = cn_template_expression_node(p, CN_NODE_ITEM);
    if (!adopt(p, node, of) || !adopt(p, node, index) || !expect_op(p, "]")) return NULL;
    node->as.item.of = of;
    node->as.item.index = index;
    return node;
}

typedef struct reading_args {
    cn_growing positional;
    cn_growing keyword_values;
    cn_text *names;
    uint32_t names_capacity;
} reading_args;

static bool keyword(cn_parser *p, cn_node *node, reading_args *reading)
{
    const uint32_t count = reading->keyword_values.count;
    if (count == reading->names_capacity) {
        const uint32_t capacity = count ? count * 2 : 4;
        cn_text *names = cn_template_expression_take(p, capacity, sizeof *names);
        if (!names) return false;
        if (count) memcpy(names, reading->names, count * sizeof *names);
        reading->names = names;
        reading->names_capacity = capacity;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!text_equal(reading->names[i], p->token->text)) continue;
        cn_template_expression_fail(p, CN_E_FORMAT, "the keyword argument '%.*s' is given twice",
                                    (int)p->token->text.len, p->token->text.at);
        return false;
    }
    reading->names[count] = p->token->text;
    p->token += 2;
    return push_below(p, node, &reading->keyword_values, cn_template_expression_parse(p));
}

static bool argument(cn_parser *p, cn_node *node, cn_call_args *args, reading_args *reading)
{
    const bool plain_allowed = !args->star && !args->star_star && !reading->keyword_values.count;
    if (is_op(p, "*") && !args->star && !args->star_star) {
        p->token++;
        return adopt(p, node, args->star = cn_template_expression_parse(p));
    }
    if (is_op(p, "**") && !args->star_star) {
        p->token++;
        return adopt(p, node, args->star_star = cn_template_expression_parse(p));
    }
    if (p->token->kind == CN_TOKEN_NAME && next_is(p, CN_TOKEN_OPERATOR, "=") && !args->star_star) {
        return keyword(p, node, reading);
    }
    if (plain_allowed) {
        return push_below(p, node, &reading->positional, cn_template_expression_parse(p));
    }
    cn_template_expression_expected(p, "a keyword argument, as the ones before it");
    return false;
}

// (a, b, c=d, *e, **f) of a call, filter or test.
static bool call_args(cn_parser *p, cn_node *node)
{
    cn_call_args *args = &node->as.call.args;
    reading_args reading = {0};
    bool more = false;
    if (!expect_op(p, "(")) return false;
    while (!is_op(p, ")")) {
        if (more && !expect_op(p, ",")) return false;
        if (more && is_op(p, ")")) break;
        if (!argument(p, node, args, &reading)) return false;
        more = true;
    }
    args->positional = finished(&reading.positional);
    args->keyword_count = reading.keyword_values.count;
    args->keywords = cn_template_expression_take(p, args->keyword_count, sizeof *args->keywords);
    if (!args->keywords) return false;
    for (uint32_t i = 0; i < args->keyword_count; i++) {
        args->keywords[i] = (cn_keyword){reading.names[i], reading.keyword_values.at[i]};
    }
    return expect_op(p, ")");
}

static cn_node *call(cn_parser *p, cn_node *callee)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_CALL);
    if (!adopt(p, node, callee)) return NULL;
    node->as.call.of = callee;
    return call_args(p, node) ? node : NULL;
}

static cn_node *postfix(cn_parser *p, cn_node *node)
{
    while (node) {
        if (skip_op(p, ".")) node = attribute(p, node);
        else if (skip_op(p, "[")) node = subscript(p, node);
        else if (is_op(p, "(")) node = call(p, node);
        else break;
    }
    return node;
}

/* Finds the filter or test that `node` names; one that is not known is remembered and refused at
 * the end of the tag, unless it stands where it might never be used. */
static bool resolve(cn_parser *p, cn_node *node)
{
    const bool is_filter = node->kind == CN_NODE_FILTER;
    const cn_text name = node->as.call.name;
    const cn_native *native =
        is_filter ? cn_template_filters_find(name) : cn_template_tests_find(name);
    node->as.call.native = native;
    if (native && !native->call) {
        cn_template_expression_fail(p, CN_E_UNSUPPORTED, "the filter '%s' is not supported",
                                    native->name);
        return false;
    }
    if (!native && !p->unknown) p->unknown = node;
    return true;
}

static bool dotted_name(cn_parser *p, cn_text *name)
{
    cn_text part;
    if (!cn_template_expression_name(p, name)) return false;
    while (skip_op(p, ".")) {
        if (!cn_template_expression_name(p, &part)) return false;
        name->len = (size_t)(part.at + part.len - name->at);
    }
    return true;
}

static cn_node *filter(cn_parser *p, cn_node *of)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_FILTER);
    if (!adopt(p, node, of)) return NULL;
    node->as.call.of = of;
    if (!dotted_name(p, &node->as.call.name) || !resolve(p, node)) return NULL;
    if (is_op(p, "(") && !call_args(p, node)) return NULL;
    return node;
}

cn_node *cn_template_expression_filters(cn_parser *p, cn_node *of)
{
    cn_node *node = filter(p, of);
    while (node && skip_op(p, "|")) node = filter(p, node);
    return node;
}

// A test's argument may stand without brackets: `is divisibleby 3`.
static bool starts_argument(const cn_parser *p)
{
    switch (p->token->kind) {
    case CN_TOKEN_NAME: return !is_word(p, "else") && !is_word(p, "or") && !is_word(p, "and");
    case CN_TOKEN_STRING:
    case CN_TOKEN_INT:
    case CN_TOKEN_FLOAT: return true;
    default: return is_op(p, "[") || is_op(p, "{");
    }
}

static bool bare_argument(cn_parser *p, cn_node *node)
{
    cn_growing positional = {0};
    if (is_word(p, "is")) {
        cn_template_expression_fail(p, CN_E_FORMAT, "tests cannot be chained with 'is'");
        return false;
    }
    if (!push_below(p, node, &positional, postfix(p, primary(p)))) return false;
    node->as.call.args.positional = finished(&positional);
    return true;
}

// Behind `is`.
static cn_node *test(cn_parser *p, cn_node *of)
{
    const bool negated = skip_word(p, "not");
    cn_node *node = cn_template_expression_node(p, CN_NODE_TEST);
    if (!adopt(p, node, of)) return NULL;
    node->as.call.of = of;
    if (!dotted_name(p, &node->as.call.name) || !resolve(p, node)) return NULL;
    if (is_op(p, "(")) {
        if (!call_args(p, node)) return NULL;
    } else if (starts_argument(p) && !bare_argument(p, node)) {
        return NULL;
    }
    if (!negated) return node;
    cn_node *not = cn_template_expression_node(p, CN_NODE_UNARY);
    if (!adopt(p, not, node)) return NULL;
    not->op = CN_OP_NOT;
    not->as.operands.left = node;
    return not;
}

static cn_node *filters_and_tests(cn_parser *p, cn_node *node)
{
    while (node) {
        if (skip_op(p, "|")) node = filter(p, node);
        else if (skip_word(p, "is")) node = test(p, node);
        else if (is_op(p, "(")) node = call(p, node);
        else break;
    }
    return node;
}

static bool enter(cn_parser *p)
{
    if (p->depth < CN_HEIGHT_MAX) {
        p->depth++;
        return true;
    }
    cn_template_expression_fail(p, CN_E_FORMAT, "the expression is nested more than %d deep",
                                CN_HEIGHT_MAX);
    return false;
}

static cn_node *unary_node(cn_parser *p, cn_op op, cn_node *of)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_UNARY);
    if (!adopt(p, node, of)) return NULL;
    node->op = (uint8_t)op;
    node->as.operands.left = of;
    return node;
}

static cn_node *binary_node(cn_parser *p, cn_op op, cn_node *left, cn_node *right)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_BINARY);
    if (!adopt(p, node, left) || !adopt(p, node, right)) return NULL;
    node->op = (uint8_t)op;
    node->as.operands.left = left;
    node->as.operands.right = right;
    return node;
}

static cn_node *unary(cn_parser *p, bool with_filters)
{
    cn_node *node;
    if (!enter(p)) return NULL;
    if (skip_op(p, "-")) node = unary_node(p, CN_OP_NEGATE, unary(p, false));
    else if (skip_op(p, "+")) node = unary_node(p, CN_OP_PLUS, unary(p, false));
    else node = primary(p);
    node = postfix(p, node);
    if (with_filters) node = filters_and_tests(p, node);
    p->depth--;
    return node;
}

static cn_node *power(cn_parser *p)
{
    cn_node *node = unary(p, true);
    while (node && skip_op(p, "**")) node = binary_node(p, CN_OP_POWER, node, unary(p, true));
    return node;
}

static cn_node *product(cn_parser *p)
{
    cn_node *node = power(p);
    while (node) {
        if (skip_op(p, "*")) node = binary_node(p, CN_OP_MULTIPLY, node, power(p));
        else if (skip_op(p, "/")) node = binary_node(p, CN_OP_DIVIDE, node, power(p));
        else if (skip_op(p, "//")) node = binary_node(p, CN_OP_FLOOR_DIVIDE, node, power(p));
        else if (skip_op(p, "%")) node = binary_node(p, CN_OP_MODULO, node, power(p));
        else break;
    }
    return node;
}

static cn_node *concat(cn_parser *p)
{
    cn_node *first = product(p);
    if (!first || !is_op(p, "~")) return first;
    cn_node *node = cn_template_expression_node(p, CN_NODE_CONCAT);
    cn_growing terms = {0};
    if (!push_below(p, node, &terms, first)) return NULL;
    while (skip_op(p, "~")) {
        if (!push_below(p, node, &terms, product(p))) return NULL;
    }
    node->as.items = finished(&terms);
    return node;
}

static cn_node *sum(cn_parser *p)
{
    cn_node *node = concat(p);
    while (node) {
        if (skip_op(p, "+")) node = binary_node(p, CN_OP_ADD, node, concat(p));
        else if (skip_op(p, "-")) node = binary_node(p, CN_OP_SUBTRACT, node, concat(p));
        else break;
    }
    return node;
}

static bool skip_comparison(cn_parser *p, uint8_t *op)
{
    static const struct { const char *text; cn_op op; } table[] = {
        {"==", CN_OP_EQ}, {"!=", CN_OP_NE}, {"<", CN_OP_LT},
        {"<=", CN_OP_LE}, {">", CN_OP_GT},  {">=", CN_OP_GE},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        *op = (uint8_t)table[i].op;
        if (skip_op(p, table[i].text)) return true;
    }
    *op = CN_OP_IN;
    if (skip_word(p, "in")) return true;
    if (!is_word(p, "not") || !next_is(p, CN_TOKEN_NAME, "in")) return false;
    *op = CN_OP_NOT_IN;
    p->token += 2;
    return true;
}

static cn_node *compare(cn_parser *p)
{
    cn_node *first = sum(p);
    cn_node *node = NULL;
    cn_growing terms = {0};
    uint8_t ops[64];
    if (!first) return NULL;
    for (uint32_t i = 0; skip_comparison(p, &ops[i]); i++) {
        if (!node) {
            node = cn_template_expression_node(p, CN_NODE_COMPARE);
            if (!push_below(p, node, &terms, first)) return NULL;
        }
        if (!push_below(p, node, &terms, sum(p))) return NULL;
        if (i + 2 == sizeof ops) {
            return cn_template_expression_fail(
                p, CN_E_FORMAT, "more than %zu comparisons in one chain", sizeof ops);
        }
    }
    if (!node) return first;
    node->as.compare.terms = finished(&terms);
    node->as.compare.ops = cn_template_expression_take(p, terms.count, 1);
    if (!node->as.compare.ops) return NULL;
    memcpy(node->as.compare.ops, ops, terms.count - 1);
    return node;
}

static cn_node *not_expression(cn_parser *p)
{
    if (!skip_word(p, "not")) return compare(p);
    if (!enter(p)) return NULL;
    cn_node *node = unary_node(p, CN_OP_NOT, not_expression(p));
    p->depth--;
    return node;
}

static cn_node *and_expression(cn_parser *p)
{
    cn_node *node = not_expression(p);
    while (node && skip_word(p, "and")) node = binary_node(p, CN_OP_AND, node, not_expression(p));
    return node;
}

static cn_node *or_expression(cn_parser *p)
{
    cn_node *node = and_expression(p);
    while (node && skip_word(p, "or")) node = binary_node(p, CN_OP_OR, node, and_expression(p));
    return node;
}

static cn_node *condition(cn_parser *p)
{
    const cn_node *unknown = p->unknown;
    cn_node *then = or_expression(p);
    while (then && skip_word(p, "if")) {
        cn_node *node = cn_template_expression_node(p, CN_NODE_CONDITION);
        cn_node *decides = or_expression(p);
        if (!adopt(p, node, then) || !adopt(p, node, decides)) return NULL;
        node->as.condition.test = decides;
        node->as.condition.then = then;
        if (skip_word(p, "else")) {
            node->as.condition.otherwise = cn_template_expression_parse(p);
            if (!adopt(p, node, node->as.condition.otherwise)) return NULL;
        }
        then = node;
        p->unknown = unknown;
    }
    return then;
}

cn_node *cn_template_expression_parse(cn_parser *p)
{
    if (!enter(p)) return NULL;
    cn_node *node = condition(p);
    p->depth--;
    return node;
}

static cn_node *one_target(cn_parser *p, bool with_namespace)
{
    cn_text name;
    if (skip_op(p, "(")) {
        if (!enter(p)) return NULL;
        cn_node *inner = cn_template_expression_target(p, with_namespace);
        p->depth--;
        return inner && expect_op(p, ")") ? inner : NULL;
    }
    if (!cn_template_expression_name(p, &name)) return NULL;
    if (constant_name(p, name)) {
        return cn_template_expression_fail(p, CN_E_FORMAT, "cannot assign to '%.*s'",
                                           (int)name.len, name.at);
    }
    const bool dotted = with_namespace && skip_op(p, ".");
    cn_node *node =
        cn_template_expression_node(p, dotted ? CN_NODE_NAMESPACE_TARGET : CN_NODE_NAME);
    if (!node) return NULL;
    if (!dotted) {
        cn_template_expression_bind(p, name);
        node->as.name.text = name;
        return cn_template_expression_number(p, name, &node->as.name.number) ? node : NULL;
    }
    node->as.target.text = name;
    if (!cn_template_expression_name(p, &node->as.target.attribute)) return NULL;
    return cn_template_expression_number(p, name, &node->as.target.number) ? node : NULL;
}

cn_node *cn_template_expression_target(cn_parser *p, bool with_namespace)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_TUPLE);
    cn_growing targets = {0};
    bool is_tuple = false;
    do {
        if (is_tuple && (tuple_ends(p) || is_word(p, "in"))) break;
        if (!push_below(p, node, &targets, one_target(p, with_namespace))) return NULL;
        is_tuple = is_tuple || is_op(p, ",");
    } while (skip_op(p, ","));
    if (!is_tuple) return targets.at[0];
    node->as.items = finished(&targets);
    return node;
}
