/* model/template_run_int.h: one render: its budget, its output, its variables, its first error.
 * Whatever can take time or memory takes it from here. After a function has reported failure (BAD,
 * false or NULL) the error is set and everything unwinds.
 *
 * Threads: a run belongs to one thread.
 * Memory:  the caller's arena; the struct itself is on render's stack. */
#pragma once

#include "model/template.h"
#include "model/template_value_int.h"

enum {
    CN_NESTED_MAX = 1000,        // evaluations and walks of values inside each other
    CN_TAILS = 4,
};

typedef struct cn_binding {
    uint32_t name;               // number of the name in its template
    cn_value value;
} cn_binding;

/* Names of a loop round, a macro call or a block. The outermost scope is cn_run.globals. */
typedef struct cn_scope {
    struct cn_scope *parent;     // NULL: globals
    cn_binding *bindings;
    uint32_t count;
    uint32_t capacity;
    bool kept;                   // a macro refers to it: not to be used for another round
} cn_scope;

/* Bytes at the end of an allocation that may be grown in place, see cn_template_run_grow. */
typedef struct cn_tail {
    char *start;
    char *end;
    size_t spare;
} cn_tail;

struct cn_run {
    const cn_template *tmpl;
    const json_t *variables;
    cn_arena *arena;
    cn_buf *out;
    uint64_t steps_left;
    uint64_t steps_max;
    uint32_t depth;
    uint32_t depth_max;
    uint32_t nested;
    uint32_t line;               // for error texts
    int64_t now_s;
    uint32_t place;              // of the message after the first one; 0: all are there
    size_t messages_end;         // of `out`, once the loop over messages has ended
    cn_scope *scope;             // NULL: globals
    cn_value *globals;           // by number of the name; MISSING: not looked up yet
    cn_value input;              // what {% filter %} filters
    char *capture;               // output that becomes a value, innermost at the end
    size_t capture_len;
    size_t capture_capacity;
    uint32_t captures;           // nested captures; 0: output goes to `out`
    cn_tail tails[CN_TAILS];
    uint32_t tail_next;
    cn_code code;                // first error
    cn_err *err;
};

/* Sets the error, with template name and line before the sentence. Returns BAD. */
cn_value cn_template_run_fail(cn_run *run, cn_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* As above, CN_E_INVALID: what the template did is not possible. */
cn_value cn_template_run_invalid(cn_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The error of doing something with an undefined value. */
cn_value cn_template_run_undefined(cn_run *run, cn_value undefined);

/* Takes `steps` from the budget; false when it is exhausted. */
bool cn_template_run_charge(cn_run *run, uint64_t steps);
/* Takes what looking at `bytes` costs. */
bool cn_template_run_charge_bytes(cn_run *run, uint64_t bytes);
/* Bound on recursion; each enter that returned true needs a leave. */
bool cn_template_run_enter(cn_run *run);
static inline void leave(cn_run *run) { run->nested--; }

/* Memory of the render, not cleared; NULL when it is exhausted. */
void *cn_template_run_take(cn_run *run, size_t count, size_t size);
/* The bytes at `at`, with room for `more` behind them, for a longer string or list that starts with
 * them: in place if they are the end of what was grown before, so appending in a loop is linear.
 * NULL when memory is exhausted. */
void *cn_template_run_grow(cn_run *run, const void *at, size_t bytes, size_t more);

/* Writes to the innermost capture or the output; false if the render has failed. */
bool cn_template_run_emit(cn_run *run, const char *at, size_t len);
bool cn_template_run_emit_text(cn_run *run, const char *text);
/* Output between begin and end becomes a string. */
size_t cn_template_run_begin(cn_run *run);
cn_value cn_template_run_end(cn_run *run, size_t mark);

/* Value of name number `name`, undefined if there is none. */
cn_value cn_template_run_load(cn_run *run, uint32_t name);
/* Binds in the innermost scope; false if the render has failed. */
bool cn_template_run_store(cn_run *run, uint32_t name, cn_value value);
/* A JSON value as a template's; strings are borrowed. */
cn_value cn_template_run_import(cn_run *run, const json_t *json);
