#include "model/template_parse_int.h"

#include "model/template_expression_int.h"

/* How it works. A body is read up to one of the tags that may end it; that tag stays current, and
 * the statement that owns the body passes it. `soft` follows Jinja: inside an if (but not in a loop
 * or macro that is in the if) an unknown filter is refused when it is used, elsewhere at once. */

static bool word(cn_parser *p, const char *text)
{
    return cn_template_expression_is(p, CN_TOKEN_NAME, text);
}

static bool skip_word(cn_parser *p, const char *text)
{
    return cn_template_expression_skip(p, CN_TOKEN_NAME, text);
}

static bool skip_op(cn_parser *p, const char *text)
{
    return cn_template_expression_skip(p, CN_TOKEN_OPERATOR, text);
}

static bool expect_op(cn_parser *p, const char *text)
{
    return cn_template_expression_expect(p, CN_TOKEN_OPERATOR, text);
}

static bool body(cn_parser *p, const char *const *ends, cn_nodes *out);

// The end of a tag: here an unknown filter in it is refused.
static bool tag_end(cn_parser *p, cn_token_kind kind)
{
    const cn_node *unknown = p->unknown;
    p->unknown = NULL;
    if (unknown && !p->soft) {
        const cn_text name = unknown->as.call.name;
        cn_template_expression_fail(p, CN_E_FORMAT, "no %s named '%.*s'",
                                    unknown->kind == CN_NODE_FILTER ? "filter" : "test",
                                    name.len < 60 ? (int)name.len : 60, name.at);
        return false;
    }
    return cn_template_expression_expect(p, kind, NULL);
}

// The rest of an opening tag, the body, and (unless ends has several) the closing tag's name.
static bool block(cn_parser *p, const char *end, cn_nodes *out)
{
    const char *const ends[] = {end, NULL};
    skip_op(p, ":");
    if (!tag_end(p, CN_TOKEN_TAG_END) || !body(p, ends, out)) return false;
    p->token++;
    return true;
}

// A body with names of its own.
static bool scoped_block(cn_parser *p, const char *end, cn_nodes *out)
{
    const bool soft = p->soft;
    if (p->unknown && !soft) return tag_end(p, CN_TOKEN_TAG_END);
    p->unknown = NULL;
    p->soft = false;
    const bool ok = block(p, end, out);
    p->soft = soft;
    return ok;
}

static cn_node *if_statement(cn_parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    cn_node *node = cn_template_expression_node(p, CN_NODE_IF);
    const bool soft = p->soft;
    uint32_t capacity = 0, count = 0;
    cn_branch *branches = NULL;
    if (!node) return NULL;
    p->soft = true;
    do {
        if (count == capacity) {
            cn_branch *larger = cn_template_expression_take(p, capacity + 8, sizeof *larger);
            if (!larger) return NULL;
            if (count) memcpy(larger, branches, count * sizeof *larger);
            branches = larger;
            capacity += 8;
        }
        branches[count].test = cn_template_expression_tuple(p, false);
        skip_op(p, ":");
        if (!branches[count].test || !tag_end(p, CN_TOKEN_TAG_END)) return NULL;
        if (!body(p, ends, &branches[count].body)) return NULL;
        count++;
    } while (skip_word(p, "elif"));
    node->as.branch.branches = branches;
    node->as.branch.count = count;
    if (skip_word(p, "else")) {
        if (!block(p, "endif", &node->as.branch.otherwise)) return NULL;
    } else {
        p->token++;
    }
    p->soft = soft;
    return node;
}

static bool for_head(cn_parser *p, cn_for *loop)
{
    loop->target = cn_template_expression_target(p, false);
    if (!loop->target) return false;
    if (loop->target->kind == CN_NODE_NAME && text_is(loop->target->as.name.text, "loop")) {
        cn_template_expression_fail(p, CN_E_FORMAT, "cannot assign to 'loop'; a for loop sets it");
        return false;
    }
    if (!cn_template_expression_expect(p, CN_TOKEN_NAME, "in")) return false;
    loop->source = cn_template_expression_tuple(p, false);
    if (!loop->source) return false;
    if (skip_word(p, "if")) {
        loop->test = cn_template_expression_parse(p);
        if (!loop->test) return false;
    }
    if (!word(p, "recursive")) return true;
    cn_template_expression_fail(p, CN_E_UNSUPPORTED, "recursive loops are not supported");
    return false;
}

