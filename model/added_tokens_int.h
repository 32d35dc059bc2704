/* model/added_tokens_int.h: tokens that are found in the text as they stand, before the rest of it is
 * cut and merged: "<|im_start|>", tool marks, runs of spaces.
 *
 * Threads: immutable after read.
 * Memory:  a trie in the tokenizer's arena, 16 bytes per byte of token. */
#pragma once

#include "model/json_file.h"
#include "model/normalizer_int.h"
#include "model/tokenizer_vocab_int.h"
#include "model/tokenizer_work_int.h"

typedef struct cn_added_token {
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} cn_added_token;

typedef struct cn_added_node {
    uint32_t sibling, child;         // 0: none; node 0 is the root
    uint32_t token;                  // index + 1 of the token that ends here
    unsigned char byte;
} cn_added_node;

typedef struct cn_added_trie {
    cn_added_node *nodes;
    uint32_t count, capacity;
    uint32_t starts[256];            // child of the root, 0: no token begins so
} cn_added_trie;

typedef struct cn_added_tokens {
    cn_added_token *tokens;
    uint32_t count;
    cn_added_trie raw;               // looked for in the text as it comes
    cn_added_trie normalized;        // looked for in its normal form
} cn_added_tokens;

/* Reads the field "added_tokens" and adds what is new to *vocab.
 * Errors: CN_E_FORMAT, CN_E_LIMIT, CN_E_MEMORY. */
cn_code cn_added_tokens_read(const cn_json_object *root, const cn_normalizer *normalizer,
                             cn_tokenizer_vocab *vocab, cn_added_tokens *added, cn_err *err);

/* Takes what lies between tokens. */
typedef cn_code cn_added_tokens_sink(const void *sink, cn_tokenizer_work *work,
                                     const cn_tokenizer_text *text);

/* Finds the tokens of one trie in *text: their ids go to `work`, the texts between them to the sink,
 * in order. With `split_special` special tokens are passed over as ordinary text. */
cn_code cn_added_tokens_run(const cn_added_tokens *added, const cn_added_trie *trie,
                            bool split_special, cn_tokenizer_work *work,
                            const cn_tokenizer_text *text, cn_added_tokens_sink *take,
                            const void *sink);
