#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void cn_assert_fail(const char *condition, const char *file, int line)
{
    fprintf(stderr, "cairn: %s:%d: %s does not hold; this is a bug in Cairn\n", file, line,
            condition);
    abort();
}