static cn_node *for_statement(cn_parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    cn_node *node = cn_template_expression_node(p, CN_NODE_FOR);
    const bool soft = p->soft;
    if (!node || !for_head(p, &node->as.loop)) return NULL;
    skip_op(p, ":");
    if (!tag_end(p, CN_TOKEN_TAG_END)) return NULL;
    p->soft = false;
    p->loops++;
    if (!body(p, ends, &node->as.loop.body)) return NULL;
    p->loops--;
    if (skip_word(p, "else")) {
        if (!block(p, "endfor", &node->as.loop.otherwise)) return NULL;
    } else {
        p->token++;
    }
    p->soft = soft;
    return node;
}

static cn_node *set_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_SET);
    if (!node) return NULL;
    cn_node *target = cn_template_expression_target(p, true);
    if (!target) return NULL;
    if (skip_op(p, "=")) {
        node->as.set.target = target;
        node->as.set.value = cn_template_expression_tuple(p, true);
        return node->as.set.value ? node : NULL;
    }
    node->kind = CN_NODE_SET_BLOCK;
    node->as.block.target = target;
    if (skip_op(p, "|")) {
        cn_node *input = cn_template_expression_node(p, CN_NODE_INPUT);
        node->as.block.filter = input ? cn_template_expression_filters(p, input) : NULL;
        if (!node->as.block.filter) return NULL;
    }
    return scoped_block(p, "endset", &node->as.block.body) ? node : NULL;
}

static cn_node *filter_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_FILTER_BLOCK);
    cn_node *input = cn_template_expression_node(p, CN_NODE_INPUT);
    if (!node || !input) return NULL;
    node->as.block.filter = cn_template_expression_filters(p, input);
    if (!node->as.block.filter) return NULL;
    return scoped_block(p, "endfilter", &node->as.block.body) ? node : NULL;
}

// One parameter of a macro, with its default; `count` are there already.
static bool parameter(cn_parser *p, cn_macro_def *macro, uint32_t count)
{
    const bool had_default = count && macro->defaults[count - 1];
    if (!cn_template_expression_name(p, &macro->params[count])) return false;
    if (!cn_template_expression_number(p, macro->params[count], &macro->param_numbers[count])) {
        return false;
    }
    if (skip_op(p, "=")) {
        macro->defaults[count] = cn_template_expression_parse(p);
        return macro->defaults[count] != NULL;
    }
    if (!had_default) return true;
    cn_template_expression_fail(p, CN_E_FORMAT,
                                "parameter '%.*s' has no default, the one before has",
                                (int)macro->params[count].len, macro->params[count].at);
    return false;
}

static bool signature(cn_parser *p, cn_macro_def *macro)
{
    enum { PARAMS_MAX = 64 };
    macro->params = cn_template_expression_take(p, PARAMS_MAX, sizeof *macro->params);
    macro->param_numbers = cn_template_expression_take(p, PARAMS_MAX, sizeof *macro->param_numbers);
    macro->defaults = cn_template_expression_take(p, PARAMS_MAX, sizeof *macro->defaults);
    if (!macro->params || !macro->param_numbers || !macro->defaults || !expect_op(p, "(")) {
        return false;
    }
    while (!cn_template_expression_is(p, CN_TOKEN_OPERATOR, ")")) {
        if (macro->param_count && !expect_op(p, ",")) return false;
        if (macro->param_count == PARAMS_MAX) {
            cn_template_expression_fail(p, CN_E_FORMAT, "a macro has more than %d parameters",
                                        PARAMS_MAX);
            return false;
        }
        if (!parameter(p, macro, macro->param_count)) return false;
        macro->param_count++;
    }
    return expect_op(p, ")");
}

