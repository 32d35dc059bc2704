/* model/bpe_int.h: byte-pair encoding of one piece of text.
 *
 * Threads: immutable after read, any thread encodes.
 * Memory:  a map entry per token and 16 to 32 bytes per merge; encode works in the caller's arena. */
#pragma once

#include "model/json_file.h"
#include "model/tokenizer_vocab_int.h"
#include "model/tokenizer_work_int.h"

typedef struct cn_bpe_pair {
    uint64_t key;                    // left id << 32 | right id
    uint32_t rank;                   // smaller merges first
    int32_t merged;                  // -1: empty slot
} cn_bpe_pair;

typedef struct cn_bpe {
    bool byte_level;                 // symbols are bytes, else characters
    bool byte_fallback, fuse_unk, ignore_merges;
    bool breaks;                     // no token holds a space mark behind another character
    int32_t unk;                     // -1: unknown characters vanish
    int32_t byte_ids[256];           // byte level: of a byte; else: of "<0x..>"; -1: none
    int32_t ascii_ids[128];          // of a character, where symbols are characters; -1: none
    cn_map *whole;                   // text that is one token -> its id
    uint32_t whole_len_max;
    cn_bpe_pair *pairs;              // open addressing
    uint32_t pair_mask;
} cn_bpe;

/* Reads the field "model" of the file into *bpe and its vocabulary into *vocab, which is open.
 * `byte_level` says what the pre-tokenizer makes of the text. close must follow, even after an
 * error. Errors: CN_E_FORMAT, CN_E_UNSUPPORTED, CN_E_MEMORY. */
cn_code cn_bpe_read(const cn_json_object *root, bool byte_level, cn_tokenizer_vocab *vocab,
                    cn_bpe *bpe, cn_err *err);
void cn_bpe_close(cn_bpe *bpe);

/* Appends the ids of `len` bytes, well-formed UTF-8. Errors: CN_E_LIMIT, CN_E_MEMORY. */
cn_code cn_bpe_encode(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text, size_t len);

/* True if merging the symbols of `text` gives the one token `id`. Errors: CN_E_MEMORY. */
cn_code cn_bpe_is_whole(const cn_bpe *bpe, cn_tokenizer_work *work, const char *text, size_t len,
                        int32_t id, bool *whole);

/* The slot of a pair, or the empty slot where it would be. */
cn_bpe_pair *cn_bpe_pair_seek(const cn_bpe *bpe, int32_t left, int32_t right);
