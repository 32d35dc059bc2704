/* tests/unit/cmocka_all.h: cmocka with the headers that it wants before it.
 *
 * Threads: as cmocka.
 * Memory:  none. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
