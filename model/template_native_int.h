/* model/template_native_int.h: functions of the language that are written in C: filters, tests,
 * methods and globals.
 * Each is a line in a table: its name, its parameters, and a C function that gets the arguments in
 * the order of the parameters, MISSING where none was given.
 *
 * Threads: the tables are constant.
 * Memory:  results live in the render's arena. */
#pragma once

#include "model/template_value_int.h"

enum {
    CN_PARAMS_MAX = 6,
    CN_VARIADIC = 255,           // params_max: arguments are looked at in `args`, nothing is bound
};

typedef struct cn_named {
    cn_text name;
    cn_value value;
} cn_named;

typedef struct cn_args {
    const cn_value *positional;  // a method's or filter's own value is the first
    uint32_t positional_count;
    const cn_named *named;
    uint32_t named_count;
} cn_args;

typedef cn_value cn_native_call(cn_run *run, const cn_value *a, const cn_args *args);

typedef struct cn_native {
    const char *name;
    cn_native_call *call;        // NULL: known, but refused
    uint8_t params_min;
    uint8_t params_max;          // or CN_VARIADIC
    const char *params[CN_PARAMS_MAX];
} cn_native;

/* A global or a method that is bound to its object. */
typedef struct cn_function {
    const cn_native *native;
    cn_value self;               // MISSING for globals
} cn_function;

/* Calls with `args` bound to parameters; BAD if they do not fit. */
cn_value cn_template_native_call(cn_run *run, const cn_native *native, const cn_args *args);
/* The line of `name` in a table that ends with a line without name; NULL if there is none. */
const cn_native *cn_template_native_find(const cn_native *table, cn_text name);
/* Value of a keyword, MISSING if it was not given. */
cn_value cn_template_native_named(const cn_args *args, const char *name);

const cn_native *cn_template_filters_find(cn_text name);
const cn_native *cn_template_tests_find(cn_text name);
/* Method `name` of values of `kind`. */
const cn_native *cn_template_methods_find(cn_kind kind, cn_text name);
/* The global `name`, MISSING if there is none. */
cn_value cn_template_globals_find(cn_run *run, cn_text name);
