#include "dataplane/nic_capture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dataplane/nic_sim.h"
#include "tests/unit/cmocka_all.h"

enum { POOL = 64, MTU = 1500, HEAD_BYTES = 24, RECORD_BYTES = 16 };

typedef struct wire {
    char path[64];
    cn_nic *a, *b;                           // b is watched
} wire;

static void wire_open(wire *w)
{
    cn_err err;
    snprintf(w->path, sizeof w->path, "/tmp/cairn-capture-%d.sock", (int)getpid());
    const cn_nic_sim_options sim = {cn_clock_system(), 0, POOL, MTU};
    assert_int_equal(cn_nic_sim_open(&sim, &w->a, &w->b, &err), CN_OK);
    const cn_nic_capture_options options = {w->b, w->path, sim.clock};
    assert_int_equal(cn_nic_capture_open(&options, &w->b, &err), CN_OK);
}

static void wire_close(wire *w)
{
    w->a->ops->close(w->a);
    w->b->ops->close(w->b);
    assert_int_equal(access(w->path, F_OK), -1);
}

static int reader_open(const wire *w)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", w->path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void read_all(int fd, void *out, size_t len)
{
    assert_int_equal(recv(fd, out, len, MSG_WAITALL), len);
}

static void read_head(int fd)
{
    uint32_t head[HEAD_BYTES / 4];
    read_all(fd, head, sizeof head);
    assert_int_equal(head[0], 0xa1b23c4d);
    assert_int_equal(head[1], 2 | 4 << 16);
    assert_int_equal(head[4], MTU + 18);
    assert_int_equal(head[5], 1);
}

// Reads one record; true and its length and first four bytes, or false and the trailer's count.
static bool read_record(int fd, uint32_t *len, uint32_t *number)
{
    uint32_t record[RECORD_BYTES / 4];
    uint8_t data[MTU + 18];
    read_all(fd, record, sizeof record);
    if (record[2] == (uint32_t)CN_NIC_CAPTURE_TRAILER) {
        *number = record[3];
        return false;
    }
    assert_true(record[2] <= sizeof data && record[2] == record[3]);
    assert_true(record[0] > 1700000000 && record[1] < 1000000000);
    read_all(fd, data, record[2]);
    *len = record[2];
    memcpy(number, data, sizeof *number);
    return true;
}

static void wait_for_reader(const wire *w)
{
    cn_nic_capture_counts counts = {0};
    while (!counts.has_reader) cn_nic_capture_counted(w->b, &counts);
}

static void send_number(cn_nic *nic, uint32_t number, uint16_t len)
{
    cn_frame frame;
    assert_true(nic->ops->alloc(nic, 0, &frame));
    memset(frame.data, 0, len);
    memcpy(frame.data, &number, sizeof number);
    frame.len = len;
    nic->ops->send(nic, 0, &frame, 1);
}

static void pass(wire *w, uint32_t number, uint16_t len)     // from a to the watched b
{
    cn_frame frame;
    send_number(w->a, number, len);
    assert_int_equal(w->b->ops->receive(w->b, 0, &frame, 1), 1);
    w->b->ops->free(w->b, &frame);
}

// Both directions, every length to the longest frame, in order, and nothing of before or after.
static void a_reader_gets_what_the_port_sees(void **state)
{
    (void)state;
    wire w;
    uint32_t len, number, expected = 100;
    wire_open(&w);
    pass(&w, 1, 60);                         // nobody watches yet
    const int fd = reader_open(&w);
    wait_for_reader(&w);
    for (uint16_t bytes = 60; bytes <= MTU + 18; bytes += 27) {
        pass(&w, expected++, bytes);
        send_number(w.b, expected++, bytes);
    }
    shutdown(fd, SHUT_WR);
    read_head(fd);
    for (uint32_t i = 100; i < expected; i++) {
        assert_true(read_record(fd, &len, &number));
        assert_int_equal(number, i);
        assert_int_equal(len, 60 + (i - 100) / 2 * 27);
    }
    assert_false(read_record(fd, &len, &number));
    assert_int_equal(number, 0);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    wire_close(&w);
}

