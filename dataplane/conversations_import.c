#include <inttypes.h>
#include <string.h>

#include "dataplane/api_int.h"
#include "dataplane/conversations.h"
#include "dataplane/items.h"
#include "dataplane/json_body.h"
#include "dataplane/metadata.h"
#include "dataplane/response_view.h"

/* How it works. The lines of an export become turns with new ids, each the child of the one before,
 * and a conversation that points to the last. All lines are read and checked first, the turns are
 * committed one after another, and the conversation comes last: an import that breaks off leaves
 * turns that nobody points to, and they are forgotten in time.
 *
 * A file is a client's word. Items are checked as those of any request. Text and tokens are taken
 * only where the tokens spell the text; what this means for a next turn is checked again there
 * (dataplane/history.c), as for every stored turn. Where they do not, or are another model's, the
 * history is tokenized again, as if it had been sent whole. */

typedef struct import {
    cn_turn *turns;
    uint32_t turn_count, next;   // `next`: the turn to commit
    uint64_t created_s;
    json_t *new_ids;             // of items: old id → new id; the work's `items` hold both
    json_t *deleted;             // old ids
    bool ended;
} import;

static import *import_of(const cn_answer *answer)
{
    return ((cn_conversations_work *)answer->work)->import;
}

static cn_code no_memory(cn_err *err)
{
    return cn_err_set(err, CN_E_LIMIT,
                      "the import needs more working memory than limit request_bytes allows");
}

static cn_code bad_line(uint32_t line, const char *must, cn_err *err)
{
    return cn_err_set_param(err, CN_E_INVALID, "body", "line %" PRIu32 ": must be %s", line, must);
}

// ---- one turn

static uint64_t seconds_of(const json_t *line, const char *name, uint64_t absent)
{
    const json_t *value = json_object_get(line, name);
    return json_is_integer(value) && json_integer_value(value) > 0
               ? (uint64_t)json_integer_value(value) : absent;
}

// All items of a turn at once, so that their ids count through.
static cn_code read_items(cn_answer *answer, const json_t *line, uint32_t number, cn_turn *turn,
                          cn_err *err)
{
    const cn_limits *limits = answer->api->options.limits;
    const json_t *input = json_object_get(line, "input"), *output = json_object_get(line, "output");
    json_t *all = json_array(), *made = NULL;
    uint32_t index;
    const char *id;
    cn_bytes *texts;
    uint32_t count = 0;
    size_t i;
    json_t *item;
    cn_code code = CN_OK;
    if (!json_is_array(input) || !json_is_array(output) || json_array_size(output) > 1) {
        code = bad_line(number, "a turn with lists of input and at most one output", err);
    }
    if (code == CN_OK && (json_array_extend(all, (json_t *)input) ||
                          json_array_extend(all, (json_t *)output))) {
        code = no_memory(err);
    }
    if (code == CN_OK) {
        code = cn_items_read(all, "items", turn->id.text, limits->messages, "messages", &made, err);
    }
    if (code == CN_OK && cn_items_find_reference(made, &index, &id)) {
        code = bad_line(number, "a turn of items, not of references to others", err);
    }
    if (code == CN_OK) {
        code = cn_items_dump(made, &answer->request->arena, &texts, &count, err);
    }
    if (code == CN_OK) {
        turn->input = texts;
        turn->input_count = (uint32_t)json_array_size(input);
        turn->output = texts + turn->input_count;
        turn->output_count = count - turn->input_count;
        json_array_foreach(all, i, item) {
            const char *old = json_string_value(json_object_get(item, "id"));
            json_t *now = json_object_get(json_array_get(made, i), "id");
            if (old) json_object_set(import_of(answer)->new_ids, old, now);
        }
    }
    json_decref(all);
    json_decref(made);
    return code;
}

static bool read_tokens(cn_answer *answer, const json_t *line, cn_turn *turn)
{
    const struct cn_api *api = answer->api;
    const json_t *output = json_object_get(line, "output_tokens");
    int32_t *ids;
    const cn_code code = cn_params_token_ids(json_object_get(line, "tokens"), "tokens",
                                             cn_tokenizer_vocab_count(api->options.tokenizer),
                                             &answer->request->arena, &ids, &turn->token_count,
                                             NULL);
    if (code != CN_OK || !json_is_integer(output) || json_integer_value(output) < 0 ||
        json_integer_value(output) > turn->token_count) {
        return false;
    }
    turn->tokens = ids;
    turn->output_token_count = (uint32_t)json_integer_value(output);
    turn->resets_text = json_is_true(json_object_get(line, "resets_text"));
    return true;
}

