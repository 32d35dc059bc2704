#include <string.h>

#include "tests/dataplane/tcp_script.h"
#include "tests/unit/cmocka_all.h"

/* The rules of TCP, one conversation each: RFC 9293, 5681, 5961, 6298, 6582, 6675, 7323, 8985 and what
 * the transport promises above them. Each runs over IPv4 and IPv6, with sequence numbers that wrap and
 * such that do not. The far end's MSS is 1000, so that segments are the same over both. */

#define SYN "< S 0 mss 1000\n> S. 0 ack 1 win 65535 mss mtu\n"
#define OPEN SYN "< . 1 ack 1\nopened\n"
#define OPEN_WIN(win) SYN "< . 1 ack 1 win " win "\nopened\n"
// With everything negotiated; win 512 is 64 KiB then.
#define SACK_SYN "< S 0 mss 1000 scale 7 sackok\n> S. 0 ack 1 win 65535 mss mtu scale 3 sackok\n"
#define OPEN_SACK SACK_SYN "< . 1 ack 1 win 512\nopened\n"
#define SENT5                                                                                      \
    "write 5000\n> . 1+1000\n> . 1001+1000\n> . 2001+1000\n> . 3001+1000\n> . 4001+1000\n"
#define SENT10                                                                                     \
    "write 12000\n> . 1+1000\n> . 1001+1000\n> . 2001+1000\n> . 3001+1000\n> . 4001+1000\n"        \
    "> . 5001+1000\n> . 6001+1000\n> . 7001+1000\n> . 8001+1000\n> . 9001+1000\n"
#define TIME_WAITING                                                                               \
    OPEN "finish\n> F. 1 ack 1\n< . 1 ack 2\n< F. 1 ack 2\n> . 2 ack 2\n"

