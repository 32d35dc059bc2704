/* tests/tokenizer/tokenizer_driver.c: the tokenizer on pipes, for comparisons from Python.
 * A request is kind (1 byte), flags (1 byte), length (u32, this machine's order) and payload; an
 * answer is status (1 byte), length and payload. Status 0 is success, else the payload is the error.
 *
 *    'O'  payload: directory               opens its tokenizer in place of the last one
 *    'E'  payload: text                    ids (i32); flags: 1 add_special_tokens, 2 split_special
 *    'D'  payload: ids (i32)               their text; flags: 1 skip_special
 *    'S'  payload: ids (i32)               the streamed pieces, each as u32 length and bytes
 *    'B'  payload: id (i32)                the bytes of one token
 *    'T'  payload: text; flags as 'E'      processor time (u64, ns) of one encode and its
 *                                          token count (u64) */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/detokenizer.h"
#include "model/tokenizer.h"

typedef struct driver {
    cn_tokenizer *tokenizer;
    cn_arena arena;
    cn_buf out;
    cn_err err;
} driver;

static uint64_t used_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static cn_code encode(driver *d, int flags, const char *text, size_t len, cn_token_list *list)
{
    const cn_encode_options options = {.add_special_tokens = flags & 1, .split_special = flags & 2};
    cn_arena_reset(&d->arena);
    return cn_tokenizer_encode(d->tokenizer, text, len, &options, &d->arena, list, &d->err);
}

static void add_piece(driver *d, const cn_buf *piece)
{
    const uint32_t len = (uint32_t)piece->len;
    cn_buf_add(&d->out, &len, sizeof len);
    cn_buf_add(&d->out, piece->data, piece->len);
}

static void stream(driver *d, int flags, const int32_t *ids, size_t count)
{
    cn_detokenizer detokenizer;
    cn_buf piece;
    cn_buf_init(&piece, 1 << 24);
    cn_detokenizer_init(&detokenizer, d->tokenizer, flags & 1);
    for (size_t i = 0; i <= count; i++) {
        cn_buf_clear(&piece);
        if (i < count) cn_detokenizer_push(&detokenizer, ids[i], &piece);
        else cn_detokenizer_finish(&detokenizer, &piece);
        add_piece(d, &piece);
    }
    cn_buf_close(&piece);
}

static cn_code answer(driver *d, int kind, int flags, const char *payload, size_t len)
{
    cn_token_list list;
    const int32_t *ids = (const int32_t *)(const void *)payload;
    const size_t count = len / sizeof *ids;
    if (kind == 'O') {
        cn_tokenizer_close(d->tokenizer);
        return cn_tokenizer_open(payload, &d->tokenizer, &d->err);
    }
    if (!d->tokenizer) return cn_err_set(&d->err, CN_E_INVALID, "no tokenizer is open");
    if (kind == 'E') {
        const cn_code code = encode(d, flags, payload, len, &list);
        if (code == CN_OK) cn_buf_add(&d->out, list.ids, list.count * sizeof *list.ids);
        return code;
    }
    if (kind == 'T') {
        const uint64_t start = used_ns();
        const cn_code code = encode(d, flags, payload, len, &list);
        const uint64_t pair[2] = {used_ns() - start, list.count};
        cn_buf_add(&d->out, pair, sizeof pair);
        return code;
    }
    if (kind == 'D') cn_tokenizer_decode(d->tokenizer, ids, (uint32_t)count, flags & 1, &d->out);
    else if (kind == 'S') stream(d, flags, ids, count);
    else if (kind == 'B' && count == 1) cn_detokenizer_bytes(d->tokenizer, ids[0], &d->out);
    else return cn_err_set(&d->err, CN_E_INVALID, "kind %d; must be one of O E T D S B", kind);
    return CN_OK;
}

static int read_all(void *data, size_t len) { return fread(data, 1, len, stdin) == len; }

static void reply(driver *d, cn_code code)
{
    const uint8_t status = code != CN_OK;
    const uint32_t len = status ? (uint32_t)strlen(d->err.text) : (uint32_t)d->out.len;
    fwrite(&status, 1, 1, stdout);
    fwrite(&len, sizeof len, 1, stdout);
    if (len) fwrite(status ? d->err.text : d->out.data, 1, len, stdout);
    fflush(stdout);
}

int main(void)
{
    driver d = {0};
    uint8_t head[2];
    uint32_t len;
    cn_arena_init(&d.arena, (uint64_t)1 << 33);
    cn_buf_init(&d.out, (size_t)1 << 31);
    while (read_all(head, sizeof head) && read_all(&len, sizeof len)) {
        char *payload = malloc((size_t)len + 1);
        if (!payload || !read_all(payload, len)) return 1;
        payload[len] = '\0';
        cn_buf_clear(&d.out);
        reply(&d, answer(&d, head[0], head[1], payload, len));
        free(payload);
    }
    cn_tokenizer_close(d.tokenizer);
    cn_arena_close(&d.arena);
    cn_buf_close(&d.out);
    return 0;
}