// Whether the tokens spell the text, the prompt's and the answer's each decoded alone.
static bool spells(cn_answer *answer, const cn_turn *turn, const char *text, size_t len)
{
    const cn_tokenizer *tokenizer = answer->api->options.tokenizer;
    const uint32_t prompt_count = turn->token_count - turn->output_token_count;
    cn_buf spelt;
    cn_buf_init(&spelt, (size_t)answer->api->options.limits->request_bytes);
    cn_tokenizer_decode(tokenizer, turn->tokens, prompt_count, false, &spelt);
    cn_tokenizer_decode(tokenizer, turn->tokens + prompt_count, turn->output_token_count, false,
                        &spelt);
    const bool same = !spelt.overflowed && spelt.len == len &&
                      (len == 0 || memcmp(spelt.data, text, len) == 0);
    cn_buf_close(&spelt);
    return same;
}

static cn_code read_text(cn_answer *answer, const json_t *line, cn_turn *turn, cn_err *err)
{
    cn_arena *arena = &answer->request->arena;
    const char *tag = answer->api->vocabulary_tag;
    const json_t *text = json_object_get(line, "text");
    json_t *settings = json_object_get(line, "settings");
    if (json_is_object(settings)) {
        json_object_del(settings, "delta_logprobs");     // items come without logprobs
        const cn_code code =
            cn_json_body_dump(settings, arena, &turn->settings.data, &turn->settings.len, err);
        if (code != CN_OK) return code;
    }
    const bool ours = turn->settings.len > strlen(tag) &&
                      memcmp(turn->settings.data, tag, strlen(tag)) == 0;
    if (!ours || !json_is_string(text) || !read_tokens(answer, line, turn) ||
        !spells(answer, turn, json_string_value(text), json_string_length(text))) {
        turn->tokens = NULL;
        turn->token_count = turn->output_token_count = 0;
        turn->resets_text = false;
        return CN_OK;
    }
    turn->text = (cn_bytes){cn_arena_copy(arena, json_string_value(text), json_string_length(text)),
                            (uint32_t)json_string_length(text)};
    return turn->text.data ? CN_OK : no_memory(err);
}

// The response object under its new ids; turns that only hold items have none.
static cn_code read_response(cn_answer *answer, const json_t *line, uint32_t number, cn_turn *turn,
                             cn_err *err)
{
    const cn_conversations_work *w = answer->work;
    cn_arena *arena = &answer->request->arena;
    json_t *response = cn_json_body_get(line, "response");
    cn_response_view view;
    if (!response) return CN_OK;
    json_t *parent = *turn->parent.text ? json_string(turn->parent.text) : json_null();
    if (!json_is_object(response)) return bad_line(number, "a turn whose response is an object", err);
    if (json_object_set_new(response, "id", json_string(turn->id.text)) ||
        json_object_set_new(response, "previous_response_id", parent) ||
        json_object_set_new(response, "conversation", json_pack("{s:s}", "id", w->made_id.text))) {
        return no_memory(err);
    }
    cn_code code =
        cn_json_body_dump(response, arena, &turn->response.data, &turn->response.len, err);
    if (code == CN_OK) code = cn_response_view_load(turn, arena, &view, err);
    return code == CN_E_CORRUPT ? bad_line(number, "a turn with a response, its output and settings "
                                           "as they were exported", err) : code;
}

static cn_code read_turn(cn_answer *answer, const json_t *line, uint32_t number, cn_err *err)
{
    import *in = import_of(answer);
    cn_turn *turn = &in->turns[in->turn_count];
    *turn = (cn_turn){.id = cn_session_id_new(answer->api->options.session, "resp_"),
                      .created_s = seconds_of(line, "created_at", in->created_s)};
    turn->completed_s = seconds_of(line, "completed_at", turn->created_s);
    if (in->turn_count) turn->parent = in->turns[in->turn_count - 1].id;
    cn_code code = read_items(answer, line, number, turn, err);
    if (code == CN_OK) code = read_text(answer, line, turn, err);
    if (code == CN_OK) code = read_response(answer, line, number, turn, err);
    in->turn_count++;
    return code;
}

// ---- lines

static cn_code read_first(cn_answer *answer, const json_t *line, cn_err *err)
{
    cn_conversations_work *w = answer->work;
    import *in = w->import;
    const json_t *metadata = cn_json_body_get(line, "metadata");
    const json_t *version = json_object_get(line, "version");
    if (!json_is_integer(version) || json_integer_value(version) != 1) {
        return bad_line(1, "an export of version 1", err);
    }
    in->created_s = seconds_of(line, "created_at", in->created_s);
    in->deleted = json_object_get(line, "deleted_items");
    if (in->deleted && json_array_append(w->items, in->deleted)) return no_memory(err);
    const cn_code code = cn_metadata_check(metadata, err);
    if (code != CN_OK || !metadata) return code;
    return cn_json_body_dump(metadata, &answer->request->arena, &w->metadata.data,
                             &w->metadata.len, err);
}

