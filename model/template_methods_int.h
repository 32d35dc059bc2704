/* model/template_methods_int.h: the methods of str, in a source of their own.
 *
 * Threads: constant.
 * Memory:  constant data. */
#pragma once

#include "model/template_native_int.h"

extern const cn_native cn_template_string_methods[];