static const tcp_script opening[] = {
    {"handshake", OPEN "none\n", 0},
    {"handshake with options", OPEN_SACK "none\n", 0},
    {"a SYN-ACK that is lost is sent again", SYN "+990\n+20\n> S. 0 ack 1 win 65535 mss mtu\n+1980\n"
        "+30\n> S. 0 ack 1 win 65535 mss mtu\n< . 1 ack 1\nopened\n", 0},
    {"a half-open connection ends after 10 s", SYN "+1010\n> S. 0 mss mtu\n+2010\n> S. 0 mss mtu\n"
        "+4010\n> S. 0 mss mtu\n+3500\n< . 1 ack 1\n> R. 1\nopened 0\n", 0},
    {"a second SYN is answered like the first", SYN "< S 0 mss 1000\n> S. 0 ack 1 mss mtu\n"
        "< . 1 ack 1\nopened\n", 0},
    {"copies of a SYN do not use up our patience", SYN SYN SYN SYN SYN SYN SYN "+1020\n> S. 0 ack 1 mss mtu\n+2020\n"
        "> S. 0 ack 1 mss mtu\n< . 1 ack 1\nopened\n", 0},
    {"another SYN in SYN_RCVD is challenged", SYN "< S 5000 mss 1000\n> . 1 ack 1\n< . 1 ack 1\n"
        "opened\n", 0},
    {"a wrong ACK in SYN_RCVD is reset", SYN "< . 1 ack 7\n> R. 7\n< . 1 ack 0\n> R. 0\n"
        "opened 0\n< . 1 ack 1\nopened\n", 0},
    {"RST in SYN_RCVD", SYN "< R 1\n< . 1 ack 1\n> R. 1\nopened 0\n", 0},
    {"RST outside the window in SYN_RCVD", SYN "< R 70000\n< . 1 ack 1\nopened\n", 0},
    {"RST in the window in SYN_RCVD is challenged", SYN "< R 100\n> . 1 ack 1\n< . 1 ack 1\nopened\n", 0},
    {"an ACK outside the window does not open", SYN "< . 70000 ack 1\n> . 1 ack 1\nopened 0\n", 0},
    {"data with the last ACK", SYN "< P. 1+100 ack 1\nopened\ngot 100\n+50\n> . 1 ack 101\n", 0},
    {"data before the last ACK", SYN "< . 101+50 ack 1\nopened\ngot 0\n> . 1 ack 1\n"
        "< . 1+100 ack 1\ngot 150\n+50\n> . 1 ack 151\n", 0},
    {"FIN with the last ACK", SYN "< F. 1 ack 1\nopened\nclosed\n> F. 1 ack 2\n< . 2 ack 2\n", 0},
    {"data of a SYN is not taken", "< S 0+10 mss 1000\n> S. 0 ack 1 mss mtu\n< . 1 ack 1\nopened\n"
        "got 0\n", 0},
    {"SYN and FIN", "< SF 0 mss 1000\nnone\n", 0},
    {"SYN and RST", "< SR 0 mss 1000\nnone\n", 0},
    {"no flags", "< - 0\nnone\n", 0},
    {"all flags", "< FSRP.U 0 ack 5\nnone\n", 0},
    {"ACK without a connection", "< . 1 ack 77\n> R. 77\n", 0},
    {"FIN without a connection", "< F. 1 ack 77\n> R. 77\n", 0},
    {"RST without a connection", "< R 1\nnone\n", 0},
    {"a port where nobody listens", "near 81\n< S 0 mss 1000\n> R. 0 ack 1\n", 0},
    {"wrong checksum", "< S 0 mss 1000 badsum\nnone\n", 0},
    {"a header that is too short", "< S 0 words 4\nnone\n", 0},
    {"a header that is longer than the segment", "< S 0 words 15\nnone\n", 0},
    {"an MSS option without length", "< S 0 raw 02000000\n> S. 0 mss mtu\n< . 1 ack 1\nopened\n", 0},
    {"an MSS option beyond the header", "< S 0 raw 01010204\n> S. 0 mss mtu\n< . 1 ack 1\nopened\n", 0},
    {"a scale option beyond the header", "< S 0 raw 01010303\n> S. 0 mss mtu\n", 0},
    {"an unknown option is skipped", "< S 0 raw 1e040000020403e8\n> S. 0 mss mtu\n< . 1 ack 1\n"
        "write 1500\n> . 1+1000\n> . 1001+500\n", 0},
    {"the end of options ends them", "< S 0 raw 00000000020403e8\n> S. 0 mss mtu\n< . 1 ack 1\n"
        "write 600\n> . 1+536\n> . 537+64\n", 0},
    {"no MSS option: 536", "< S 0\n> S. 0 mss mtu\n< . 1 ack 1\nwrite 600\n> . 1+536\n> . 537+64\n", 0},
    {"a small MSS", "< S 0 mss 64\n> S. 0 mss mtu\n< . 1 ack 1\nwrite 100\n> . 1+64\n> . 65+36\n", 0},
    {"an MSS of 0 is none", "< S 0 mss 0\n> S. 0 mss mtu\n< . 1 ack 1\nwrite 100\n> . 1+100\n", 0},
    {"a scale above 14 is 14", "< S 0 mss 1000 scale 200\n> S. 0 mss mtu scale 3\n< . 1 ack 1 win 1\n"
        "write 20000\n> . 1+1000\n> . 1001+1000\n> . 2001+1000\n> . 3001+1000\n> . 4001+1000\n"
        "> . 5001+1000\n> . 6001+1000\n> . 7001+1000\n> . 8001+1000\n> . 9001+1000\nnone\n", 0},
    {"the window of a SYN is not scaled", "< S 0 mss 1000 scale 7 win 2000\n> S. 0 mss mtu scale 3\n"
        "< . 1 ack 1 win 16\nwrite 3000\n> . 1+1000\n> . 1001+1000\nnone\n", 0},
    {"beyond the limit of connections SYNs wait", OPEN "port 40001\n< S 0 mss 1000\n"
        "none\nport 40000\n< R 1\nclosed\nport 40001\n" SYN "< . 1 ack 1\nopened 2\n", 1},
    {"a flood makes room by age", "< S 0 mss 1000\n> S. 0 mss mtu\nport 40001\n< S 0 mss 1000\n"
        "> S. 0 mss mtu\nport 40002\n< S 0 mss 1000\nnone\n+110\n"
        "< S 0 mss 1000\n> S. 0 mss mtu\nport 40000\n< . 1 ack 1\n"
        "> R. 1\nopened 0\nport 40002\n< . 1 ack 1\nopened\n", 2},
    {"who stops listening keeps what is open", OPEN "stop\nwrite 5\n> . 1+5\n< . 1 ack 6\n"
        "port 40001\n< S 0 mss 1000\n> R. 0 ack 1\n", 0},
};

