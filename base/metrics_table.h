/* base/metrics_table.h: what Cairn counts: one line per series, and whoever counts adds it here.
 * A field of cn_metrics, its place in every form of /metrics and in `cairn metrics --list` follow from
 * the line. `promtool check metrics` must accept the name: base units, `_total` at the end of counters
 * and of nothing else. Lines of one name stand together and have one kind and one help. Labels are
 * constants, so the set of series is fixed, whatever clients send.
 *
 *   counter     only grows                counter_ns  the same, of nanoseconds, shown as seconds
 *   gauge       goes up and down          gauge_ns    the same, of nanoseconds, shown as seconds
 *
 * A histogram has one writer, and one of the sets of edges below: a value counts where it is at most the
 * edge, exactly.
 *
 * Threads: none.
 * Memory:  none: data for the preprocessor. */
#pragma once

/*  id                    kind     name                                    labels             help */
#define CN_METRICS(X)                                                                              \
    X(http_2xx,             counter, "cairn_http_requests_total",          "code=\"2xx\"",    "Requests answered, by class of status.") \
    X(http_4xx,             counter, "cairn_http_requests_total",          "code=\"4xx\"",    "Requests answered, by class of status.") \
    X(http_5xx,             counter, "cairn_http_requests_total",          "code=\"5xx\"",    "Requests answered, by class of status.") \
    X(connections,          gauge,   "cairn_connections",                  "",                "Open client connections.") \
    X(connections_total,    counter, "cairn_connections_opened_total",     "",                "Connections accepted.") \
    X(slow_readers,         counter, "cairn_connections_dropped_total",    "reason=\"slow_reader\"", "Connections that Cairn ended.") \
    X(timeouts,             counter, "cairn_connections_dropped_total",    "reason=\"timeout\"", "Connections that Cairn ended.") \
    X(malformed,            counter, "cairn_connections_dropped_total",    "reason=\"malformed\"", "Connections that Cairn ended.") \
    X(port_rx_frames,       counter, "cairn_port_frames_total",            "direction=\"received\"", "Frames of the DPDK port.") \
    X(port_tx_frames,       counter, "cairn_port_frames_total",            "direction=\"sent\"", "Frames of the DPDK port.") \
    X(port_rx_bytes,        counter, "cairn_port_bytes_total",             "direction=\"received\"", "Bytes of those frames.") \
    X(port_tx_bytes,        counter, "cairn_port_bytes_total",             "direction=\"sent\"", "Bytes of those frames.") \
    X(port_rx_missed,       counter, "cairn_port_dropped_frames_total",    "reason=\"no_descriptor\"", "Frames that the port lost.") \
    X(port_rx_no_frame,     counter, "cairn_port_dropped_frames_total",    "reason=\"no_buffer\"", "Frames that the port lost.") \
    X(port_tx_full,         counter, "cairn_port_dropped_frames_total",    "reason=\"send_full\"", "Frames that the port lost.") \
    X(port_frames_all,       gauge,   "cairn_port_buffers",                  "state=\"all\"",  "Buffers for frames of the DPDK port.") \
    X(port_frames_free,      gauge,   "cairn_port_buffers",                  "state=\"free\"", "Buffers for frames of the DPDK port.") \
    X(port_link_up,         gauge,   "cairn_port_link_up",                 "",                "1 while the DPDK port has a link.") \
    X(port_gone,            gauge,   "cairn_port_gone",                    "",                "1 while the device of the DPDK port is not there.") \
    X(tcp_rexmits,           counter, "cairn_tcp_events_total",              "event=\"sent_again\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_dropped,           counter, "cairn_tcp_events_total",              "event=\"dropped\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_refused,           counter, "cairn_tcp_events_total",              "event=\"not_sent\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_syns_dropped,      counter, "cairn_tcp_events_total",              "event=\"syn_dropped\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_challenges,        counter, "cairn_tcp_events_total",              "event=\"challenged\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_early,             counter, "cairn_tcp_events_total",              "event=\"came_early\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_unkept,            counter, "cairn_tcp_events_total",              "event=\"came_early_not_kept\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_needless,          counter, "cairn_tcp_events_total",              "event=\"sent_again_needlessly\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_timeouts,          counter, "cairn_tcp_events_total",              "event=\"timed_out\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_probes,            counter, "cairn_tcp_events_total",              "event=\"tail_probed\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_recoveries,        counter, "cairn_tcp_events_total",              "event=\"loss_found\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_resets_sent,       counter, "cairn_tcp_events_total",              "event=\"reset_sent\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_resets_taken,      counter, "cairn_tcp_events_total",              "event=\"reset_received\"", "Segments and frames that TCP of the data plane treated apart.") \
    X(tcp_half_open,         gauge,   "cairn_tcp_connections",               "state=\"half_open\"", "Connections of the data plane that are not open yet, or not forgotten yet.") \
    X(tcp_time_waiting,      gauge,   "cairn_tcp_connections",               "state=\"time_wait\"", "Connections of the data plane that are not open yet, or not forgotten yet.") \
    X(capture_dropped,      counter, "cairn_capture_dropped_frames_total", "",                "Frames that a slow `cairn capture` missed.") \
    X(trace_lost,           counter, "cairn_trace_records_lost_total",     "",                "Ended requests that the operator page and the trace file missed.") \
    X(requests,              gauge,   "cairn_requests",                      "",               "Requests that the api has and that are not answered to the end.") \
    X(ring_requests,         counter, "cairn_ring_full_total",               "ring=\"requests\"", "Times that something waited because the ring to the next thread was full.") \
    X(ring_answers,          counter, "cairn_ring_full_total",               "ring=\"answers\"", "Times that something waited because the ring to the next thread was full.") \
    X(ring_events,           counter, "cairn_ring_full_total",               "ring=\"events\"", "Times that something waited because the ring to the next thread was full.") \
    X(limit_connections,     gauge,   "cairn_limit",                         "resource=\"connections\"", "How many there may be of what has a limit.") \
    X(limit_queue,           gauge,   "cairn_limit",                         "resource=\"waiting\"", "How many there may be of what has a limit.") \
    X(limit_sequences,       gauge,   "cairn_limit",                         "resource=\"running\"", "How many there may be of what has a limit.") \
    X(received_bytes,       counter, "cairn_received_bytes_total",         "",                "Bytes read from clients.") \
    X(sent_bytes,           counter, "cairn_sent_bytes_total",             "",                "Bytes written to clients.") \
    X(sequences_running,    gauge,   "cairn_sequences_running",            "",                "Sequences in the batch.") \
    X(sequences_waiting,    gauge,   "cairn_sequences_waiting",            "",                "Sequences that wait for a place in the batch.") \
    X(sequences_finished,   counter, "cairn_sequences_finished_total",     "reason=\"stop\"",   "Sequences that ended, by reason.") \
    X(sequences_length,     counter, "cairn_sequences_finished_total",     "reason=\"length\"", "Sequences that ended, by reason.") \
    X(sequences_cancelled,  counter, "cairn_sequences_finished_total",     "reason=\"cancelled\"", "Sequences that ended, by reason.") \
    X(sequences_failed,     counter, "cairn_sequences_finished_total",     "reason=\"error\"",  "Sequences that ended, by reason.") \
    X(sequences_refused,    counter, "cairn_sequences_refused_total",      "",                "Sequences refused because the queue was full.") \
    X(preemptions,          counter, "cairn_preemptions_total",            "",                "Times a running sequence gave its pages to another.") \
    X(prompt_tokens,        counter, "cairn_prompt_tokens_total",          "",                "Prompt tokens of started sequences.") \
    X(cached_tokens,        counter, "cairn_cached_tokens_total",          "tier=\"device\"", "Prompt tokens that were not computed because their pages were there.") \
    X(cached_host_tokens,   counter, "cairn_cached_tokens_total",          "tier=\"host\"",   "Prompt tokens that were not computed because their pages were there.") \
    X(cached_store_tokens,  counter, "cairn_cached_tokens_total",          "tier=\"redis\"",  "Prompt tokens that were not computed because their pages were there.") \
    X(resumed_device,        counter, "cairn_turns_resumed_total",           "tier=\"device\"", "Turns that went on from stored ones, by the slowest tier that their history came from.") \
    X(resumed_host,          counter, "cairn_turns_resumed_total",           "tier=\"host\"",  "Turns that went on from stored ones, by the slowest tier that their history came from.") \
    X(resumed_store,         counter, "cairn_turns_resumed_total",           "tier=\"redis\"", "Turns that went on from stored ones, by the slowest tier that their history came from.") \
    X(resumed_computed,      counter, "cairn_turns_resumed_total",           "tier=\"none\"",  "Turns that went on from stored ones, by the slowest tier that their history came from.") \
    X(resumed_tokens_device, counter, "cairn_resumed_tokens_total",          "tier=\"device\"", "Prompt tokens of those turns, by where their pages came from.") \
    X(resumed_tokens_host,   counter, "cairn_resumed_tokens_total",          "tier=\"host\"",  "Prompt tokens of those turns, by where their pages came from.") \
    X(resumed_tokens_store,  counter, "cairn_resumed_tokens_total",          "tier=\"redis\"", "Prompt tokens of those turns, by where their pages came from.") \
    X(resumed_tokens_computed, counter, "cairn_resumed_tokens_total",          "tier=\"none\"",  "Prompt tokens of those turns, by where their pages came from.") \
    X(turns_stored,          counter, "cairn_turns_stored_total",            "result=\"stored\"", "Turns that were to be stored, by how it ended.") \
    X(turns_conflict,        counter, "cairn_turns_stored_total",            "result=\"conflict\"", "Turns that were to be stored, by how it ended.") \
    X(turns_failed,          counter, "cairn_turns_stored_total",            "result=\"failed\"", "Turns that were to be stored, by how it ended.") \
    X(generated_tokens,     counter, "cairn_generated_tokens_total",       "",                "Tokens sampled and delivered.") \
    X(steps,                counter, "cairn_steps_total",                  "",                "Steps that the device has done.") \
    X(step_tokens,          counter, "cairn_step_tokens_total",            "",                "Tokens computed in steps, prompts and answers.") \
    X(device_busy_ns,       counter_ns, "cairn_device_busy_seconds_total", "",                "Time that the device spent in steps.") \
    X(pages,                gauge,   "cairn_pages",                        "state=\"all\"",   "KV pages of the device, by state.") \
    X(pages_held,           gauge,   "cairn_pages",                        "state=\"held\"",  "KV pages of the device, by state.") \
    X(pages_idle,           gauge,   "cairn_pages",                        "state=\"idle\"",  "KV pages of the device, by state.") \
    X(page_evictions,       counter, "cairn_page_evictions_total",         "",                "Idle pages that lost their content.") \
    X(host_pages,           gauge,   "cairn_host_pages",                   "state=\"all\"",   "Room for KV pages in host memory, and what is used of it.") \
    X(host_pages_used,      gauge,   "cairn_host_pages",                   "state=\"used\"",  "Room for KV pages in host memory, and what is used of it.") \
    X(host_read_bytes,      counter, "cairn_page_bytes_total",             "tier=\"host\",direction=\"restored\"", "Bytes of KV pages restored towards the device, and written behind.") \
    X(host_written_bytes,   counter, "cairn_page_bytes_total",             "tier=\"host\",direction=\"written\"", "Bytes of KV pages restored towards the device, and written behind.") \
    X(store_read_bytes,     counter, "cairn_page_bytes_total",             "tier=\"redis\",direction=\"restored\"", "Bytes of KV pages restored towards the device, and written behind.") \
    X(store_written_bytes,  counter, "cairn_page_bytes_total",             "tier=\"redis\",direction=\"written\"", "Bytes of KV pages restored towards the device, and written behind.") \
    X(write_behind_pages,   gauge,   "cairn_write_behind_pages",           "",                "Sealed pages that wait to be written behind.") \
    X(write_behind_oldest_ns, gauge_ns, "cairn_write_behind_oldest_seconds",   "",               "How long the oldest page that waits to be written behind has waited.") \
    X(write_behind_lost,    counter, "cairn_write_behind_lost_total",      "",                "Sealed pages that were not written behind, for want of time, room or a store.") \
    X(restores_whole,       counter, "cairn_restores_total",               "end=\"whole\"",   "Sequences whose missing pages were looked for, by how it ended.") \
    X(restores_short,       counter, "cairn_restores_total",               "end=\"short\"",   "Sequences whose missing pages were looked for, by how it ended.") \
    X(restores_late,        counter, "cairn_restores_total",               "end=\"late\"",    "Sequences whose missing pages were looked for, by how it ended.") \
    X(restores_computed,    counter, "cairn_restores_total",               "end=\"computing_is_faster\"", "Sequences whose missing pages were looked for, by how it ended.") \
    X(host_rate,            gauge,   "cairn_restore_bytes_per_second",     "tier=\"host\"",   "Measured speed of a tier.") \
    X(store_rate,           gauge,   "cairn_restore_bytes_per_second",     "tier=\"redis\"",  "Measured speed of a tier.") \
    X(compute_rate,         gauge,   "cairn_prefill_tokens_per_second",    "",                "Measured speed of computing prompts.") \
    X(store_configured,      gauge,   "cairn_store_configured",              "",               "1 if turns can be stored.") \
    X(store_log_up,         gauge,   "cairn_store_up",                     "role=\"log\"",    "Whether the servers of this role answer.") \
    X(store_pages_up,       gauge,   "cairn_store_up",                     "role=\"pages\"",  "Whether the servers of this role answer.") \
    X(store_reconnects,     counter, "cairn_store_reconnects_total",       "",                "Connections to Redis that broke.") \
    X(store_pending,         gauge,   "cairn_store_pending_operations",      "",               "Operations that the log has and has not answered.") \
    X(store_failed,         counter, "cairn_store_failed_total",           "",                "Operations on the log that were not done in time.") \
    X(store_full,           counter, "cairn_store_full_total",             "",                "Writes that the log refused because it is full.") \
    X(turns_withdrawn,      counter, "cairn_turns_withdrawn_total",        "",                "Turns that were stored too late for the head of their conversation, and taken back.") \
    X(store_pages_written,  counter, "cairn_store_pages_total",            "result=\"written\"", "KV pages sent to Redis or asked of it.") \
    X(store_pages_read,     counter, "cairn_store_pages_total",            "result=\"read\"", "KV pages sent to Redis or asked of it.") \
    X(store_pages_absent,   counter, "cairn_store_pages_total",            "result=\"absent\"", "KV pages sent to Redis or asked of it.") \
    X(store_pages_corrupt,  counter, "cairn_store_pages_total",            "result=\"corrupt\"", "KV pages sent to Redis or asked of it.") \
    X(store_pages_failed,   counter, "cairn_store_pages_total",            "result=\"failed\"", "KV pages sent to Redis or asked of it.")