// The body of a macro or call block, and what special names it reads.
static bool macro_body(cn_parser *p, cn_macro_def *macro, const char *end)
{
    cn_macro_scope scope = {.outer = p->macros};
    const uint32_t loops = p->loops;
    p->loops = 0;
    for (uint32_t i = 0; i < macro->param_count; i++) {
        cn_template_expression_bind(p, macro->params[i]);
    }
    p->macros = &scope;
    for (uint32_t i = 0; i < macro->param_count; i++) {
        const cn_text name = macro->params[i];
        if (text_is(name, "kwargs")) scope.hidden |= CN_USES_KWARGS;
        if (text_is(name, "varargs")) scope.hidden |= CN_USES_VARARGS;
        if (text_is(name, "caller")) scope.hidden |= CN_USES_CALLER;
    }
    const bool ok = scoped_block(p, end, &macro->body);
    p->macros = scope.outer;
    p->loops = loops;
    macro->uses = scope.uses;
    return ok;
}

static cn_node *macro_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_MACRO);
    cn_macro_def *macro = cn_template_expression_take(p, 1, sizeof *macro);
    if (!node || !macro || !cn_template_expression_name(p, &macro->name)) return NULL;
    cn_template_expression_bind(p, macro->name);
    if (!cn_template_expression_number(p, macro->name, &macro->name_number)) return NULL;
    if (!signature(p, macro) || !macro_body(p, macro, "endmacro")) return NULL;
    node->as.macro = macro;
    return node;
}

static cn_node *call_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_CALL_BLOCK);
    cn_macro_def *macro = cn_template_expression_take(p, 1, sizeof *macro);
    if (!node || !macro) return NULL;
    if (cn_template_expression_is(p, CN_TOKEN_OPERATOR, "(") && !signature(p, macro)) return NULL;
    cn_node *call = cn_template_expression_parse(p);
    if (!call) return NULL;
    if (call->kind != CN_NODE_CALL) return cn_template_expression_expected(p, "a call");
    node->as.call_block.macro = macro;
    node->as.call_block.call = call;
    return macro_body(p, macro, "endcall") ? node : NULL;
}

static cn_node *with_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_WITH);
    cn_growing targets = {0}, values = {0};
    if (!node) return NULL;
    while (p->token->kind != CN_TOKEN_TAG_END) {
        if (targets.count && !expect_op(p, ",")) return NULL;
        if (!cn_template_expression_push(p, &targets, cn_template_expression_target(p, false)) ||
            !expect_op(p, "=") ||
            !cn_template_expression_push(p, &values, cn_template_expression_parse(p))) {
            return NULL;
        }
    }
    node->as.with.targets = (cn_nodes){targets.at, targets.count};
    node->as.with.values = (cn_nodes){values.at, values.count};
    return scoped_block(p, "endwith", &node->as.with.body) ? node : NULL;
}

static cn_node *generation_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_SCOPE);
    return node && scoped_block(p, "endgeneration", &node->as.block.body) ? node : NULL;
}

static cn_node *block_statement(cn_parser *p)
{
    cn_text name;
    cn_node *node = cn_template_expression_node(p, CN_NODE_BLOCK);
    if (!node || !cn_template_expression_name(p, &name)) return NULL;
    if (word(p, "scoped") || word(p, "required")) {
        return cn_template_expression_fail(p, CN_E_UNSUPPORTED,
                                           "blocks that are scoped or required are not supported");
    }
    if (!scoped_block(p, "endblock", &node->as.block.body)) return NULL;
    if (p->token->kind == CN_TOKEN_NAME && text_equal(p->token->text, name)) p->token++;
    return node;
}

static cn_node *loop_control(cn_parser *p, cn_node_kind kind)
{
    if (p->loops) return cn_template_expression_node(p, kind);
    return cn_template_expression_fail(p, CN_E_FORMAT, "'%s' outside of a loop",
                                       kind == CN_NODE_BREAK ? "break" : "continue");
}

static cn_node *break_statement(cn_parser *p) { return loop_control(p, CN_NODE_BREAK); }
static cn_node *continue_statement(cn_parser *p) { return loop_control(p, CN_NODE_CONTINUE); }

static cn_node *print_statement(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_PRINT);
    if (!node) return NULL;
    node->as.expression = cn_template_expression_parse(p);
    return node->as.expression ? node : NULL;
}

static const struct {
    const char *tag;
    cn_node *(*parse)(cn_parser *p);     // NULL: a tag of Jinja that no template here may use
} statements[] = {
    {"if", if_statement},
    {"for", for_statement},
    {"set", set_statement},
    {"macro", macro_statement},
    {"call", call_statement},
    {"filter", filter_statement},
    {"with", with_statement},
    {"generation", generation_statement},
    {"block", block_statement},
    {"break", break_statement},
    {"continue", continue_statement},
    {"print", print_statement},
    {"include", NULL},
    {"import", NULL},
    {"from", NULL},
    {"extends", NULL},
    {"autoescape", NULL},
};

