/* model/template_numbers_int.h: int() and float() of text, round() of floats, with Python's rules.
 *
 * Threads: any, nothing is kept.
 * Memory:  none of its own. */
#pragma once

#include "model/template_value_int.h"

/* int(text, base); false if it is none or beyond 64 bits. */
bool cn_template_numbers_int(cn_text text, int base, int64_t *out);
/* float(text); false if it is none. */
bool cn_template_numbers_float(cn_text text, double *out);
/* round(real, digits), ties to even. */
double cn_template_numbers_round(double real, int64_t digits);
/* round(whole, digits) for negative digits. */
int64_t cn_template_numbers_round_int(int64_t whole, int64_t digits);
