/* tests/dataplane/tcp_script.h: runs a conversation with the TCP stack that is written as text, a step
 * per line, and fails the test at the first step that goes otherwise.
 *
 *   < FLAGS SEQ[+LEN] [ack N] [win N] [mss N|mtu] [scale N] [sackok] [sack A-B ...] [badsum] [words N]
 *                     [raw HEX]      a segment to the stack
 *   > FLAGS SEQ[+LEN] [...]          the next segment from the stack; fields that are not named may be
 *                                    anything, but there are no options that are not named in a SYN
 *   none                             the stack has sent nothing more
 *   drain                            whatever the stack has sent is thrown away
 *   +MS                              time passes, in steps of a millisecond
 *   write N [took M]   finish   abort   resume   stop        calls of the transport
 *   take N                           the handler takes at most N bytes of what it is shown; `all`
 *   opened [N]  closed [N]  got N  writable N                what the handler has seen, all in all
 *   bulk SEQ N                       N bytes to the stack in segments of 1000; answers but for the last
 *                                    are thrown away
 *   port N   isn N   near N          the far end's port from now on; so much is added to its sequence
 *                                    number; the stack's port
 *
 * FLAGS are S F R P U and . for ACK, or - for none; P of the stack is not compared. Sequence numbers
 * are relative: 0 is the SYN of whoever sends it, 1 its first byte. Both ends send patterns, which are
 * checked on the other side.
 *
 * Threads: one.
 * Memory:  none that stays. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct tcp_script {
    const char *name, *text;
    uint32_t connection_max;         // 0: 4
} tcp_script;

typedef struct tcp_script_setting {
    bool v6;
    uint16_t vlan;
    uint32_t isn;                    // of the far end
    uint64_t begin_ns;               // the clock at first; 0: 1 s
} tcp_script_setting;

void tcp_script_run(const tcp_script *script, const tcp_script_setting *setting);
