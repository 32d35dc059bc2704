/* tests/dataplane/nic_driver.c: a DPDK port that answers, for test_nic.py.
 *   nic_driver DEVICE [--mtu N] [--memory-mb N] [--cpu N] [--queues N] [--frames N] [--eal-args TEXT]
 *              [--capture SOCKET] [--spin N] [--fill]
 * Sends every frame of the Ethernet type 0x88b5 back to where it came from; with --fill it also asks
 * the device for TCP checksums and answers IPv4 frames. Prints one JSON line when it is open and one
 * with its statistics for each SIGUSR1 and at the end, after SIGTERM; a device that has gone is looked
 * for before. Errors are one line on stderr and status 1.
 *
 * Threads: one, as the net thread would: bursts, after --spin empty ones (default 100) wait.
 * Memory:  as the port. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/nic_dpdk.h"

static volatile sig_atomic_t ended, asked;
static cn_wake wake;

static void on_signal(int number)
{
    *(number == SIGTERM ? &ended : &asked) = 1;
    cn_wake_signal(&wake);
}

static void print_stats(cn_nic *nic, uint64_t waits)
{
    cn_nic_stats s;
    cn_err err = {0};
    nic->ops->recover(nic, &err);
    nic->ops->stats(nic, &s);
    printf("{\"rx_frames\": %llu, \"rx_bytes\": %llu, \"tx_frames\": %llu, \"tx_bytes\": %llu, "
           "\"rx_missed\": %llu, \"rx_no_frame\": %llu, \"tx_full\": %llu, \"link_up\": %s, "
           "\"gone\": %s, \"waits\": %llu, \"says\": \"%s\"}\n",
           (unsigned long long)s.rx_frames, (unsigned long long)s.rx_bytes,
           (unsigned long long)s.tx_frames, (unsigned long long)s.tx_bytes,
           (unsigned long long)s.rx_missed, (unsigned long long)s.rx_no_frame,
           (unsigned long long)s.tx_full, s.link_up ? "true" : "false", s.gone ? "true" : "false",
           (unsigned long long)waits, err.text);
    fflush(stdout);
}

static void print_info(const cn_nic *nic)
{
    cn_nic_info info;
    nic->ops->info(nic, &info);
    printf("{\"driver\": \"%s\", \"mtu\": %u, \"queues\": %u, \"fills_checksums\": %s, \"mac\": "
           "\"%02x:%02x:%02x:%02x:%02x:%02x\"}\n",
           info.driver, info.mtu, info.queue_count, info.fills_checksums ? "true" : "false",
           info.mac[0], info.mac[1], info.mac[2], info.mac[3], info.mac[4], info.mac[5]);
    fflush(stdout);
}

static bool wants_answer(const cn_frame *frame, bool fill)
{
    const unsigned type = (unsigned)frame->data[12] << 8 | frame->data[13];
    return frame->len >= 14 && (type == 0x88b5 || (fill && type == 0x0800));
}

static void turn_round(cn_frame *frame, bool fill)
{
    uint8_t mac[6];
    memcpy(mac, frame->data, sizeof mac);
    memcpy(frame->data, frame->data + 6, sizeof mac);
    memcpy(frame->data + 6, mac, sizeof mac);
    frame->flags = fill ? CN_FRAME_FILL_L4 : 0;
}

static bool answer_burst(cn_nic *nic, uint16_t queue, bool fill)
{
    cn_frame frames[CN_NIC_BURST_MAX], answers[CN_NIC_BURST_MAX];
    const uint32_t got = nic->ops->receive(nic, queue, frames, CN_NIC_BURST_MAX);
    uint32_t count = 0;
    for (uint32_t i = 0; i < got; i++) {
        if (!wants_answer(&frames[i], fill)) {
            nic->ops->free(nic, &frames[i]);
            continue;
        }
        turn_round(&frames[i], fill);
        answers[count++] = frames[i];
    }
    if (count) nic->ops->send(nic, queue, answers, count);
    return got > 0;
}

static void serve(cn_nic *nic, uint16_t queue_count, uint32_t spin, bool fill)
{
    uint64_t waits = 0;
    uint32_t empty = 0;
    while (!ended) {
        bool worked = false;
        for (uint16_t q = 0; q < queue_count; q++) worked |= answer_burst(nic, q, fill);
        empty = worked ? 0 : empty + 1;
        if (asked) {
            asked = 0;
            print_stats(nic, waits);
        }
        if (empty <= spin) continue;
        cn_wake_prepare(&wake);
        if (ended || asked) {
            cn_wake_cancel(&wake);
            continue;
        }
        nic->ops->wait(nic, 0, &wake, 1000000000);
        waits++;
    }
    print_stats(nic, waits);
}

int main(int argc, char **argv)
{
    cn_nic_dpdk_options options = {.device = argc > 1 ? argv[1] : "", .cpu = -1};
    uint32_t spin = 100;
    bool fill = false;
    cn_err err;
    cn_nic *nic;
    for (int i = 2; i < argc; i++) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(flag, "--fill") == 0) {
            fill = true;
            continue;
        }
        i++;
        if (strcmp(flag, "--mtu") == 0) options.mtu = (uint16_t)atoi(value);
        else if (strcmp(flag, "--memory-mb") == 0) options.memory_mb = (uint32_t)atoi(value);
        else if (strcmp(flag, "--cpu") == 0) options.cpu = atoi(value);
        else if (strcmp(flag, "--queues") == 0) options.queue_count = (uint16_t)atoi(value);
        else if (strcmp(flag, "--frames") == 0) options.frame_count = (uint32_t)atoi(value);
        else if (strcmp(flag, "--eal-args") == 0) options.eal_args = value;
        else if (strcmp(flag, "--spin") == 0) spin = (uint32_t)atoi(value);
        else if (strcmp(flag, "--huge") == 0) options.memory = CN_NIC_MEMORY_HUGE;
        else return 2;
    }
    if (cn_wake_open(&wake, &err) || cn_nic_dpdk_open(&options, &nic, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    print_info(nic);
    serve(nic, options.queue_count ? options.queue_count : 1, spin, fill);
    nic->ops->close(nic);
    cn_wake_close(&wake);
    return 0;
}
