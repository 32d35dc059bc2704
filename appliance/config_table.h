/* appliance/config_table.h: every configuration key, in one table.
 * Flags (--kv.bytes), environment (CAIRN_KV_BYTES), the YAML file (kv: {bytes: ...}),
 * `cairn config` and deploy/cairn.yaml are made from or checked against these lines; limits.* come
 * from base/limits.h.
 *
 * Threads: constant data.
 * Memory:  none. */
#pragma once

#include "base/limits.h"

/*  key                     member          default  what it is (type TEXT) */
#define CN_CONFIG_TEXTS(X)                                                                         \
    X("model",              model,          "",      "directory of the Hugging Face checkpoint to serve") \
    X("model_name",         model_name,     "",      "name of the model for clients; default: the directory's name") \
    X("listen",             listen,         "127.0.0.1:8000", "address and port for clients; port 0: any free one") \
    X("proxy_protocol.from", proxy_from,    "",      "networks of load balancers, separated by commas: each connection must come from one and begin with a PROXY header; default: none does") \
    X("forwarded.from",     forwarded_from, "",      "networks of proxies whose X-Forwarded-For names the client, in the log; default: none") \
    X("agent.listen",       agent_listen,   "",      "address and port where HAProxy's agent-check is answered; default: none") \
    X("backend",            backend,        "cpu",   "hardware to compute on: cpu; cuda-emu: the kernels of the GPU, emulated and slow") \
    X("cpu.path",           cpu_path,       "",      "instruction set: avx512-bf16, avx512, avx2, portable; default: the best there is") \
    X("numerics",           numerics,       "",      "order of sums where ranks share the model: shard_invariant (the same answers and pages for 1, 2, 4 and 8 ranks) or per_rank; default: what the backend does best") \
    X("api_keys_file",      api_keys_file,  "",      "file of API keys, tenants and their limits (cairn key makes it); without it, and without keys, all clients are served") \
    X("state.store",        state_store,    "private", "where turns and pages are kept: private (servers of its own), redis (state.log, state.pages), or none") \
    X("state.directory",    state_directory, "",     "directory of the private servers; default: cairn in the user's place for state") \
    X("state.durability",   state_durability, "fsync", "what a stored turn outlives once it is acknowledged: memory (nothing), process, fsync (power loss), fsync+replica") \
    X("state.log",          state_log,      "",      "server of turns: HOST:PORT, unix:/PATH, sentinel:NAME@HOST:PORT,... or cluster:HOST:PORT,...") \
    X("state.pages",        state_pages,    "",      "servers of KV pages, separated by commas: HOST:PORT, unix:/PATH; default: pages are not kept") \
    X("state.user",         state_user,     "",      "user for Redis; default: its default user") \
    X("state.password_file", state_password_file, "", "file with the password for Redis; default: none") \
    X("run_directory",      run_directory,  "/run/cairn", "directory for this server's sockets; made if it is not there") \
    X("transport",          transport,      "kernel", "how clients are reached: kernel (the system's sockets) or dpdk (a network port of its own)") \
    X("dpdk.device",        dpdk_device,    "",      "port: a PCI address (0000:81:00.0), or a virtual device (net_af_packet0,iface=eth1)") \
    X("dpdk.address",       dpdk_address,   "",      "its IPv4 address with prefix length: 192.0.2.10/24") \
    X("dpdk.gateway",       dpdk_gateway,   "",      "next hop to other IPv4 networks; default: none is reached") \
    X("dpdk.address6",      dpdk_address6,  "",      "its IPv6 address with prefix length: 2001:db8::10/64; default: the link-local one alone") \
    X("dpdk.gateway6",      dpdk_gateway6,  "",      "next hop to other IPv6 networks; default: none is reached") \
    X("dpdk.vip",           dpdk_vip,       "",      "addresses that are served but never announced (direct server return), separated by commas") \
    X("dpdk.memory",        dpdk_memory,    "auto",  "huge (huge pages), normal (none), or auto: huge if enough are free") \
    X("dpdk.lcore",         dpdk_lcore,     "",      "CPU that the net thread is pinned to; default: none") \
    X("dpdk.eal_args",      dpdk_eal_args,  "",      "more arguments for DPDK's environment layer, separated by spaces") \
    X("admin.listen",       admin_listen,   "",      "address and port for operators: the page, /metrics and the probes, without a key; default: none, and /metrics is where clients are") \
    X("trace.otlp_file",    otlp_file,      "",      "file for traces of requests, as lines of OTLP/JSON; -: the log; default: none") \
    X("log.level",          log_level,      "info",  "events that are logged: debug, info, warn, error, off")

