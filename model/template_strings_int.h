/* model/template_strings_int.h: what filters and methods of str have in common.
 *
 * Threads: as the run.
 * Memory:  the run's. */
#pragma once

#include "model/template_run_int.h"

enum { CN_STRIP_LEFT = 1, CN_STRIP_RIGHT = 2 };

/* `text` without the characters `chars` (white space if chars.at is NULL) at the `ends`. */
cn_text cn_template_strings_strip(cn_text text, cn_text chars, uint32_t ends);
/* At most `count` replacements, all if it is negative. */
cn_value cn_template_strings_replace(cn_run *run, cn_text text, cn_text old, cn_text new,
                                     int64_t count);
/* `left` and `right` fill characters around `text`. */
cn_value cn_template_strings_pad(cn_run *run, cn_text text, int64_t left, int64_t right,
                                 cn_text fill);
cn_value cn_template_strings_center(cn_run *run, cn_text text, int64_t width, cn_text fill);
/* Lines without their ends, as a LIST. */
cn_value cn_template_strings_lines(cn_run *run, cn_text text, bool keep_ends);
/* The items of `v`, which must be strings, with `separator` between them. */
cn_value cn_template_strings_join(cn_run *run, cn_text separator, cn_value v);

/* An argument that must be a string; `what` names it. False and the error set otherwise. */
bool cn_template_strings_want(cn_run *run, cn_value v, const char *what, cn_text *text);
/* An argument that must be an int; `absent` if MISSING. */
bool cn_template_strings_want_int(cn_run *run, cn_value v, const char *what, int64_t absent,
                                  int64_t *out);
