/* model/tokenizer_int.h: what a tokenizer is made of, for the detokenizer.
 *
 * Threads: immutable after open.
 * Memory:  one arena, closed with the tokenizer, and the compiled expressions of the parts. */
#pragma once

#include "model/added_tokens_int.h"
#include "model/bpe_int.h"
#include "model/decoder_int.h"
#include "model/normalizer_int.h"
#include "model/pre_tokenizer_int.h"
#include "model/tokenizer.h"
#include "model/tokenizer_post_int.h"
#include "model/tokenizer_vocab_int.h"

struct cn_tokenizer {
    cn_arena arena;
    cn_tokenizer_vocab vocab;
    cn_added_tokens added;
    cn_normalizer normalizer;
    cn_pre_tokenizer pre;
    cn_bpe bpe;
    cn_tokenizer_post post;
    cn_decoder decoder;
};
