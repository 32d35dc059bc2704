#include "model/tokenizer_work_int.h"

#include <string.h>

cn_code cn_tokenizer_work_memory(const cn_tokenizer_work *work)
{
    return cn_err_set(work->err, CN_E_MEMORY, "no memory left to encode the text: its arena holds "
                      "%llu of at most %llu bytes", (unsigned long long)work->arena->total_bytes,
                      (unsigned long long)work->arena->bytes_max);
}

static cn_code grow(cn_tokenizer_work *work, uint32_t need)
{
    const uint64_t doubled = (uint64_t)work->capacity * 2;
    const uint64_t capacity = doubled > need ? doubled : need < 64 ? 64 : need;
    int32_t *ids = NULL;
    if (capacity <= UINT32_MAX) ids = cn_arena_take(work->arena, capacity * sizeof *ids);
    if (!ids) return cn_tokenizer_work_memory(work);
    if (work->count) memcpy(ids, work->ids, work->count * sizeof *ids);
    work->ids = ids;
    work->capacity = (uint32_t)capacity;
    return CN_OK;
}

cn_code cn_tokenizer_work_add(cn_tokenizer_work *work, const int32_t *ids, uint32_t count)
{
    if (count == 0) return CN_OK;
    if (count > work->tokens_max - work->count) {
        return cn_err_set(work->err, CN_E_LIMIT, "the text has more than %u tokens",
                          work->tokens_max);
    }
    if (count > work->capacity - work->count) {
        const cn_code code = grow(work, work->count + count);
        if (code != CN_OK) return code;
    }
    memcpy(work->ids + work->count, ids, count * sizeof *ids);
    work->count += count;
    return CN_OK;
}
