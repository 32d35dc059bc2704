/* model/json_file.h: a JSON file of a checkpoint directory, and its fields with type and range.
 * A getter leaves *value as it is where the field is absent or null: the caller's default stands. A
 * field of the wrong type or out of range is an error that names file, field, value and what would
 * be right: `config.json: num_hidden_layers: "two"; must be an integer from 1 to 1024`.
 *
 * Threads: one at a time.
 * Memory:  the parsed file lives from open to close; objects and strings are borrowed from it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

typedef struct cn_json_file {
    json_t *root;            // an object; NULL: there is no such file
    const char *name;        // borrowed from the caller of open
} cn_json_file;

/* An object in a file: the root, or one below it. */
typedef struct cn_json_object {
    const json_t *value;     // NULL: absent, and so is every field of it
    const char *file;
    char prefix[64];         // "rope_scaling." before the names of its fields
} cn_json_object;

/* Reads `directory`/`name`, which must hold one JSON object with no key twice.
 * Errors: CN_E_NOT_FOUND (no such file), CN_E_IO, CN_E_FORMAT, CN_E_MEMORY. */
cn_code cn_json_file_open(const char *directory, const char *name, cn_json_file *out, cn_err *err);
/* As open, but a missing file is a success with a NULL root. */
cn_code cn_json_file_open_if_there(const char *directory, const char *name, cn_json_file *out,
                                   cn_err *err);
void cn_json_file_close(cn_json_file *file);

cn_json_object cn_json_file_root(const cn_json_file *file);

/* The field's value whatever its type; NULL where it is absent or null. */
const json_t *cn_json_file_find(const cn_json_object *object, const char *field);

/* All of these: CN_E_FORMAT for another type, and where there is a range for a value outside. */
cn_code cn_json_file_u32(const cn_json_object *object, const char *field, uint32_t min,
                         uint32_t max, uint32_t *value, cn_err *err);
cn_code cn_json_file_double(const cn_json_object *object, const char *field, double min, double max,
                            double *value, cn_err *err);
cn_code cn_json_file_bool(const cn_json_object *object, const char *field, bool *value,
                          cn_err *err);
cn_code cn_json_file_string(const cn_json_object *object, const char *field, const char **value,
                            cn_err *err);
/* *out has a NULL value where the field is absent. */
cn_code cn_json_file_child(const cn_json_object *object, const char *field, cn_json_object *out,
                           cn_err *err);

/* "a string", "an integer", ... for error texts. */
const char *cn_json_file_type(const json_t *value);

/* Writes `file: field: value; <right>` and returns `code`: for rules that no getter knows. */
cn_code cn_json_file_refuse(const cn_json_object *object, const char *field, cn_code code,
                            cn_err *err, const char *right, ...)
    __attribute__((format(printf, 5, 6)));
