/* tests/dataplane/fuzz_tcp.c: whatever comes in from the wire, from Ethernet to TCP, while the
 * application does what it likes. With clang's -fsanitize=fuzzer it is a target of libFuzzer
 * (tests/dataplane/test_fuzz.py); otherwise it runs the files that it is given and mutations of them.
 *   fuzz_tcp CORPUS_DIRECTORY [RUNS]
 *
 * An input is a list of steps: a byte that says what, and what that needs. Segments are described by a
 * few fields near those that the connection expects, with right checksums, so that the search goes
 * deep; frames of raw bytes are there as well.
 *
 * Threads: one.
 * Memory:  a stack per input. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "dataplane/lwip_pool.h"
#include "tests/dataplane/tcp_wire.h"
#include "tests/unit/test_rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PORTS = 3, INPUT_BYTES_MAX = 4096 };

typedef struct input {
    const uint8_t *at, *end;
} input;

static struct world {
    wire wire;
    cn_conn conn;
    bool open;
    uint64_t take;
    struct { uint32_t near_next, far_next; } ports[PORTS];
} the;

static uint32_t number(input *in, uint32_t bytes)
{
    uint32_t value = 0;
    while (bytes-- && in->at < in->end) value = value << 8 | *in->at++;
    return value;
}

static void on_opened(void *self, cn_conn conn, const char *peer)
{
    (void)self, (void)peer;
    the.conn = conn;
    the.open = true;
}

static size_t on_received(void *self, cn_conn conn, const char *data, size_t len)
{
    (void)self, (void)conn;
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i++) sum += (uint8_t)data[i];        // every byte can be read
    return the.take < len ? (size_t)the.take : len + (sum & 0);
}

static void on_writable(void *self, cn_conn conn) { (void)self, (void)conn; }

static void on_closed(void *self, cn_conn conn) { (void)self, (void)conn; }

// What the stack has sent tells where the connections are.
static void look(void)
{
    uint8_t frame[9300];
    for (uint16_t len; (len = wire_receive_frame(&the.wire, frame)) != 0;) {
        const uint32_t ip = the.wire.v6 ? 40 : 20;
        const uint8_t *tcp = frame + 14 + ip;
        if (len < 14 + ip + 20 || frame[14 + (the.wire.v6 ? 6 : 9)] != 6) continue;
        const uint32_t port = (uint32_t)(tcp[2] << 8 | tcp[3]) - 40000;
        if (port >= PORTS) continue;
        uint32_t seq = (uint32_t)tcp[4] << 24 | (uint32_t)tcp[5] << 16 | (uint32_t)tcp[6] << 8 | tcp[7];
        uint32_t ack = (uint32_t)tcp[8] << 24 | (uint32_t)tcp[9] << 16 | (uint32_t)tcp[10] << 8 | tcp[11];
        the.ports[port].near_next =
            seq + len - 14 - ip - (uint32_t)(tcp[12] >> 4) * 4 + ((tcp[13] & (TCP_SYN | TCP_FIN)) != 0);
        if (tcp[13] & TCP_ACK) the.ports[port].far_next = ack;
    }
}

// A distance in sequence numbers: mostly none or small, sometimes anything.
static uint32_t distance(input *in)
{
    const uint32_t how = number(in, 1);
    if (how < 128) return 0;
    if (how < 200) return (uint32_t)(int8_t)number(in, 1);
    return how < 240 ? (uint32_t)(int16_t)number(in, 2) * 4 : number(in, 4);
}

static void send_segment(input *in)
{
    static const uint8_t body[1300];       // with any options still a frame
    static uint8_t options[40];
    const uint32_t port = number(in, 1) % PORTS;
    wire_segment s = wire_segment_of((uint8_t)number(in, 1), 0, 0);
    s.far_port = (uint16_t)(40000 + port);
    s.seq = the.ports[port].far_next + distance(in);
    s.ack = the.ports[port].near_next + distance(in);
    s.window = number(in, 2);
    s.len = number(in, 1) * 6 % sizeof body;
    s.data = body;
    if (s.flags & TCP_SYN) {
        s.mss = (int)number(in, 2);
        s.scale = (int)(number(in, 1) % 20) - 1;
        s.sack_permitted = number(in, 1) & 1;
        the.ports[port].far_next = s.seq + 1;
    }
    const uint32_t more = number(in, 1);
    if (more >= 192) {                       // options of any kind
        s.raw_option_bytes = more % 11 * 4;
        for (uint32_t i = 0; i < s.raw_option_bytes; i++) options[i] = (uint8_t)number(in, 1);
        s.raw_options = options;
    } else if (more >= 128) {
        s.sack_count = 1 + more % 3;
        for (uint32_t i = 0; i < s.sack_count; i++) {
            s.sacks[i][0] = s.ack + number(in, 2);
            s.sacks[i][1] = s.sacks[i][0] + number(in, 2);
        }
    }
    s.bad_checksum = more == 127;
    s.header_words = more == 126 ? (int)(number(in, 1) % 16) : -1;
    wire_send(&the.wire, &s);
}

static void send_raw(input *in)
{
    uint8_t frame[1500];
    uint32_t len = number(in, 1) * 5;
    memcpy(frame, "\2\0\0\0\0\12\2\0\0\0\0\13", 12);
    for (uint32_t i = 12; i < 12 + len; i++) frame[i] = (uint8_t)number(in, 1);
    if (len > 20 && frame[14] >> 4 == 4) {   // a right header checksum, half of the time
        if (frame[24] & 1) {
            memset(frame + 24, 0, 2);
            uint32_t sum = 0;
            for (int i = 14; i < 34; i += 2) sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
            while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
            frame[24] = (uint8_t)(~sum >> 8);
            frame[25] = (uint8_t)~sum;
        }
    }
    wire_send_frame(&the.wire, frame, (uint16_t)(12 + len));
}

static void step(input *in)
{
    static const uint8_t answer[20000];
    cn_transport *t = the.wire.transport;
    switch (number(in, 1) % 16) {
    case 0: send_raw(in); break;
    case 1: wire_advance(&the.wire, (uint64_t)number(in, 2) * 1000000); break;
    case 2: wire_advance(&the.wire, (uint64_t)number(in, 1) * 500000000); break;
    case 3: t->ops->write(t, the.conn, answer, number(in, 2) % sizeof answer); break;
    case 4: t->ops->resume(t, the.conn); break;
    case 5: the.take = number(in, 1) & 1 ? UINT64_MAX : number(in, 1); break;
    case 6: t->ops->finish(t, the.conn); break;
    case 7: t->ops->abort(t, the.conn); break;
    default: send_segment(in); break;
    }
    for (int i = 0; i < 4 && wire_poll(&the.wire); i++) look();
    look();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    if (size < 2 || size > INPUT_BYTES_MAX) return 0;
    memset(&the, 0, sizeof the);
    the.take = UINT64_MAX;
    const wire_options options = {
        .v6 = number(&in, 1) & 1, .seed = number(&in, 1), .connection_max = 2,
        .data_bytes = data[1] & 2 ? 256 << 10 : 4 << 20, .frame_count = 64,
        .handler = {&the, on_opened, on_received, on_writable, on_closed}};
    wire_open(&the.wire, &options);
    while (in.at < in.end) step(&in);
    wire_advance(&the.wire, 400000000000);   // every timer
    for (int i = 0; i < 20; i++) {
        wire_advance(&the.wire, 10000000000);
        wire_poll(&the.wire);
        look();
    }
    CN_ASSERT(cn_nic_sim_held(the.wire.near) == 0);
    wire_close(&the.wire);                   // asserts that all memory is back
    return 0;
}

#ifndef FUZZ_LIBFUZZER
static void mutate(test_rng *rng, uint8_t *data, uint32_t *size)
{
    for (uint32_t n = 1 + test_rng_below(rng, 4); n; n--) {
        const uint32_t at = test_rng_below(rng, *size);
        switch (test_rng_below(rng, 4)) {
        case 0: data[at] = (uint8_t)test_rng_below(rng, 256); break;
        case 1: data[at] ^= (uint8_t)(1 << test_rng_below(rng, 8)); break;
        case 2:                              // a piece comes twice
            if (*size > INPUT_BYTES_MAX / 2) break;
            memmove(data + *size, data + at, *size - at);
            *size += *size - at;
            break;
        default:
            if (at > 2) *size = at;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s CORPUS_DIRECTORY [RUNS]\n", argv[0]);
        return 2;
    }
    DIR *directory = opendir(argv[1]);
    if (!directory) {
        perror(argv[1]);
        return 1;
    }
    static uint8_t inputs[256][INPUT_BYTES_MAX], data[INPUT_BYTES_MAX];
    static uint32_t sizes[256];
    uint32_t count = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL && count < 256;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file) continue;
        sizes[count] = (uint32_t)fread(inputs[count], 1, INPUT_BYTES_MAX, file);
        fclose(file);
        LLVMFuzzerTestOneInput(inputs[count], sizes[count]);
        if (sizes[count] > 2) count++;
    }
    closedir(directory);
    CN_ASSERT(count > 0);                    // else nothing was tried
    test_rng rng = test_rng_open("fuzz_tcp");
    for (long runs = argc > 2 ? atol(argv[2]) : 1000; runs > 0; runs--) {
        const uint32_t i = test_rng_below(&rng, count);
        uint32_t size = sizes[i];
        memcpy(data, inputs[i], size);
        mutate(&rng, data, &size);
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%u inputs and mutations of them: no fault\n", count);
    return 0;
}
#endif
