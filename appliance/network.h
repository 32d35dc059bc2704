/* appliance/network.h: the server's own network port (`transport: dpdk`), from settings to a transport.
 *
 * Threads: main.
 * Memory:  owns the port and its capture until close. */
#pragma once

#include "appliance/config.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/random.h"
#include "dataplane/nic_dpdk.h"
#include "dataplane/transport.h"

typedef struct cn_network cn_network;

typedef struct cn_network_options {
    const cn_config_settings *settings;
    cn_clock clock;
    cn_random random;
    const cn_log *log;
    cn_metrics *metrics;
} cn_network_options;                        // all borrowed until close

/* Whether transport and dpdk.* make sense together. Errors: CN_E_INVALID. */
cn_code cn_network_check(const cn_config_settings *settings, cn_err *err);

/* What dpdk.* says about the port. Settings must have been checked. */
cn_nic_dpdk_options cn_network_port(const cn_config_settings *settings);

/* Path of the socket of `cairn capture`, in run_directory. */
void cn_network_capture_path(const cn_config_settings *settings, uint32_t port, char *out,
                             size_t out_bytes);

/* Opens the port, with its capture, and hands it to the transport. With `transport: kernel` opens
 * nothing and *out is NULL. Errors: CN_E_INVALID (also: the interface carries the default route),
 * CN_E_IO, CN_E_MEMORY. */
cn_code cn_network_open(const cn_network_options *options, cn_network **out, cn_err *err);
/* After the transport was closed. */
void cn_network_close(cn_network *network);

/* What cn_http_open takes; accepts NULL. */
const cn_transport_ops *cn_network_transport(const cn_network *network);

/* To be called about once a second: copies statistics to the metrics, logs what has changed, and takes a
 * device that had disappeared into use again once it is back.
 * Returns why the port cannot be used now, for cn_api_block; NULL if it can, or there is none. */
const char *cn_network_watch(cn_network *network);
