/* model/tokenizer_syntax_int.h: a regular expression of tokenizer.json in PCRE2's syntax.
 *
 * Threads: any, nothing is kept.
 * Memory:  what the buffer takes. */
#pragma once

#include "base/buf.h"

/* Appends the translation of `regex`, UTF-8. False if it has a construct that means something else
 * in PCRE2 and is not translated: *unread then says which. */
bool cn_tokenizer_syntax_translate(const char *regex, cn_buf *out, const char **unread);
