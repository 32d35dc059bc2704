/* model/template_rest.h: what a template adds for messages that follow others.
 * Most templates go over the messages in one loop and write each by itself, so that more messages only
 * add to the text. Such a template need not write a long conversation again to write its next turn.
 * Whether a template is one is read from its tree, never guessed from what it writes.
 *
 * Threads: as model/template.h.
 * Memory:  rendering works in the caller's arena. */
#pragma once

#include <stdbool.h>

#include "model/template.h"

/* Whether what is written for a message depends on that message, on its place, on the first message and
 * on the other variables alone. */
bool cn_template_rest_is_possible(const cn_template *tmpl);

/* Whether the first message is looked at; if not, any other may stand for it where the rest is rendered. */
bool cn_template_rest_asks_first(const cn_template *tmpl);

/* As cn_template_render; *messages_bytes is how many bytes were appended up to the end of the last message
 * (0 where the rest is not possible). With `place` above 0, for which the rest must be possible, the list
 * `messages` is the first message and those from place `place` on, and what is written begins with the
 * latter. */
cn_code cn_template_rest_render(const cn_template *tmpl, const json_t *variables,
                                const cn_template_limits *limits, uint32_t place, cn_arena *arena,
                                cn_buf *out, size_t *messages_bytes, cn_err *err);