static const tcp_script receiving[] = {
    {"an ACK is delayed by 40 ms", OPEN "< P. 1+100 ack 1\ngot 100\n+30\n+20\n> . 1 ack 101\n", 0},
    {"every second segment is acknowledged at once", OPEN "< . 1+100 ack 1\n< . 101+100 ack 1\n"
        "> . 1 ack 201\n", 0},
    {"an ACK rides on data", OPEN "< . 1+100 ack 1\nwrite 10\n> . 1+10 ack 101\n< . 101 ack 11\n"
        "+100\nnone\n", 0},
    {"an early segment is acknowledged at once", OPEN "< . 101+100 ack 1\n> . 1 ack 1 sack no\n"
        "got 0\n< . 1+100 ack 1\ngot 200\n+50\n> . 1 ack 201\n", 0},
    {"SACK names an early segment", OPEN_SACK "< . 101+100 ack 1\n> . 1 ack 1 sack 101-201\n"
        "< . 1+100 ack 1\ngot 200\n+50\n> . 1 ack 201 sack no\n", 0},
    {"SACK names the latest first", OPEN_SACK "< . 101+100 ack 1\n> . 1 ack 1 sack 101-201\n"
        "< . 501+100 ack 1\n> . 1 ack 1 sack 501-601 sack 101-201\n< . 301+100 ack 1\n"
        "> . 1 ack 1 sack 301-401 sack 501-601 sack 101-201\n"
        "< . 1+100 ack 1\n> . 1 ack 201 sack 301-401 sack 501-601\ngot 200\n"
        "< . 201+300 ack 1\ngot 600\n+50\n> . 1 ack 601 sack no\n", 0},
    {"SACK joins neighbours", OPEN_SACK "< . 101+100 ack 1\n> . 1 ack 1 sack 101-201\n"
        "< . 201+100 ack 1\n> . 1 ack 1 sack 101-301\n< . 301+100 ack 1\n> . 1 ack 1 sack 101-401\n", 0},
    {"an overlap is cut", OPEN "< . 1+100 ack 1\n< . 51+100 ack 1\ngot 150\n> . 1 ack 151\n", 0},
    {"a duplicate is acknowledged at once", OPEN "< . 1+100 ack 1\n+50\n> . 1 ack 101\n"
        "< . 1+100 ack 1\n> . 1 ack 101\ngot 100\n", 0},
    {"an early segment that holds another", OPEN "< . 201+50 ack 1\n> . 1 ack 1\n< . 101+300 ack 1\n"
        "> . 1 ack 1\n< . 1+100 ack 1\ngot 400\n+50\n> . 1 ack 401\n", 0},
    {"early segments that overlap", OPEN "< . 101+100 ack 1\n> . 1 ack 1\n< . 151+100 ack 1\n"
        "> . 1 ack 1\n< . 51+100 ack 1\n> . 1 ack 1\n< . 1+60 ack 1\ngot 250\n+50\n> . 1 ack 251\n", 0},
    {"what fills a hole may reach into what is there", OPEN "< . 101+100 ack 1\n> . 1 ack 1\n"
        "< . 1+150 ack 1\ngot 200\n+50\n> . 1 ack 201\n", 0},
    {"a segment beyond the window", OPEN "< . 65537+100 ack 1\n> . 1 ack 1\ngot 0\n", 0},
    {"a segment that reaches beyond the window", OPEN "take 0\nbulk 1 65000\n+50\n> . 1 ack 65001 win 535\n"
        "< . 65001+1000 ack 1\n+50\n> . 1 ack 65536 win 0\ntake all\nresume\n"
        "> . 1 ack 65536 win 65535\ngot 65535\n", 0},
    {"a closed window and its opening", OPEN "take 0\nbulk 1 65535\n> . 1 ack 65536 win 0\n"
        "< . 65536+1 ack 1\n> . 1 ack 65536 win 0\ngot 0\ntake all\nresume\ngot 65535\n"
        "> . 1 ack 65536 win 65535\n< . 65536+100 ack 1\ngot 65635\n+50\n> . 1 ack 65636\n", 0},
    {"an ACK counts while the window is closed", OPEN "write 10\n> . 1+10\ntake 0\nbulk 1 65535\n"
        "> . 11 ack 65536 win 0\n< . 65536 ack 11\n+400\nnone\n", 0},
    {"a scaled window", OPEN_SACK "take 0\nbulk 1 262144\n+50\n> . 1 ack 262145 win 0\ntake all\n"
        "resume\ngot 262144\n> . 1 ack 262145 win 32768\n", 0},
    {"no ACK flag: nothing is taken", OPEN "< P 1+10\nnone\ngot 0\n", 0},
    {"a probe of a live connection", OPEN "< . 0 ack 1\n> . 1 ack 1\n", 0},
    {"a probe with an old byte", OPEN "< . 0+1 ack 1\n> . 1 ack 1\ngot 0\n", 0},
    {"urgent data is data", OPEN "< P.U 1+10 ack 1\ngot 10\n+50\n> . 1 ack 11\n", 0},
    {"an old duplicate from far away", OPEN "< . -200000+100 ack 1\n> . 1 ack 1\ngot 0\n", 0},
    {"unknown options in data", OPEN "< . 1+10 ack 1 raw fd04aaaa01010101\ngot 10\n+50\n> . 1 ack 11\n", 0},
    {"broken options in data", OPEN "< . 1+10 ack 1 raw 05ff000000000000\ngot 10\n+50\n> . 1 ack 11\n", 0},
    {"what is left is shown again", OPEN "take 3\n< . 1+6 ack 1\ngot 3\ntake 1\nresume\ngot 4\n"
        "take all\nresume\ngot 6\n+50\n> . 1 ack 7\n", 0},
    {"what comes while something is left waits behind it", OPEN "take 3\n< . 1+6 ack 1\n"
        "< . 7+6 ack 1\n> . 1 ack 13\ngot 3\ntake all\nresume\ngot 12\n", 0},
};

