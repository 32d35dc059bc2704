#include <inttypes.h>
#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/conversations.h"

/* A conversation as lines of JSON: itself, its turns from the root to the head, and an end that says
 * how many there were, so that a file which was cut is noticed. `text` and `tokens` let the next turn
 * go on from the sampled tokens wherever the file is read again. */

static void add_bytes(const char *name, cn_bytes json, cn_buf *out)
{
    cn_buf_add_text(out, name);
    if (json.len) cn_buf_add(out, json.data, json.len);
    else cn_buf_add_text(out, "null");
}

static void add_items(const char *name, const cn_bytes *items, uint32_t count, cn_buf *out)
{
    cn_buf_add_text(out, name);
    for (uint32_t i = 0; i < count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add(out, items[i].data, items[i].len);
    }
    cn_buf_add_char(out, ']');
}

static void write_turn(const cn_turn *turn, cn_buf *out)
{
    cn_buf_add_format(out, "{\"object\":\"turn\",\"id\":\"%s\",\"created_at\":%" PRIu64
                      ",\"completed_at\":%" PRIu64, turn->id.text, turn->created_s,
                      turn->completed_s);
    add_bytes(",\"response\":", turn->deleted ? (cn_bytes){NULL, 0} : turn->response, out);
    add_items(",\"input\":[", turn->input, turn->input_count, out);
    add_items(",\"output\":[", turn->output, turn->output_count, out);
    cn_buf_add_text(out, ",\"text\":");
    cn_buf_add_json(out, turn->text.len ? turn->text.data : "", turn->text.len);
    cn_buf_add_text(out, ",\"tokens\":[");
    for (uint32_t i = 0; i < turn->token_count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, (uint64_t)turn->tokens[i]);
    }
    cn_buf_add_format(out, "],\"output_tokens\":%" PRIu32 ",\"resets_text\":%s",
                      turn->output_token_count, turn->resets_text ? "true" : "false");
    add_bytes(",\"settings\":", turn->settings, out);
    cn_buf_add_text(out, "}\n");
}

static cn_code found(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    cn_buf *out = &answer->reply.out;
    const cn_code code = cn_conversations_take(answer, call, err);
    if (code != CN_OK) return code;
    const cn_conversation *c = &call->conversation;
    cn_buf_add_format(out, "{\"object\":\"conversation.export\",\"version\":1,\"id\":\"%s\","
                      "\"created_at\":%" PRIu64, c->id.text, c->created_s);
    add_bytes(",\"metadata\":", c->metadata.len ? c->metadata : (cn_bytes){"{}", 2}, out);
    add_bytes(",\"deleted_items\":", c->deleted_items.len ? c->deleted_items : (cn_bytes){"[]", 2},
              out);
    cn_buf_add_text(out, "}\n");
    for (uint32_t i = 0; i < call->chain_count; i++) write_turn(&call->chain[i], out);
    cn_buf_add_format(out, "{\"object\":\"conversation.export.end\",\"turns\":%" PRIu32 "}\n",
                      call->chain_count);
    if (out->overflowed) cn_answer_overflow(answer);
    else cn_reply_whole(&answer->reply, 200, "application/x-ndjson");
    return CN_OK;
}

cn_code cn_conversations_export(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    const cn_code code = cn_conversations_open(answer, route, &w, err);
    return code == CN_OK ? cn_ask_id(answer, CN_SESSION_HISTORY, &w->id, found, err) : code;
}
