/* model/template_unicode_int.h: what Python knows about characters.
 * White space, words, cases and line ends, with the rules of str and re.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include "model/template_value_int.h"

/* Code point at the start of `text` (len >= 1) and its length in bytes. */
uint32_t cn_template_unicode_decode(cn_text text, size_t *len);
/* Writes `point` as UTF-8, up to 4 bytes, and returns how many. */
int cn_template_unicode_encode(uint32_t point, char *out);

/* Bytes of white space at the start and at the end of `text`. */
size_t cn_template_unicode_space(cn_text text);
size_t cn_template_unicode_space_back(cn_text text);
/* Bytes at the start that are \w: letters, digits, underscore; in names also marks. */
size_t cn_template_unicode_word(cn_text text);
size_t cn_template_unicode_name(cn_text text);
/* Bytes up to and without the next line end; *end_len is the length of that end, 0 if none. */
size_t cn_template_unicode_line(cn_text text, size_t *end_len);

bool cn_template_unicode_is_space(uint32_t point);
bool cn_template_unicode_is_alpha(uint32_t point);
bool cn_template_unicode_is_decimal(uint32_t point);
bool cn_template_unicode_is_digit(uint32_t point);
bool cn_template_unicode_is_numeric(uint32_t point);
bool cn_template_unicode_is_upper(uint32_t point);
bool cn_template_unicode_is_lower(uint32_t point);
bool cn_template_unicode_is_title(uint32_t point);
bool cn_template_unicode_is_printable(uint32_t point);

/* Writes the upper, lower or title case of `text` to the run's output. */
bool cn_template_unicode_upper(cn_run *run, cn_text text);
bool cn_template_unicode_lower(cn_run *run, cn_text text);
/* First character in title case, the rest in lower case. */
bool cn_template_unicode_capitalize(cn_run *run, cn_text text);
