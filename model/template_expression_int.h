/* model/template_expression_int.h: the parser's state, and expressions from tokens to a tree.
 * Statements are template_parse.c's.
 *
 * Threads: one at a time.
 * Memory:  the template's arena. */
#pragma once

#include "base/map.h"
#include "model/template.h"
#include "model/template_ast_int.h"
#include "model/template_lex_int.h"

enum {
    CN_HEIGHT_MAX = 200,         // levels of an expression; bounds the evaluator's recursion
    CN_STATEMENTS_DEEP_MAX = 100,
    CN_ITEMS_MAX = 65535,        // of one list, body or call
};

/* The macro whose body is being read, inside the one before it. */
typedef struct cn_macro_scope {
    struct cn_macro_scope *outer;
    uint32_t uses;               // CN_USES_*
    uint32_t hidden;             // special names that the macro has bound itself
} cn_macro_scope;

typedef struct cn_parser {
    cn_template *tmpl;
    const cn_token *token;       // current one
    cn_map *names;
    uint32_t names_capacity;
    uint32_t depth;
    uint32_t loops;              // around this place, inside the innermost macro
    bool soft;                   // in an if: an unknown filter is no error until it is used
    const cn_node *unknown;      // first unknown filter or test of the current tag
    cn_macro_scope *macros;
    cn_code code;
    cn_err *err;
} cn_parser;

/* A list that grows while it is read. */
typedef struct cn_growing {
    cn_node **at;
    uint32_t count, capacity;
} cn_growing;

/* Sets the error at the current line; NULL always. */
void *cn_template_expression_fail(cn_parser *p, cn_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The error of finding something else than `wanted`. */
void *cn_template_expression_expected(cn_parser *p, const char *wanted);

bool cn_template_expression_is(const cn_parser *p, cn_token_kind kind, const char *text);
/* Passes the current token if it is this one. */
bool cn_template_expression_skip(cn_parser *p, cn_token_kind kind, const char *text);
/* As skip; false and the error set if it is another one. */
bool cn_template_expression_expect(cn_parser *p, cn_token_kind kind, const char *text);
bool cn_template_expression_name(cn_parser *p, cn_text *name);

void *cn_template_expression_take(cn_parser *p, size_t count, size_t size);
cn_node *cn_template_expression_node(cn_parser *p, cn_node_kind kind);
bool cn_template_expression_push(cn_parser *p, cn_growing *list, cn_node *node);
/* Number of a name in the template; false without memory. */
bool cn_template_expression_number(cn_parser *p, cn_text name, uint32_t *number);
/* Notes that special names (caller, kwargs, varargs) were bound by the template. */
void cn_template_expression_bind(cn_parser *p, cn_text name);

/* expression, with inline if */
cn_node *cn_template_expression_parse(cn_parser *p);
/* expression, or tuple without brackets; `with_if` false where `if` belongs to the statement */
cn_node *cn_template_expression_tuple(cn_parser *p, bool with_if);
/* name, ns.name, or a tuple of these */
cn_node *cn_template_expression_target(cn_parser *p, bool with_namespace);
/* name|name(...)|..., applied to `of` */
cn_node *cn_template_expression_filters(cn_parser *p, cn_node *of);