static cn_node *statement(cn_parser *p)
{
    cn_text tag;
    if (!cn_template_expression_name(p, &tag)) return NULL;
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!text_is(tag, statements[i].tag)) continue;
        if (statements[i].parse) return statements[i].parse(p);
        return cn_template_expression_fail(p, CN_E_UNSUPPORTED, "the tag '%s' is not supported",
                                           statements[i].tag);
    }
    return cn_template_expression_fail(p, CN_E_FORMAT, "unknown tag '%.*s'",
                                       tag.len < 60 ? (int)tag.len : 60, tag.at);
}

static cn_node *print_tag(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_PRINT);
    if (!node || !cn_template_expression_skip(p, CN_TOKEN_PRINT_BEGIN, NULL)) return NULL;
    node->as.expression = cn_template_expression_tuple(p, true);
    if (!node->as.expression || !tag_end(p, CN_TOKEN_PRINT_END)) return NULL;
    return node;
}

static cn_node *text_node(cn_parser *p)
{
    cn_node *node = cn_template_expression_node(p, CN_NODE_TEXT);
    if (node) node->as.constant = make_text(p->token->text.at, p->token->text.len);
    p->token++;
    return node;
}

static bool at_end(cn_parser *p, const char *const *ends)
{
    for (; *ends; ends++) {
        if (word(p, *ends)) return true;
    }
    return false;
}

static bool statements_until(cn_parser *p, const char *const *ends, cn_growing *list)
{
    for (;;) {
        cn_node *node = NULL;
        switch (p->token->kind) {
        case CN_TOKEN_DATA: node = text_node(p); break;
        case CN_TOKEN_PRINT_BEGIN: node = print_tag(p); break;
        case CN_TOKEN_TAG_BEGIN:
            p->token++;
            if (at_end(p, ends)) return true;
            node = statement(p);
            if (node && !tag_end(p, CN_TOKEN_TAG_END)) return false;
            break;
        default:
            if (!*ends) return true;
            cn_template_expression_fail(p, CN_E_FORMAT, "the template ends; expected {%% %s %%}",
                                        *ends);
        }
        if (!cn_template_expression_push(p, list, node)) return false;
    }
}

// Reads up to one of the tags `ends` (or the end of the template if there are none).
static bool body(cn_parser *p, const char *const *ends, cn_nodes *out)
{
    cn_growing list = {0};
    if (p->depth >= CN_HEIGHT_MAX || ++p->depth > CN_STATEMENTS_DEEP_MAX) {
        cn_template_expression_fail(p, CN_E_FORMAT, "statements are nested more than %d deep",
                                    CN_STATEMENTS_DEEP_MAX);
        return false;
    }
    if (!statements_until(p, ends, &list)) return false;
    p->depth--;
    *out = (cn_nodes){list.at, list.count};
    return true;
}

static bool number_special_names(cn_parser *p)
{
    cn_template *tmpl = p->tmpl;
    return cn_template_expression_number(p, text_from("loop"), &tmpl->loop_name) &&
           cn_template_expression_number(p, text_from("caller"), &tmpl->caller_name) &&
           cn_template_expression_number(p, text_from("kwargs"), &tmpl->kwargs_name) &&
           cn_template_expression_number(p, text_from("varargs"), &tmpl->varargs_name);
}

cn_code cn_template_parse(cn_template *tmpl, cn_text text, cn_err *err)
{
    static const char *const no_ends[] = {NULL};
    cn_tokens tokens;
    cn_parser parser = {.tmpl = tmpl, .err = err};
    cn_code code = cn_template_lex_split(tmpl->name, text, &tmpl->arena, &tokens, err);
    if (code != CN_OK) return code;
    code = cn_map_open(64, 0, &parser.names);
    if (code != CN_OK) {
        return cn_err_set(err, code, "%s: no memory for the parsed template", tmpl->name);
    }
    parser.token = tokens.at;
    if (number_special_names(&parser)) body(&parser, no_ends, &tmpl->body);
    cn_map_close(parser.names);
    return parser.code;
}
