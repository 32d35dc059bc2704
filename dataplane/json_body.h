/* dataplane/json_body.h: the JSON object that a request carries, under bounds.
 * Nesting is counted before the parser, which recurses, sees the text. Of equal member names the
 * last one wins, as at OpenAI. A member that is null counts as absent everywhere.
 *
 * Threads: any, nothing is kept.
 * Memory:  the tree is jansson's; the caller gives it back with json_decref. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"

/* Deepest nesting of arrays and objects in `len` bytes, strings skipped; what is not JSON gives
 * some number that is at least the depth that a parser reaches before it finds out. */
uint64_t cn_json_body_depth(const char *text, size_t len);

/* Parses an object. Errors: CN_E_LIMIT (deeper than depth_max), CN_E_SYNTAX with line and column;
 * CN_E_INVALID (JSON, but not an object). */
cn_code cn_json_body_parse(const char *text, size_t len, uint64_t depth_max, json_t **out,
                           cn_err *err);

/* The member `key`; NULL if it is absent or null. Borrowed. */
json_t *cn_json_body_get(const json_t *object, const char *key);

/* The text of a value, terminated, in the arena; reals keep 15 digits, so that what is written, read
 * and written again is the same text. Errors: CN_E_MEMORY. */
cn_code cn_json_body_dump(const json_t *value, cn_arena *arena, const char **out, uint32_t *len,
                          cn_err *err);

/* What a value is, for error texts: "a string". */
const char *cn_json_body_kind(const json_t *value);

/* An integer: also a real without fraction, as some languages write every number.
 * False if it is none, or beyond 53 bits as a real. */
bool cn_json_body_integer(const json_t *value, int64_t *out);