/* Upper edges of histograms. Of times they are microseconds, and values nanoseconds; what is shown is
 * seconds. They hold the limits that services promise (MLPerf: 450, 500, 2000, 3000, 4500 and 6000 ms
 * to the first token; 15, 30, 40, 80, 100, 175 and 200 ms for each), so that the share of what kept them
 * is a count and no estimate, and all edges of vLLM's histograms of the same meaning.
 *
 *   set          value / shown   edge / value   edges */
#define CN_METRICS_EDGES(X)                                                                        \
    X(first_token, 1e9, 1000, 1000, 2000, 5000, 10000, 20000, 40000, 60000, 80000, 100000, 150000,     \
      200000, 250000, 300000, 400000, 450000, 500000, 600000, 750000, 800000, 1000000, 1500000,    \
      2000000, 2500000, 3000000, 4000000, 4500000, 5000000, 6000000, 7500000, 10000000, 20000000,  \
      40000000, 80000000, 160000000, 640000000, 2560000000)                                        \
    X(each_token, 1e9, 1000, 500, 1000, 2000, 4000, 5000, 6000, 8000, 10000, 15000, 20000, 25000, 30000,   \
      35000, 40000, 50000, 60000, 75000, 80000, 100000, 150000, 175000, 200000, 300000, 400000,    \
      500000, 750000, 1000000, 2500000, 5000000, 7500000, 10000000, 20000000, 40000000, 80000000)  \
    X(request, 1e9, 1000, 1000, 5000, 10000, 50000, 100000, 200000, 300000, 500000, 800000, 1000000,   \
      1500000, 2000000, 2500000, 5000000, 10000000, 15000000, 20000000, 30000000, 40000000,        \
      50000000, 60000000, 120000000, 240000000, 480000000, 960000000, 1920000000, 7680000000)      \
    X(work, 1e9, 1000, 100, 250, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000,   \
      1000000, 2000000, 5000000, 10000000, 30000000)                                               \
    X(age, 1e9, 1000000000, 1, 10, 60, 300, 1800, 3600, 21600, 86400, 604800, 2592000)            \
    X(tokens, 1, 1, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000,    \
      200000)

