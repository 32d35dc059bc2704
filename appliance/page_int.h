/* appliance/page_int.h: what the sources of the operator page share.
 *   page.c         the static file and its policy
 *   page_value.c   what stands for each name in it: texts and numbers
 *   page_block.c   ... lists, tables and drawings
 *   page_unit.c    numbers with their units, as people read them
 *
 * Threads: any.
 * Memory:  none. */
#pragma once

#include "appliance/page.h"

/* page_value.c: writes what stands for a name of the file; there must be one. */
void cn_page_value_write(const cn_page *page, const char *name, size_t name_len, cn_buf *out);

/* page_block.c */
void cn_page_block_spark(const cn_page *page, cn_buf *out);
void cn_page_block_spark_text(const cn_page *page, cn_buf *out);
void cn_page_block_meter(uint64_t value, uint64_t max, cn_buf *out);
void cn_page_block_map(const cn_page *page, cn_buf *out);
void cn_page_block_resumed(const cn_page *page, cn_buf *out);
void cn_page_block_tiers(const cn_page *page, cn_buf *out);
void cn_page_block_device(const cn_page *page, cn_buf *out);
void cn_page_block_net(const cn_page *page, cn_buf *out);
void cn_page_block_redis(const cn_page *page, cn_buf *out);
void cn_page_block_slow(const cn_page *page, cn_buf *out);
void cn_page_block_config(const cn_page *page, cn_buf *out);

/* page_unit.c: each appends. */
void cn_page_unit_text(const char *text, cn_buf *out);           // escaped for HTML
void cn_page_unit_count(uint64_t value, cn_buf *out);            // 12,345
void cn_page_unit_rate(double value, cn_buf *out);               // 0, 0.42, 3.7, 128, 4,096
void cn_page_unit_time(uint64_t ns, cn_buf *out); // 412 µs, 1.24 ms, 3.5 s, 2 min 5 s
void cn_page_unit_bytes(double bytes, cn_buf *out);              // 1.5 GiB
void cn_page_unit_span(uint64_t seconds, cn_buf *out);           // 3 d 4 h, 12 min
