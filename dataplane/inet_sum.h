/* dataplane/inet_sum.h: the Internet checksum (RFC 1071), fast.
 *
 * Threads: any, nothing is kept.
 * Memory:  none. */
#pragma once

#include <stdint.h>

/* The one's complement sum of `len` bytes, as 16-bit words in the byte order of memory, not inverted;
 * a last odd byte is filled up with zero. 0 for no bytes. The type of `len` is lwIP's. */
uint16_t cn_inet_sum_fold(const void *data, int len);