/*  id              edges        name                                 labels  writer    help */
#define CN_HISTOGRAMS(X)                                                                           \
    X(first_token_ns,   first_token, "cairn_time_to_first_token_seconds",    "", "api",    "From the whole request to its first token.") \
    X(inter_token_ns,   each_token,  "cairn_inter_token_seconds",            "", "engine", "Between two tokens of a sequence.") \
    X(token_mean_ns,    each_token,  "cairn_time_per_output_token_seconds",  "", "api",    "Mean time between the tokens of an answer.") \
    X(request_ns,       request,     "cairn_request_seconds",                "", "api",    "From the whole request to its last byte.") \
    X(generation_ns,    request,     "cairn_generation_seconds",             "", "api",    "The same, of requests that generate.") \
    X(phase_prepare_ns, request,     "cairn_generation_phase_seconds", "phase=\"prepare\"", "api", "What the time of requests that generate went into.") \
    X(phase_queue_ns,   request,     "cairn_generation_phase_seconds", "phase=\"queue\"",   "api", "What the time of requests that generate went into.") \
    X(phase_restore_ns, request,     "cairn_generation_phase_seconds", "phase=\"restore\"", "api", "What the time of requests that generate went into.") \
    X(phase_prefill_ns, request,     "cairn_generation_phase_seconds", "phase=\"prefill\"", "api", "What the time of requests that generate went into.") \
    X(phase_decode_ns,  request,     "cairn_generation_phase_seconds", "phase=\"decode\"",  "api", "What the time of requests that generate went into.") \
    X(phase_write_ns,   request,     "cairn_generation_phase_seconds", "phase=\"write\"",   "api", "What the time of requests that generate went into.") \
    X(phase_network_ns, request,     "cairn_generation_phase_seconds", "phase=\"network\"", "api", "What the time of requests that generate went into.") \
    X(prompt_size,      tokens,      "cairn_generation_prompt_tokens",       "", "api",    "Prompt tokens of a request that generates.") \
    X(answer_size,      tokens,      "cairn_generation_answer_tokens",       "", "api",    "Tokens generated for a request.") \
    X(queue_ns,         request,     "cairn_queue_seconds",                  "", "engine", "From submission to the first place in the batch.") \
    X(step_ns,          work,        "cairn_step_seconds",                   "", "engine", "Device time of one step.") \
    X(step_size,        tokens,      "cairn_step_batch_tokens",              "", "engine", "Tokens computed in one step.") \
    X(restore_ns,       work,        "cairn_restore_seconds",                "", "engine", "From looking for a sequence's pages to the last one that came.") \
    X(resumed_age_ns,   age,         "cairn_resumed_idle_seconds",           "", "api",    "How long a conversation had been idle when its next turn came.") \
    X(store_write_ns,   work,        "cairn_store_write_seconds",            "", "state",  "From submission of a write to its durable acknowledgement.")
