/* model/template_value_int.h: the values that a template computes with.
 * A value is two words, passed by copy: its kind and a number, or a pointer into memory that lives
 * as long as the render (its arena, the variables, the template). Everything but namespaces, loops,
 * iterators, cyclers and joiners is immutable, so strings and lists share their bytes and items
 * freely: a slice is a pointer into the whole.
 *
 * Threads: values belong to one render.
 * Memory:  the render's arena. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct cn_run cn_run;

/*  kind        Python's name of its type */
#define CN_KINDS(X)                                                                                \
    X(BAD,       "error")               /* the render has failed; nothing else may be done */      \
    X(MISSING,   "missing")             /* no value: an argument that was not given */             \
    X(UNDEFINED, "Undefined")                                                                      \
    X(NONE,      "NoneType")                                                                       \
    X(BOOL,      "bool")                                                                           \
    X(INT,       "int")                                                                            \
    X(FLOAT,     "float")                                                                          \
    X(STRING,    "str")                                                                            \
    X(LIST,      "list")                                                                           \
    X(TUPLE,     "tuple")                                                                          \
    X(DICT,      "dict")                                                                           \
    X(VIEW,      "dict_view")           /* keys(), values() or items() of a dict */                \
    X(RANGE,     "range")                                                                          \
    X(ITERATOR,  "generator")           /* can be walked once, as Python's generators */           \
    X(NAMESPACE, "Namespace")                                                                      \
    X(MACRO,     "Macro")                                                                          \
    X(FUNCTION,  "builtin_function_or_method")                                                     \
    X(LOOP,      "LoopContext")                                                                    \
    X(CYCLER,    "Cycler")                                                                         \
    X(JOINER,    "Joiner")

typedef enum cn_kind {
#define X(name, type) CN_##name,
    CN_KINDS(X)
#undef X
    CN_KIND_COUNT
} cn_kind;

enum {
    CN_MARKUP = 1,               // string: escaped already, as markupsafe's Markup
    CN_GROUP = 1,                // tuple: of groupby, with attributes grouper and list
    CN_NO_NAME = 1,              // undefined: as.text is a variable's name
    CN_NO_ATTRIBUTE = 2,         // undefined: as.text is an attribute that kind `of` lacks
    CN_NO_ELEMENT = 3,           // undefined: as.integer is an index that kind `of` lacks
    CN_NO_SENTENCE = 4,          // undefined: as.text says it all
    CN_VIEW_KEYS = 1,
    CN_VIEW_VALUES = 2,
    CN_VIEW_ITEMS = 3,
};

typedef struct cn_text {
    const char *at;              // UTF-8, not terminated
    size_t len;
} cn_text;

typedef struct cn_value {
    uint8_t kind;                // cn_kind, the tag of the union
    uint8_t flags;
    uint16_t of;                 // undefined: the cn_kind that was asked
    uint32_t len;                // bytes of text, number of items
    union {
        int64_t integer;
        double real;
        const char *text;                  // STRING, UNDEFINED
        const struct cn_value *items;      // LIST, TUPLE
        struct cn_dict *dict;              // DICT, VIEW, NAMESPACE
        const struct cn_range *range;
        struct cn_iterator *iterator;
        const struct cn_macro *macro;
        const struct cn_function *function;
        struct cn_loop *loop;
        struct cn_cycler *cycler;
        struct cn_joiner *joiner;
    } as;
} cn_value;

typedef struct cn_entry {
    cn_value key;
    cn_value value;
    uint64_t hash;
} cn_entry;

typedef struct cn_dict {
    cn_entry *entries;           // in the order of insertion
    uint32_t *order;             // entry indices by hash, once there are many; NULL before
    uint32_t count;
    uint32_t capacity;
} cn_dict;

typedef struct cn_range {
    int64_t start, stop, step;
    int64_t count;
} cn_range;

typedef struct cn_iterator {
    const cn_value *items;
    uint32_t count;
    uint32_t at;                 // shared by everybody who walks it
} cn_iterator;

typedef struct cn_cycler {
    const cn_value *items;
    uint32_t count;
    uint32_t at;
} cn_cycler;

typedef struct cn_joiner {
    cn_value separator;
    bool used;
} cn_joiner;

/* A position in anything that can be walked. */
typedef struct cn_walk {
    cn_value of;
    uint64_t at;
} cn_walk;