static const tcp_script sending[] = {
    {"a segment and its ACK", OPEN "write 100\n> P. 1+100 ack 1\n< . 1 ack 101\n+1000\nnone\n", 0},
    {"segments of the MSS", OPEN "write 2500\n> . 1+1000\n> . 1001+1000\n> P. 2001+500\n", 0},
    {"the initial window is 10 segments", OPEN SENT10 "none\n", 0},
    {"slow start", OPEN "write 20000\n> . 1+1000\n> . 1001+1000\n> . 2001+1000\n> . 3001+1000\n"
        "> . 4001+1000\n> . 5001+1000\n> . 6001+1000\n> . 7001+1000\n> . 8001+1000\n> . 9001+1000\n"
        "< . 1 ack 2001\n> . 10001+1000\n> . 11001+1000\n> . 12001+1000\n> . 13001+1000\nnone\n", 0},
    {"the peer's window", OPEN_WIN("2500") "write 5000\n> . 1+1000\n> . 1001+1000\nnone\n"
        "< . 1 ack 2001 win 2500\n> . 2001+1000\n> . 3001+1000\n< . 1 ack 4001 win 2500\n> . 4001+1000\n", 0},
    {"an opened window alone lets data go", OPEN_WIN("2000") "write 4000\n> . 1+1000\n> . 1001+1000\n"
        "< . 1 ack 1 win 4000\n> . 2001+1000\n> . 3001+1000\n", 0},
    // The first segment is longer than half of the largest window that was ever seen.
    {"a window that opens a little after a write", "< S 0 mss 1000 win 0\n> S. 0 mss mtu\n"
        "< . 1 ack 1 win 0\nopened\nwrite 500\nnone\n< . 1 ack 1 win 100\nwrite 200\n+190\n+30\n"
        "> . 1+100\n< . 1 ack 101 win 60000\n> . 101+400\n> . 501+50\n> . 551+50\n> . 601+50\n"
        "> . 651+50\n< . 1 ack 701\nnone\n", 0},
    {"the end of a segment that is cut stays at its end", "< S 0 mss 1000 win 0\n> S. 0 mss mtu\n"
        "< . 1 ack 1 win 0\nopened\nwrite 500\nfinish\nnone\n< . 1 ack 1 win 100\n+190\n+30\n"
        "> . 1+100\n< . 1 ack 101 win 60000\n> F. 101+400\n", 0},
    {"a closed window is probed, less and less often", OPEN_WIN("0") "write 100\nnone\n+190\n+30\n"
        "> . 1+1 ack 1\n< . 1 ack 1 win 0\n+360\n+50\n> . 1+1\n< . 1 ack 1 win 0\n+750\n+60\n"
        "> . 1+1\n< . 1 ack 1 win 1000\n> . 1+100\n< . 1 ack 101\n", 0},
    {"a probe may be taken", OPEN_WIN("0") "write 100\n+210\n> . 1+1\n< . 1 ack 2 win 1000\n> . 1+100\n", 0},
    {"who never answers a probe is given up", OPEN_WIN("0") "write 100\n+210\ndrain\n+120000\ndrain\n"
        "closed\n", 0},
    {"who answers probes is not given up", OPEN_WIN("0") "write 100\n+210\n> . 1+1\n< . 1 ack 1 win 0\n"
        "+30100\ndrain\n< . 1 ack 1 win 0\n+30100\ndrain\n< . 1 ack 1 win 0\n+30100\ndrain\n"
        "< . 1 ack 1 win 0\n+30100\ndrain\n< . 1 ack 1 win 0\n+30100\ndrain\nclosed 0\n"
        "< . 1 ack 1 win 1000\n> . 1+100\n", 0},
    {"time-outs double", OPEN "write 100\n> . 1+100\n+190\n+20\n> . 1+100\n+380\n+30\n> . 1+100\n"
        "+750\n+60\n> . 1+100\n< . 1 ack 101\n+5000\nnone\n", 0},
    {"who never acknowledges is given up", OPEN "write 100\n> . 1+100\n+60000\ndrain\nclosed 0\n+60000\ndrain\n"
        "closed\n< . 1 ack 101\n> R. 101\n", 0},
    {"a path that may be narrower gets shorter segments", "< S 0 mss 1400\n> S. 0 mss mtu\n< . 1 ack 1\n"
        "opened\nwrite 2800\n> . 1+1400\n> . 1401+1400\n+190\n+30\n> . 1+1400\nnone\n+410\n> . 1+1220\n"
        "none\n< . 1 ack 1221\n> . 1221+180\n> . 1401+1220\n> . 2621+180\n"
        "< . 1 ack 2801\nwrite 3000\n> . 2801+1220\n> . 4021+1220\n", 0},
    {"one time-out alone leaves segments as long as they are", "< S 0 mss 1400\n> S. 0 mss mtu\n< . 1 ack 1\n"
        "opened\nwrite 1400\n> . 1+1400\n+190\n+30\n> . 1+1400\n< . 1 ack 1401\nwrite 1400\n"
        "> . 1401+1400\n", 0},
    {"a time-out sends one segment", OPEN SENT5 "+210\n> . 1+1000\nnone\n< . 1 ack 5001\n+1000\nnone\n", 0},
    {"after a time-out what is missing follows", OPEN SENT5 "+210\n> . 1+1000\n< . 1 ack 1001\n"
        "> . 1001+1000\n> . 2001+1000\nnone\n", 0},
    {"the time-out follows the round trip", SYN "+500\n< . 1 ack 1\nwrite 100\n> . 1+100\n+1480\n+40\n"
        "> . 1+100\n", 0},
    {"an ACK of a retransmission measures nothing", OPEN "write 100\n> . 1+100\n+210\n> . 1+100\n+150\n"
        "< . 1 ack 101\nwrite 100\n> . 101+100\n+190\n+20\n> . 101+100\n", 0},
    {"three duplicate ACKs", OPEN SENT5 "< . 1 ack 1\n< . 1 ack 1\n< . 1 ack 1\n> . 1+1000\nnone\n"
        "< . 1 ack 5001\n+1000\nnone\n", 0},
    {"two duplicate ACKs are none", OPEN SENT5 "< . 1 ack 1\n< . 1 ack 1\nnone\n", 0},
    {"an ACK with data is no duplicate", OPEN SENT5 "< . 1 ack 1\n< . 1 ack 1\n< . 1+10 ack 1\n"
        "got 10\n+50\n> . 5001 ack 11\n", 0},
    {"an ACK with another window is no duplicate", OPEN_WIN("60000") SENT5
        "< . 1 ack 1 win 60000\n< . 1 ack 1 win 60000\n< . 1 ack 1 win 65000\nnone\n", 0},
    {"a partial ACK shows the next loss", OPEN SENT5 "< . 1 ack 1\n< . 1 ack 1\n< . 1 ack 1\n> . 1+1000\n"
        "< . 1 ack 3001\n> . 3001+1000\n< . 1 ack 5001\n+1000\nnone\n", 0},
    {"limited transmit", OPEN SENT10 "< . 1 ack 1\n> . 10001+1000\n< . 1 ack 1\n> . 11001+1000\n"
        "< . 1 ack 1\n> . 1+1000\n", 0},
    {"early retransmit", OPEN "write 2000\n> . 1+1000\n> . 1001+1000\n< . 1 ack 1\n> . 1+1000\n", 0},
    {"early retransmit of three", OPEN "write 3000\n> . 1+1000\n> . 1001+1000\n> . 2001+1000\n"
        "< . 1 ack 1\nnone\n< . 1 ack 1\n> . 1+1000\n", 0},
    {"SACK shows one loss", OPEN_SACK SENT5 "< . 1 ack 1 win 512 sack 1001-2001\n"
        "< . 1 ack 1 win 512 sack 1001-3001\nnone\n< . 1 ack 1 win 512 sack 1001-4001\n> . 1+1000\n"
        "none\n< . 1 ack 5001 win 512\n+1000\nnone\n", 0},
    {"SACK shows two losses", OPEN_SACK SENT10 "< . 1 ack 1 win 512 sack 1001-2001\n> . 10001+1000\n"
        "< . 1 ack 1 win 512 sack 3001-4001 sack 1001-2001\n> . 11001+1000\n"
        "< . 1 ack 1 win 512 sack 3001-7001 sack 1001-2001\n> . 1+1000\nnone\n"
        "< . 1 ack 1 win 512 sack 3001-8001 sack 1001-2001\n> . 2001+1000\nnone\n"
        "< . 1 ack 12001 win 512\n+1000\nnone\n", 0},
    {"what is sacked is not sent again", OPEN_SACK SENT5 "< . 1 ack 1 win 512 sack 1001-5001\n"
        "> . 1+1000\nnone\n", 0},
    {"SACK of the later of two", OPEN_SACK "write 100\n> . 1+100\nwrite 100\n> . 101+100\n"
        "< . 1 ack 1 win 512 sack 101-201\n> . 1+100\n< . 1 ack 201 win 512\n+1000\nnone\n", 0},
    {"a retransmission that is lost is sent again", OPEN_SACK SENT10
        "< . 1 ack 1 win 512 sack 1001-4001\n> . 1+1000\n"
        "< . 1 ack 1 win 512 sack 1001-10001\n> . 10001+1000\n> . 11001+1000\n"
        "write 3000\n> . 12001+1000\n> . 13001+1000\nnone\n"
        "< . 1 ack 1 win 512 sack 1001-13001\n> . 1+1000\n> . 14001+1000\n", 0},
    {"the tail is probed", OPEN_SACK "write 3000\n> . 1+1000\n> . 1001+1000\n> . 2001+1000\n+10\n+30\n"
        "> . 2001+1000\nnone\n< . 1 ack 1 win 512 sack 2001-3001\n> . 1+1000\n> . 1001+1000\n"
        "< . 1 ack 3001 win 512\n+1000\nnone\n", 0},
    {"a tail of less than two full segments waits for a delayed ACK", OPEN_SACK "write 10\n> . 1+10\n"
        "< . 1 ack 11 win 512\nwrite 10\n> . 11+10\nwrite 20\n> . 21+20\n+65\nnone\n+20\n> . 21+20\n"
        "none\n", 0},
    {"the tail is probed once, then the time-out comes", OPEN_SACK "write 3000\n> . 1+1000\n"
        "> . 1001+1000\n> . 2001+1000\n+40\n> . 2001+1000\n+150\nnone\n+70\n> . 1+1000\n", 0},
    {"new data probes as well", OPEN_SACK SENT10 "+40\n> . 10001+1000\nnone\n", 0},
    {"after a time-out SACK is forgotten", OPEN_SACK SENT5 "< . 1 ack 1 win 512 sack 1001-2001\n+40\n"
        "> . 4001+1000\n+250\n> . 1+1000\n< . 1 ack 1001 win 512\n> . 1001+1000\n> . 2001+1000\nnone\n", 0},
    {"SACK of what was not sent", OPEN_SACK SENT5 "< . 1 ack 1 win 512 sack 5001-9001\n"
        "< . 1 ack 1 win 512 sack 2001-1001\n< . 1 ack 1 win 512 sack -4000-0\n"
        "< . 1 ack 5001 win 512\nnone\n", 0},
    {"SACK without agreement", OPEN SENT5 "< . 1 ack 1 sack 1001-2001\n< . 1 ack 1 sack 1001-4001\n"
        "none\n< . 1 ack 1 sack 1001-5001\n> . 1+1000\nnone\n", 0},
    {"an ACK of what was not sent is challenged", OPEN "write 10\n> . 1+10\n< . 1+5 ack 12\n"
        "> . 11 ack 1\ngot 0\n< . 1+5 ack 11\ngot 5\n+50\n> . 11 ack 6\n", 0},
    {"an old ACK does nothing", OPEN "write 10\n> . 1+10\n< . 1 ack 11\n< . 1 ack 5\nnone\nwrite 5\n"
        "> . 11+5\n", 0},
    {"an ACK from long ago is challenged", OPEN "< . 1+5 ack -70000\n> . 1 ack 1\ngot 0\n", 0},
    {"a write ends at the send buffer", OPEN "write 300000 took 262144\ndrain\nwrite 1 took 0\n"
        "< . 1 ack 10001\ndrain\nwritable 0\n", 0},
    {"writable comes when a quarter is free", OPEN_SACK "write 300000 took 262144\ndrain\n"
        "< . 1 ack 10001 win 2000\ndrain\nwritable 0\n< . 1 ack 22001 win 2000\ndrain\n"
        "< . 1 ack 36001 win 2000\ndrain\n< . 1 ack 52001 win 2000\ndrain\n"
        "< . 1 ack 70001 win 2000\ndrain\nwritable 1\n", 0},
    {"after a pause the window starts over", OPEN "write 10000\ndrain\n< . 1 ack 10001\nwrite 12000\n"
        "drain\n< . 1 ack 22001\n+3000\nwrite 20000\n> . 22001+1000\n> . 23001+1000\n> . 24001+1000\n"
        "> . 25001+1000\n> . 26001+1000\n> . 27001+1000\n> . 28001+1000\n> . 29001+1000\n"
        "> . 30001+1000\n> . 31001+1000\nnone\n", 0},
};