/*  key                     member          default     min      max            what it is (type NUMBER) */
#define CN_CONFIG_NUMBERS(X)                                                                       \
    X("cpu.threads",        cpu_threads,          0,      0,            256, "threads that compute; 0: one per core") \
    X("devices.tensor_parallel", tensor_parallel, 1,  1,              8, "ranks that share the model and its pages as one device: 1, 2, 4 or 8") \
    X("kv.bytes",           kv_bytes,             0,      0, 1099511627776, "memory for KV pages; 0: what engine.sequences contexts need, at most a quarter of the memory and 1 GiB") \
    X("kv.host_bytes",      kv_host_bytes,        0,      0, 1099511627776, "host memory for pages that left the device; 0: none beside what is on the way to the store, which is right where device and host memory are the same") \
    X("kv.tenant_percent",  kv_tenant_percent,   50,      1,            100, "of kv.host_bytes, that one tenant keeps when others want it") \
    X("engine.sequences",   sequences,           64,      1,           4096, "sequences in the batch at once") \
    X("engine.step_tokens", step_tokens,        256,     17,          65536, "tokens computed in one step, of all sequences together") \
    X("engine.context_tokens", context_tokens,    0,      0,        1048576, "context window, prompt and answer together; 0: the model's") \
    X("state.database",     state_database,       0,      0,          65535, "database of the Redis servers") \
    X("state.connections",  state_connections,   12,      1,             64, "connections to each server of turns; more let more turns share a disk sync") \
    X("state.timeout_ms",   state_timeout_ms,  2000,     10,          60000, "a server of turns that says nothing for so long is given up") \
    X("state.page_timeout_ms", state_page_timeout_ms, 100, 1,         60000, "a server of pages that says nothing for so long, and 2 ns per byte, is given up") \
    X("state.log_bytes",    state_log_bytes,      0,      0, 1099511627776, "memory of the private server of turns; 0: a 64th of the memory") \
    X("state.page_bytes",   state_page_bytes,     0,      0, 1099511627776, "memory of the private server of pages; 0: an eighth of the memory") \
    X("state.life_days",    state_life_days,     30,      0,          36500, "days that turns and conversations are kept after their last use; 0: for ever") \
    X("state.cache_bytes",  state_cache_bytes, 67108864,  0, 1099511627776, "memory for turns that were read lately, for the next history; 0: none") \
    X("dpdk.vlan",          dpdk_vlan,            0,      0,           4094, "VLAN that the port is in; 0: untagged") \
    X("dpdk.mtu",           dpdk_mtu,          1500,    576,           9600, "bytes of a packet; above 1500 every switch on the way must agree") \
    X("dpdk.memory_mb",     dpdk_memory_mb,       0,      0,          65536, "memory for frames in MiB; 0: what the port needs") \
    X("trace.otlp_bytes",   otlp_bytes,    67108864, 65536, 1099511627776, "size at which trace.otlp_file is renamed to NAME.1 and begun anew") \
    X("drain.seconds",      drain_seconds,       30,      0,          86400, "time that running answers get after SIGTERM") \
    X("drain.notice_ms",    drain_notice_ms,      0,      0,         600000, "time of it in which new requests are still served, for load balancers to notice") \
    X("watchdog.stall_seconds", watchdog_stall_seconds, 30, 1,        86400, "a thread, or a busy device, that stands still for so long makes /livez say so")