static inline bool is_bad(cn_value v) { return v.kind == CN_BAD; }
static inline bool is_missing(cn_value v) { return v.kind == CN_MISSING; }
static inline bool is_undefined(cn_value v) { return v.kind == CN_UNDEFINED; }
static inline bool is_string(cn_value v) { return v.kind == CN_STRING; }
static inline bool is_whole(cn_value v) { return v.kind == CN_INT || v.kind == CN_BOOL; }
static inline bool is_number(cn_value v) { return is_whole(v) || v.kind == CN_FLOAT; }

static inline cn_value make_bad(void) { return (cn_value){.kind = CN_BAD}; }
static inline cn_value make_missing(void) { return (cn_value){.kind = CN_MISSING}; }
static inline cn_value make_none(void) { return (cn_value){.kind = CN_NONE}; }
static inline cn_value make_bool(bool truth)
{
    return (cn_value){.kind = CN_BOOL, .as.integer = truth};
}
static inline cn_value make_int(int64_t integer)
{
    return (cn_value){.kind = CN_INT, .as.integer = integer};
}
static inline cn_value make_float(double real)
{
    return (cn_value){.kind = CN_FLOAT, .as.real = real};
}
static inline cn_value make_text(const char *at, size_t len)
{
    return (cn_value){.kind = CN_STRING, .len = (uint32_t)len, .as.text = at};
}
static inline cn_value make_items(cn_kind kind, const cn_value *items, size_t count)
{
    return (cn_value){.kind = (uint8_t)kind, .len = (uint32_t)count, .as.items = items};
}
static inline cn_value make_dict(cn_kind kind, cn_dict *dict)
{
    return (cn_value){.kind = (uint8_t)kind, .as.dict = dict};
}
static inline cn_value make_sentence(const char *sentence)
{
    return (cn_value){.kind = CN_UNDEFINED, .flags = CN_NO_SENTENCE,
                      .len = (uint32_t)strlen(sentence), .as.text = sentence};
}
static inline cn_text text_of(cn_value v) { return (cn_text){v.as.text, v.len}; }
static inline cn_text text_from(const char *literal)
{
    return (cn_text){literal, strlen(literal)};
}
static inline bool text_is(cn_text text, const char *literal)
{
    return strlen(literal) == text.len && memcmp(literal, text.at, text.len) == 0;
}
static inline bool text_equal(cn_text a, cn_text b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}
/* BOOL, INT: as Python's int. A bool keeps 0 or 1 in as.integer. */
static inline int64_t whole_of(cn_value v) { return v.as.integer; }
static inline double real_of(cn_value v)
{
    return v.kind == CN_FLOAT ? v.as.real : (double)v.as.integer;
}

/* Python's name of a value's type, as it stands in error texts. */
const char *cn_template_value_type(cn_value v);

bool cn_template_value_truth(cn_value v);

/* len(v), or -1 if it has none. */
int64_t cn_template_value_length(cn_value v);

/* a == b: 1 or 0, -1 if the render has failed. */
int cn_template_value_equal(cn_run *run, cn_value a, cn_value b);

/* Order of a and b as Python's <: below 0, 0 or above 0 in *order (2 if they are unordered, NaN).
 * False if their types have no order; the render has then failed. */
bool cn_template_value_order(cn_run *run, cn_value a, cn_value b, int *order);

/* Starts to walk `v`; false if it cannot be walked (the render has then failed). */
bool cn_template_value_walk(cn_run *run, cn_value v, cn_walk *walk);
/* The next item; false at the end, and when the render has failed. */
bool cn_template_value_next(cn_run *run, cn_walk *walk, cn_value *item);
/* All items of what can be walked, as a LIST (no copy of lists and tuples), or BAD. */
cn_value cn_template_value_list(cn_run *run, cn_value v);

/* An empty dict, NULL if the render has failed. */
cn_dict *cn_template_value_dict(cn_run *run, uint32_t capacity);
/* Entry of `key`, NULL if there is none or the render has failed (a key without hash). */
cn_entry *cn_template_value_find(cn_run *run, cn_dict *dict, cn_value key);
/* The same for a text key. */
cn_entry *cn_template_value_find_text(cn_run *run, cn_dict *dict, cn_text key);
/* Adds or replaces; false if the render has failed. */
bool cn_template_value_put(cn_run *run, cn_dict *dict, cn_value key, cn_value value);
/* Adds a key that is known not to be there. */
bool cn_template_value_add(cn_run *run, cn_dict *dict, cn_text key, cn_value value);

/* Code points in UTF-8. */
size_t cn_template_value_points(cn_text text);
/* Byte offset of code point `index`, text.len if it is at or behind the end. */
size_t cn_template_value_offset(cn_text text, size_t index);