static const tcp_script ending[] = {
    {"RST", OPEN "< R 1\nclosed\n< . 1 ack 1\n> R. 1\n", 0},
    {"RST with ACK", OPEN "< R. 1 ack 1\nclosed\n", 0},
    {"RST inside the window is challenged", OPEN "< R 2\n> . 1 ack 1\nclosed 0\n< R 1\nclosed\n", 0},
    {"RST outside the window is nothing", OPEN "< R 0\n< R 65537\nnone\nclosed 0\n", 0},
    {"RST while something is under way", OPEN "write 10\n> . 1+10\n< R 1\nclosed\n+1000\nnone\n", 0},
    {"SYN in a connection is challenged, not too often", OPEN "< S 5\n> . 1 ack 1\n< S 6\nnone\n+90\n"
        "< S 7\nnone\n+20\n< S. 8 ack 1\n> . 1 ack 1\nclosed 0\n", 0},
    {"SYN where the connection began", OPEN "< S 0 mss 1000\n> . 1 ack 1\nclosed 0\n", 0},
    {"FIN", OPEN "< F. 1 ack 1\nclosed\n> F. 1 ack 2\n< . 2 ack 2\n< . 2 ack 2\n> R. 2\n", 0},
    {"FIN with data", OPEN "< FP. 1+10 ack 1\ngot 10\nclosed\n> F. 1 ack 12\n< . 12 ack 2\n", 0},
    {"an early FIN waits", OPEN "< F. 101 ack 1\n> . 1 ack 1\nclosed 0\n< . 1+100 ack 1\ngot 100\n"
        "closed\n> F. 1 ack 102\n", 0},
    {"an early FIN with data waits", OPEN "< F. 101+50 ack 1\n> . 1 ack 1\n< . 1+100 ack 1\ngot 150\n"
        "closed\n> F. 1 ack 152\n", 0},
    {"a FIN comes again", OPEN "< F. 1 ack 1\n> F. 1 ack 2\n< F. 1 ack 1\n> . 2 ack 2\n< . 2 ack 2\n", 0},
    {"data after a FIN is nothing", OPEN "< F. 1 ack 1\n> F. 1 ack 2\n< . 2+10 ack 1\nnone\n"
        "got 0\n", 0},
    {"our FIN is sent again", OPEN "< F. 1 ack 1\n> F. 1 ack 2\n+210\n> F. 1 ack 2\n< . 2 ack 2\n"
        "+1000\nnone\n", 0},
    {"nobody acknowledges our FIN", OPEN "< F. 1 ack 1\n> F. 1 ack 2\n+31000\ndrain\n< . 2 ack 2\n"
        "> R. 2\n", 0},
    {"a peer that closes on what it sent is reset", OPEN "take 0\n< F. 1+10 ack 1\nclosed\n"
        "> R. 1 ack 12\n", 0},
    {"finish", OPEN "write 10\n> . 1+10\nfinish\n> F. 11 ack 1\n< . 1 ack 12\n< F. 1 ack 12\n"
        "> . 12 ack 2\n< . 2 ack 12\nnone\nclosed 0\n", 0},
    {"finish after the peer's ACK", OPEN "finish\n> F. 1 ack 1\n< F. 1 ack 2\n> . 2 ack 2\n", 0},
    {"what comes after finish is thrown away", OPEN "finish\n> F. 1 ack 1\n< . 1 ack 2\n"
        "< . 1+100 ack 2\n+50\n> . 2 ack 101\ngot 0\n< F. 101 ack 2\n> . 2 ack 102\n", 0},
    {"what comes long after finish is reset", OPEN "finish\n> F. 1 ack 1\n< . 1 ack 2\n+2010\n"
        "< . 1+100 ack 2\n> R. 2\n", 0},
    {"finish leaves what was held", OPEN "take 2\n< . 1+10 ack 1\nfinish\n> F. 1 ack 11\n< . 11 ack 2\n"
        "< F. 11 ack 2\n> . 2 ack 12\n", 0},
    {"who does not close after finish", OPEN "finish\n> F. 1 ack 1\n< . 1 ack 2\n+23000\n"
        "< F. 1 ack 2\n> R. 2\n", 0},
    {"both close", OPEN "finish\n> F. 1 ack 1\n< F. 1 ack 1\n> . 2 ack 2\n< . 2 ack 2\n"
        "< F. 1 ack 2\n> . 2 ack 2\n", 0},
    {"both close and one FIN is lost", OPEN "finish\n> F. 1 ack 1\n< F. 1 ack 1\n> . 2 ack 2\n+210\n"
        "> F. 1 ack 2\n< . 2 ack 2\n+1000\nnone\n", 0},
    {"finish with unsent data", OPEN_WIN("2000") "write 4000\n> . 1+1000\n> . 1001+1000\nfinish\n"
        "< . 1 ack 2001 win 5000\n> . 2001+1000\n> F. 3001+1000\n< . 1 ack 4002\n", 0},
    {"a reset after finish", OPEN "finish\n> F. 1 ack 1\n< R 1\n+1000\nnone\nclosed 0\n", 0},
    {"abort", OPEN "abort\n> R. 1 ack 1\n< . 1 ack 1\n> R. 1\nclosed 0\n", 0},
    {"abort with something under way", OPEN "write 10\n> . 1+10\nabort\n> R. 11 ack 1\n+1000\nnone\n", 0},
    {"RST in TIME_WAIT is nothing", TIME_WAITING "< R 2\n< F. 1 ack 2\n> . 2 ack 2\n", 0},
    {"a FIN in TIME_WAIT is acknowledged", TIME_WAITING "+29000\n< F. 1 ack 2\n> . 2 ack 2\n+29000\n"
        "< F. 1 ack 2\n> . 2 ack 2\n", 0},
    {"TIME_WAIT ends", TIME_WAITING "+30100\n< F. 1 ack 2\n> R. 2\n", 0},
    {"an old SYN in TIME_WAIT is acknowledged", TIME_WAITING "< S -5 mss 1000\n> . 2 ack 2\n", 0},
    {"a new SYN in TIME_WAIT opens", TIME_WAITING "isn 100\n" SYN "< . 1 ack 1\nopened 2\n"
        "< . 1+10 ack 1\ngot 10\n+50\n> . 1 ack 11\n", 0},
    {"a live peer answers probes", OPEN "+60000\n+20\n> . 0 ack 1\n< . 1 ack 1\n+59900\n+200\n"
        "> . 0 ack 1\n< . 1 ack 1\nclosed 0\n", 0},
    {"a dead peer is given up", OPEN "+60020\n> . 0 ack 1\n+15000\n> . 0\n+15000\n> . 0\n+15000\n"
        "> . 0\nclosed 0\n+15100\n> R. 1\nclosed\n", 0},
};