static cn_code read_line(cn_answer *answer, const json_t *line, uint32_t number, cn_err *err)
{
    import *in = import_of(answer);
    const json_t *count = json_object_get(line, "turns");
    const char *kind = json_string_value(json_object_get(line, "object"));
    if (!kind) kind = "";
    if (in->ended) return bad_line(number, "nothing, behind the end", err);
    if ((number == 1) != (strcmp(kind, "conversation.export") == 0)) {
        return bad_line(number, number == 1 ? "a conversation.export" : "a turn or the end", err);
    }
    if (number == 1) return read_first(answer, line, err);
    if (strcmp(kind, "turn") == 0) return read_turn(answer, line, number, err);
    in->ended = strcmp(kind, "conversation.export.end") == 0 && json_is_integer(count) &&
                json_integer_value(count) == in->turn_count;
    return in->ended ? CN_OK : bad_line(number, "a turn, or an end that counts the turns", err);
}

static uint32_t count_lines(const char *text, size_t len)
{
    uint32_t count = 1;
    for (const char *at = text; (at = memchr(at, '\n', len - (size_t)(at - text))); at++) count++;
    return count;
}

static cn_code read_lines(cn_answer *answer, cn_err *err)
{
    const cn_http_request *request = answer->request;
    const char *at = request->body, *end = at + request->body_len;
    import *in = import_of(answer);
    uint32_t number = 0;
    cn_code code = CN_OK;
    in->turns = cn_arena_take_array(&answer->request->arena, count_lines(at, request->body_len),
                                    sizeof *in->turns);
    if (!in->turns) return no_memory(err);
    while (at < end && code == CN_OK) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const size_t len = (size_t)((stop ? stop : end) - at);
        json_t *line;
        number++;
        code = cn_json_body_parse(at, len, answer->api->options.limits->json_depth, &line, err);
        if (code == CN_OK) code = read_line(answer, line, number, err);
        json_decref(line);
        at += len + 1;
    }
    if (code != CN_OK || in->ended) return code;
    return bad_line(number + 1, "there: the export has no end, so some of it is missing", err);
}

// ---- commits

// The deleted items under their new ids.
static cn_code map_deleted(cn_answer *answer, cn_bytes *out, cn_err *err)
{
    const import *in = import_of(answer);
    json_t *list = json_array(), *old;
    size_t i;
    json_array_foreach(in->deleted, i, old) {
        json_t *id = json_is_string(old) ? json_object_get(in->new_ids, json_string_value(old))
                                         : NULL;
        if (id) json_array_append(list, id);
    }
    const cn_code code = cn_json_body_dump(list, &answer->request->arena, &out->data, &out->len, err);
    json_decref(list);
    return code;
}

static cn_code create(cn_answer *answer, cn_err *err)
{
    const cn_conversations_work *w = answer->work;
    const import *in = w->import;
    cn_session_call *call = &answer->ask->call;
    call->conversation = (cn_conversation){.id = w->made_id, .metadata = w->metadata};
    memcpy(call->conversation.request_digest, w->digest, sizeof w->digest);
    if (in->turn_count) call->conversation.head = in->turns[in->turn_count - 1].id;
    const cn_code code = map_deleted(answer, &call->conversation.deleted_items, err);
    return code == CN_OK ? cn_ask_start(answer, CN_SESSION_CREATE, cn_conversations_made, err) : code;
}

static cn_code committed(cn_answer *answer, const cn_session_call *call, cn_err *err);

static cn_code commit_next(cn_answer *answer, cn_err *err)
{
    import *in = import_of(answer);
    cn_session_call *call = &answer->ask->call;
    if (in->next == in->turn_count) return create(answer, err);
    call->turn = in->turns[in->next];
    call->id = call->turn.id;
    call->conversation = (cn_conversation){.id = {""}};
    call->chain = in->next ? &in->turns[in->next - 1] : NULL;
    call->chain_count = in->next ? 1 : 0;
    in->next++;
    return cn_ask_start(answer, CN_SESSION_COMMIT, committed, err);
}

static cn_code committed(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    import *in = import_of(answer);
    if (call->err.code != CN_OK) return cn_ask_error(call, "Conversation", "", err);
    in->turns[in->next - 1] = call->turn;    // as committed: its child needs that
    return commit_next(answer, err);
}

// What the same request made before is not made again.
static cn_code looked_up(cn_answer *answer, const cn_session_call *call, cn_err *err)
{
    if (call->err.code == CN_E_NOT_FOUND) return commit_next(answer, err);
    return cn_conversations_made(answer, call, err);
}

cn_code cn_conversations_import(cn_answer *answer, const cn_route *route, cn_err *err)
{
    cn_conversations_work *w;
    (void)route;
    cn_code code = cn_conversations_open(answer, NULL, &w, err);
    if (code == CN_OK) code = cn_conversations_name(answer, err);
    if (code != CN_OK) return code;
    import *in = w->import = cn_arena_take_array(&answer->request->arena, 1, sizeof *in);
    if (!in) return no_memory(err);
    in->created_s = cn_clock_wall_ns(&answer->api->options.clock) / 1000000000u;
    in->new_ids = json_object();
    w->items = json_pack("[o]", in->new_ids);
    code = w->items ? read_lines(answer, err) : no_memory(err);
    if (code != CN_OK) return code;
    return w->keyed ? cn_ask_id(answer, CN_SESSION_CONVERSATION, &w->made_id, looked_up, err)
                    : commit_next(answer, err);
}
