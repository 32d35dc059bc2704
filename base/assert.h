/* base/assert.h: guards against our own mistakes.
 * CN_ASSERT stays on in release and ends the process, which is safe: acknowledged turns are durable.
 * CN_ASSERT_SLOW is for checks that walk structures: on in debug and sanitizer builds only.
 * Not for anything that came from outside, from Redis or from a disk: that becomes an error.
 *
 * Threads: any.
 * Memory:  none of its own. */
#pragma once

/* Prints the place and the condition to stderr and aborts. */
_Noreturn void cn_assert_fail(const char *condition, const char *file, int line);

#define CN_ASSERT(condition)                                                                       \
    ((condition) ? (void)0 : cn_assert_fail(#condition, __FILE__, __LINE__))

#ifdef CN_SLOW_ASSERTS
#define CN_ASSERT_SLOW(condition) CN_ASSERT(condition)
#else
#define CN_ASSERT_SLOW(condition) ((void)0)
#endif