typedef struct group {
    const tcp_script *scripts;
    size_t count;
} group;

static const group groups[] = {
    {opening, sizeof opening / sizeof *opening},
    {receiving, sizeof receiving / sizeof *receiving},
    {sending, sizeof sending / sizeof *sending},
    {ending, sizeof ending / sizeof *ending},
};

static void run_all(const tcp_script_setting *setting)
{
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        for (size_t i = 0; i < groups[g].count; i++) tcp_script_run(&groups[g].scripts[i], setting);
    }
}

static void rules_hold_over_ipv4(void **state)
{
    (void)state;
    run_all(&(tcp_script_setting){.isn = 1000});
}

static void rules_hold_over_ipv6(void **state)
{
    (void)state;
    run_all(&(tcp_script_setting){.v6 = true, .isn = 1000});
}

static void rules_hold_where_numbers_wrap(void **state)
{
    (void)state;
    run_all(&(tcp_script_setting){.isn = UINT32_MAX - 50});
}

static void rules_hold_in_a_vlan(void **state)
{
    (void)state;
    run_all(&(tcp_script_setting){.v6 = true, .vlan = 7, .isn = UINT32_MAX});
}

// Ticks of 10 ms are counted in 32 bits: half of them and all of them are 248 and 497 days.
static void rules_hold_where_the_clock_wraps(void **state)
{
    (void)state;
    const uint64_t tick_ns = 10000000;
    run_all(&(tcp_script_setting){.isn = 1000, .begin_ns = ((UINT64_C(1) << 31) + 5) * tick_ns});
    run_all(&(tcp_script_setting){.isn = 1000, .begin_ns = ((UINT64_C(1) << 32) - 3) * tick_ns});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_hold_over_ipv4),
        cmocka_unit_test(rules_hold_over_ipv6),
        cmocka_unit_test(rules_hold_where_numbers_wrap),
        cmocka_unit_test(rules_hold_in_a_vlan),
        cmocka_unit_test(rules_hold_where_the_clock_wraps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
