/* model/template_ast_int.h: a parsed template.
 * The parser makes it, the interpreter walks it. Names are numbered, so that a variable is found
 * without comparing text; filters, tests and methods are pointers into their tables.
 *
 * Threads: immutable after open.
 * Memory:  the template's arena. */
#pragma once

#include "base/arena.h"
#include "model/template_native_int.h"
#include "model/template_value_int.h"

typedef struct cn_node cn_node;

typedef struct cn_nodes {
    cn_node **at;
    uint32_t count;
} cn_nodes;

typedef struct cn_keyword {
    cn_text name;
    cn_node *value;
} cn_keyword;

typedef struct cn_call_args {
    cn_nodes positional;
    cn_keyword *keywords;
    uint32_t keyword_count;
    cn_node *star;               // *args, NULL if none
    cn_node *star_star;          // **kwargs, NULL if none
} cn_call_args;

typedef enum cn_op {
    CN_OP_NOT,
    CN_OP_NEGATE,
    CN_OP_PLUS,
    CN_OP_AND,
    CN_OP_OR,
    CN_OP_ADD,
    CN_OP_SUBTRACT,
    CN_OP_MULTIPLY,
    CN_OP_DIVIDE,
    CN_OP_FLOOR_DIVIDE,
    CN_OP_MODULO,
    CN_OP_POWER,
    CN_OP_EQ,
    CN_OP_NE,
    CN_OP_LT,
    CN_OP_LE,
    CN_OP_GT,
    CN_OP_GE,
    CN_OP_IN,
    CN_OP_NOT_IN,
} cn_op;

typedef enum cn_node_kind {
    // Expressions
    CN_NODE_CONST,
    CN_NODE_NAME,
    CN_NODE_ATTRIBUTE,
    CN_NODE_ITEM,
    CN_NODE_SLICE,
    CN_NODE_UNARY,
    CN_NODE_BINARY,
    CN_NODE_COMPARE,
    CN_NODE_CONCAT,
    CN_NODE_CONDITION,
    CN_NODE_LIST,
    CN_NODE_TUPLE,
    CN_NODE_DICT,
    CN_NODE_CALL,
    CN_NODE_FILTER,
    CN_NODE_TEST,
    CN_NODE_INPUT,               // the text that a filter block filters
    CN_NODE_NAMESPACE_TARGET,    // ns.name on the left of a set
    // Statements
    CN_NODE_TEXT,
    CN_NODE_PRINT,
    CN_NODE_IF,
    CN_NODE_FOR,
    CN_NODE_SET,
    CN_NODE_SET_BLOCK,
    CN_NODE_MACRO,
    CN_NODE_CALL_BLOCK,
    CN_NODE_FILTER_BLOCK,
    CN_NODE_WITH,
    CN_NODE_SCOPE,               // {% generation %}
    CN_NODE_BLOCK,
    CN_NODE_BREAK,
    CN_NODE_CONTINUE,
} cn_node_kind;

typedef struct cn_branch {
    cn_node *test;
    cn_nodes body;
} cn_branch;

enum {
    CN_USES_CALLER = 1,
    CN_USES_KWARGS = 2,
    CN_USES_VARARGS = 4,
};

typedef struct cn_macro_def {
    cn_text name;                // empty for the body of a call block
    uint32_t name_number;
    uint32_t *param_numbers;
    cn_text *params;
    cn_node **defaults;          // one per parameter, NULL where there is none
    uint32_t param_count;
    uint32_t uses;               // CN_USES_*: special names that the body reads
    cn_nodes body;
} cn_macro_def;

typedef struct cn_for {
    cn_node *target;
    cn_node *source;
    cn_node *test;               // NULL if none
    cn_nodes body;
    cn_nodes otherwise;
} cn_for;

struct cn_node {
    uint8_t kind;                // cn_node_kind, the tag of the union
    uint8_t op;                  // cn_op of UNARY and BINARY
    uint16_t height;             // of the tree below, bounds the evaluator's recursion
    uint32_t line;
    union {
        cn_value constant;                                             // CONST, TEXT
        struct { cn_text text; uint32_t number; } name;                // NAME, NAMESPACE_TARGET's
        struct { cn_node *of; cn_text name; uint32_t kinds; } attribute;   // bit k: kind k has it
        struct { cn_node *of, *index; } item;
        struct { cn_node *of, *start, *stop, *step; } slice;           // parts may be NULL
        struct { cn_node *left, *right; } operands;                    // UNARY has only left
        struct { cn_nodes terms; uint8_t *ops; } compare;              // ops[i] before terms[i + 1]
        struct { cn_node *test, *then, *otherwise; } condition;        // otherwise may be NULL
        cn_nodes items;                              // CONCAT, LIST, TUPLE, DICT (key, value, ...)
        struct { cn_node *of; const cn_native *native; cn_text name; cn_call_args args; } call;
                                                       // CALL, FILTER, TEST; native NULL: unknown
        struct { uint32_t number; cn_text text; cn_text attribute; } target;   // NAMESPACE_TARGET
        cn_node *expression;                                           // PRINT
        struct { cn_branch *branches; uint32_t count; cn_nodes otherwise; } branch;    // IF
        cn_for loop;                                                   // FOR
        struct { cn_node *target, *value; } set;                       // SET
        struct { cn_node *target, *filter; cn_nodes body; } block;     // SET_BLOCK, FILTER_BLOCK,
                                                       // SCOPE, BLOCK; filter may be NULL
        cn_macro_def *macro;                                           // MACRO
        struct { cn_macro_def *macro; cn_node *call; } call_block;     // CALL_BLOCK
        struct { cn_nodes targets, values, body; } with;               // WITH
    } as;
};

struct cn_template {
    cn_arena arena;
    char *name;
    cn_nodes body;
    uint32_t messages_at;        // see model/template_rest_int.h, as for
    bool asks_first;
    cn_text *names;              // by number
    uint32_t name_count;
    uint32_t loop_name, caller_name, kwargs_name, varargs_name;    // numbers of these names
};