// A reader that does not read: the port goes on, what is lost is counted, and the two add up.
static void a_slow_reader_loses_frames(void **state)
{
    enum { SENT = 6000 };
    (void)state;
    wire w;
    uint32_t len, number, last = 0, got = 0;
    cn_nic_capture_counts counts;
    wire_open(&w);
    const int fd = reader_open(&w);
    wait_for_reader(&w);
    for (uint32_t i = 1; i <= SENT; i++) pass(&w, i, MTU);
    cn_nic_capture_counted(w.b, &counts);
    assert_true(counts.dropped > 0);
    assert_int_equal(counts.captured + counts.dropped, SENT);
    shutdown(fd, SHUT_WR);
    read_head(fd);
    while (read_record(fd, &len, &number)) {
        assert_true(number > last);
        last = number;
        got++;
    }
    assert_int_equal(got, counts.captured);
    assert_int_equal(number, counts.dropped);
    close(fd);
    wire_close(&w);
}

// One at a time; the next one starts clean.
static void readers_come_one_after_another(void **state)
{
    (void)state;
    wire w;
    uint32_t len, number;
    char byte;
    wire_open(&w);
    const int fd = reader_open(&w);
    wait_for_reader(&w);
    const int second = reader_open(&w);
    assert_int_equal(recv(second, &byte, 1, 0), 0);
    close(second);
    pass(&w, 1, 60);
    close(fd);                               // without a word, frames unread
    cn_nic_capture_counts counts = {.has_reader = true};
    while (counts.has_reader) cn_nic_capture_counted(w.b, &counts);
    const int third = reader_open(&w);
    wait_for_reader(&w);
    pass(&w, 3, 60);
    shutdown(third, SHUT_WR);
    read_head(third);
    assert_true(read_record(third, &len, &number));
    assert_int_equal(number, 3);
    assert_false(read_record(third, &len, &number));
    close(third);
    wire_close(&w);
}

static void close_does_not_wait_for_a_reader(void **state)
{
    (void)state;
    wire w;
    wire_open(&w);
    const int fd = reader_open(&w);
    wait_for_reader(&w);
    wire_close(&w);                          // hangs if the thread does not hear of it
    close(fd);
}

static void the_socket_is_private_and_owned(void **state)
{
    (void)state;
    wire w;
    cn_err err;
    cn_nic *a, *b, *second;
    struct stat st;
    wire_open(&w);
    assert_int_equal(stat(w.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    const cn_nic_sim_options sim = {cn_clock_system(), 0, POOL, MTU};
    assert_int_equal(cn_nic_sim_open(&sim, &a, &b, &err), CN_OK);
    cn_nic_capture_options options = {a, w.path, sim.clock};
    assert_int_equal(cn_nic_capture_open(&options, &second, &err), CN_E_IO);
    assert_non_null(strstr(err.text, "is served by another process"));
    assert_int_equal(access(w.path, F_OK), 0);       // the first one's is still there
    options = (cn_nic_capture_options){b, "/nonexistent/capture.sock", sim.clock};
    assert_int_equal(cn_nic_capture_open(&options, &second, &err), CN_E_IO);
    assert_string_equal(err.text, "capture: /nonexistent/capture.sock: No such file or directory");
    wire_close(&w);
}

// A socket that a killed process left is replaced; a file that is no socket is not touched.
static void what_lies_at_the_path(void **state)
{
    (void)state;
    wire w;
    cn_err err;
    cn_nic *a, *b, *nic;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/cairn-capture-%d.sock", (int)getpid());
    const int left = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(left, (struct sockaddr *)&address, sizeof address), 0);
    close(left);
    wire_open(&w);
    wire_close(&w);
    FILE *file = fopen(address.sun_path, "w");
    assert_non_null(file);
    fclose(file);
    const cn_nic_sim_options sim = {cn_clock_system(), 0, POOL, MTU};
    assert_int_equal(cn_nic_sim_open(&sim, &a, &b, &err), CN_OK);
    const cn_nic_capture_options options = {a, address.sun_path, sim.clock};
    assert_int_equal(cn_nic_capture_open(&options, &nic, &err), CN_E_IO);
    assert_int_equal(unlink(address.sun_path), 0);
    b->ops->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_gets_what_the_port_sees),
        cmocka_unit_test(a_slow_reader_loses_frames),
        cmocka_unit_test(readers_come_one_after_another),
        cmocka_unit_test(close_does_not_wait_for_a_reader),
        cmocka_unit_test(the_socket_is_private_and_owned),
        cmocka_unit_test(what_lies_at_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
