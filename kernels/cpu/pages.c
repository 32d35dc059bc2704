#include "kernels/cpu/cpu_int.h"

#include <string.h>

/* How it works. A page as others see it has K and V of every layer, each of all KV heads:
 *
 *    layer 0 K │head 0│head 1│head 2│head 3│  layer 0 V │head 0│ ...     a head: 16 tokens
 *    rank 1           └──its part───┘                 └─ ...
 *
 * A rank keeps its stretches one after another. So a page reads the same whatever the number of ranks,
 * and what one group wrote another group of any size can read. */

static void move_part(cn_cpu_rank *rank, const cn_page_io *io)
{
    const cn_cpu *cpu = rank->cpu;
    const uint64_t stretches = 2ull * cpu->spec.layer_count;
    const uint64_t bytes = rank->page_bytes / stretches, stride = cpu->page_bytes / stretches;
    const uint64_t offset = bytes / rank->shard.kv_heads.count * rank->shard.kv_heads.begin;
    unsigned char *page = rank->pages + io->page.v * rank->page_bytes;
    unsigned char *host = (unsigned char *)io->host + offset;
    if (io->kind == CN_PAGE_READ && !rank->shard.first_holder) return;
    for (uint64_t i = 0; i < stretches; i++) {
        if (io->kind == CN_PAGE_READ) memcpy(host + i * stride, page + i * bytes, bytes);
        else memcpy(page + i * bytes, host + i * stride, bytes);
    }
}

void cn_pages_move(cn_cpu *cpu)
{
    for (uint32_t i = 0; i < cpu->io_count; i++) {
        for (uint32_t r = 0; r < cpu->rank_count; r++) move_part(&cpu->ranks[r], &cpu->io[i]);
    }
}
