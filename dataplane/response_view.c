#include "dataplane/response_view.h"

#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "dataplane/json_body.h"

/* How it works. The events of a response, by number:
 *
 *   0             response.created
 *   1             response.queued               background only
 *   then          response.in_progress          if it has started, as all up to output_item.done
 *                 response.output_item.added
 *                 response.content_part.added
 *                 response.output_text.delta    one per cut
 *                 response.output_text.done     not if it failed, as the two after it
 *                 response.content_part.done
 *                 response.output_item.done
 *   last          response.completed, .incomplete or .failed; nothing if it was cancelled
 *
 * What a delta is follows from when tokens came, which nobody could find out later; so the cuts are
 * kept with the turn. All else is made again from its items. */

enum { OPENING_EVENTS = 3, CLOSING_EVENTS = 3 };

const char *cn_response_view_status(cn_response_status status)
{
    static const char *const names[] = {"queued",     "in_progress", "completed",
                                        "incomplete", "failed",      "cancelled"};
    return names[status];
}

static void add_string(cn_buf *out, const char *text) { cn_buf_add_json(out, text, strlen(text)); }

static void add_bytes(cn_buf *out, cn_bytes bytes) { cn_buf_add(out, bytes.data, bytes.len); }

// ---- objects

static void add_usage(const cn_response_usage *usage, cn_buf *out)
{
    cn_buf_add_format(out,
                      "{\"input_tokens\":%" PRIu64 ",\"input_tokens_details\":{\"cached_tokens\":%"
                      PRIu64 ",\"cache_write_tokens\":0},\"output_tokens\":%" PRIu64
                      ",\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%" PRIu64,
                      usage->input_tokens, usage->cached_tokens, usage->output_tokens,
                      usage->input_tokens + usage->output_tokens);
    cn_buf_add(out, usage->more.data, usage->more.len);
    cn_buf_add_char(out, '}');
}

static void add_failure(const cn_err *failure, cn_buf *out)
{
    cn_buf_add_text(out, "{\"code\":");
    add_string(out, cn_err_info(failure->code)->code);
    cn_buf_add_text(out, ",\"message\":");
    add_string(out, failure->text);
    cn_buf_add_char(out, '}');
}

void cn_response_view_tail(cn_response_status status, const cn_err *failure, uint64_t completed_s,
                           const cn_response_usage *usage, cn_buf *out)
{
    cn_buf_add_text(out, ",\"status\":");
    add_string(out, cn_response_view_status(status));
    cn_buf_add_text(out, ",\"error\":");
    if (status == CN_RESPONSE_FAILED && failure) add_failure(failure, out);
    else cn_buf_add_text(out, "null");
    cn_buf_add_text(out, ",\"incomplete_details\":");
    cn_buf_add_text(out, status == CN_RESPONSE_INCOMPLETE ? "{\"reason\":\"max_output_tokens\"}"
                                                          : "null");
    cn_buf_add_text(out, ",\"completed_at\":");
    if (completed_s) cn_buf_add_u64(out, completed_s);
    else cn_buf_add_text(out, "null");
    cn_buf_add_text(out, ",\"usage\":");
    if (usage) add_usage(usage, out);
    else cn_buf_add_text(out, "null");
}

static void add_part(const char *text, uint32_t text_len, const char *logprobs,
                     uint32_t logprobs_len, cn_buf *out)
{
    cn_buf_add_text(out, "{\"type\":\"output_text\",\"text\":");
    cn_buf_add_json(out, text_len ? text : "", text_len);
    cn_buf_add_text(out, ",\"annotations\":[],\"logprobs\":[");
    if (logprobs_len) cn_buf_add(out, logprobs, logprobs_len);
    cn_buf_add_text(out, "]}");
}

static void open_item(const cn_response_view *view, const char *status, cn_buf *out)
{
    cn_buf_add_text(out, "{\"id\":");
    add_string(out, view->item_id);
    cn_buf_add_text(out, ",\"type\":\"message\",\"status\":\"");
    cn_buf_add_text(out, status);
    cn_buf_add_text(out, "\",\"role\":\"assistant\",\"content\":[");
}

void cn_response_view_item(const cn_response_view *view, cn_buf *out)
{
    open_item(view, view->status == CN_RESPONSE_COMPLETED ? "completed" : "incomplete", out);
    add_part(view->text, view->text_len, view->logprobs, view->logprobs_len, out);
    cn_buf_add_text(out, "]}");
}

// As it was before its end.
static void add_object_at(const cn_response_view *view, cn_response_status status, cn_buf *out)
{
    add_bytes(out, view->head);
    cn_response_view_tail(status, NULL, 0, NULL, out);
    cn_buf_add_text(out, ",\"output\":[]}");
}

void cn_response_view_object(const cn_response_view *view, cn_buf *out)
{
    if (!view->settled) {
        const bool waits = view->background && !view->started;
        add_object_at(view, waits ? CN_RESPONSE_QUEUED : CN_RESPONSE_IN_PROGRESS, out);
        return;
    }
    add_bytes(out, view->head);
    add_bytes(out, view->tail);
    cn_buf_add_text(out, ",\"output\":[");
    if (view->started) cn_response_view_item(view, out);
    cn_buf_add_text(out, "]}");
}

// ---- events

// Those between the last delta and the last event.
static uint32_t closing_count(const cn_response_view *view)
{
    return view->started && view->closed ? CLOSING_EVENTS : 0;
}

static uint32_t first_count(const cn_response_view *view) { return view->background ? 2 : 1; }

uint32_t cn_response_view_event_count(const cn_response_view *view)
{
    uint32_t count = first_count(view);
    if (view->started) count += OPENING_EVENTS + view->cut_count + closing_count(view);
    return count + (view->settled && view->status != CN_RESPONSE_CANCELLED);
}

static void open_event(const char *type, uint32_t n, cn_buf *out)
{
    cn_buf_add_text(out, "event: response.");
    cn_buf_add_text(out, type);
    cn_buf_add_text(out, "\ndata: {\"type\":\"response.");
    cn_buf_add_text(out, type);
    cn_buf_add_text(out, "\",\"sequence_number\":");
    cn_buf_add_u64(out, n);
}

static void close_event(cn_buf *out) { cn_buf_add_text(out, "}\n\n"); }

static void add_place(const cn_response_view *view, cn_buf *out)
{
    cn_buf_add_text(out, ",\"item_id\":");
    add_string(out, view->item_id);
    cn_buf_add_text(out, ",\"output_index\":0,\"content_index\":0");
}

static void status_event(const cn_response_view *view, const char *type, cn_response_status status,
                         uint32_t n, cn_buf *out)
{
    open_event(type, n, out);
    cn_buf_add_text(out, ",\"response\":");
    if (status >= CN_RESPONSE_COMPLETED) cn_response_view_object(view, out);
    else add_object_at(view, status, out);
    close_event(out);
}

static void opening_event(const cn_response_view *view, uint32_t which, uint32_t n, cn_buf *out)
{
    if (which == 0) {
        status_event(view, "in_progress", CN_RESPONSE_IN_PROGRESS, n, out);
    } else if (which == 1) {
        open_event("output_item.added", n, out);
        cn_buf_add_text(out, ",\"output_index\":0,\"item\":");
        open_item(view, "in_progress", out);
        cn_buf_add_text(out, "]}");
        close_event(out);
    } else {
        open_event("content_part.added", n, out);
        add_place(view, out);
        cn_buf_add_text(out, ",\"part\":");
        add_part("", 0, "", 0, out);
        close_event(out);
    }
}

static void add_logprobs(const char *logprobs, uint32_t from, uint32_t end, cn_buf *out)
{
    if (from < end && logprobs[from] == ',') from++;
    cn_buf_add_text(out, ",\"logprobs\":[");
    if (from < end) cn_buf_add(out, logprobs + from, end - from);
    cn_buf_add_char(out, ']');
}

static void delta_event(const cn_response_view *view, uint32_t which, uint32_t n, cn_buf *out)
{
    const cn_response_cut none = {0, 0};
    const cn_response_cut from = which ? view->cuts[which - 1] : none, end = view->cuts[which];
    open_event("output_text.delta", n, out);
    add_place(view, out);
    cn_buf_add_text(out, ",\"delta\":");
    cn_buf_add_json(out, view->text + from.text_end, end.text_end - from.text_end);
    add_logprobs(view->logprobs, from.logprobs_end, end.logprobs_end, out);
    close_event(out);
}

static void closing_event(const cn_response_view *view, uint32_t which, uint32_t n, cn_buf *out)
{
    if (which == 0) {
        open_event("output_text.done", n, out);
        add_place(view, out);
        cn_buf_add_text(out, ",\"text\":");
        cn_buf_add_json(out, view->text_len ? view->text : "", view->text_len);
        add_logprobs(view->logprobs, 0, view->logprobs_len, out);
    } else if (which == 1) {
        open_event("content_part.done", n, out);
        add_place(view, out);
        cn_buf_add_text(out, ",\"part\":");
        add_part(view->text, view->text_len, view->logprobs, view->logprobs_len, out);
    } else {
        open_event("output_item.done", n, out);
        cn_buf_add_text(out, ",\"output_index\":0,\"item\":");
        cn_response_view_item(view, out);
    }
    close_event(out);
}

void cn_response_view_event(const cn_response_view *view, uint32_t n, cn_buf *out)
{
    const cn_response_status first =
        view->background ? CN_RESPONSE_QUEUED : CN_RESPONSE_IN_PROGRESS;
    uint32_t at = n;
    if (n == 0) {
        status_event(view, "created", first, n, out);
        return;
    }
    if (n < first_count(view)) {
        status_event(view, "queued", first, n, out);
        return;
    }
    at -= first_count(view);
    if (view->started) {
        if (at < OPENING_EVENTS) {
            opening_event(view, at, n, out);
            return;
        }
        at -= OPENING_EVENTS;
        if (at < view->cut_count) {
            delta_event(view, at, n, out);
            return;
        }
        at -= view->cut_count;
        if (at < closing_count(view)) {
            closing_event(view, at, n, out);
            return;
        }
    }
    status_event(view, cn_response_view_status(view->status), view->status, n, out);
}

// ---- stored turns

void cn_response_view_settings(const cn_response_view *view, cn_buf *out)
{
    uint32_t from = 0;
    cn_buf_add_text(out, "\"deltas\":[");
    for (uint32_t i = 0; i < view->cut_count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, view->cuts[i].text_end - from);
        from = view->cuts[i].text_end;
    }
    cn_buf_add_char(out, ']');
    if (!view->logprobs_len) return;
    from = 0;
    cn_buf_add_text(out, ",\"delta_logprobs\":[");
    for (uint32_t i = 0; i < view->cut_count; i++) {
        if (i) cn_buf_add_char(out, ',');
        cn_buf_add_u64(out, view->cuts[i].logprobs_end - from);
        from = view->cuts[i].logprobs_end;
    }
    cn_buf_add_char(out, ']');
}

static cn_code corrupt(const cn_turn *turn, const char *what, cn_err *err)
{
    return cn_err_set(err, CN_E_CORRUPT, "Response with id '%s': its stored %s cannot be read.",
                      turn->id.text, what);
}

/* Splits the stored object into what never changes and what does. */
static cn_code load_object(const cn_turn *turn, cn_arena *arena, cn_response_view *out, cn_err *err)
{
    static const char *const changing[] = {"status", "error", "incomplete_details", "completed_at",
                                           "usage"};
    json_t *object = json_loadb(turn->response.data, turn->response.len, JSON_ALLOW_NUL, NULL);
    const char *status = json_string_value(json_object_get(object, "status"));
    json_t *tail = json_object();
    cn_code code = CN_OK;
    int at = CN_RESPONSE_COMPLETED;
    while (status && at <= CN_RESPONSE_CANCELLED &&
           strcmp(status, cn_response_view_status((cn_response_status)at)) != 0) {
        at++;
    }
    if (!status || at > CN_RESPONSE_CANCELLED) code = corrupt(turn, "object", err);
    out->background = json_is_true(json_object_get(object, "background"));
    for (size_t i = 0; i < sizeof changing / sizeof changing[0] && code == CN_OK; i++) {
        json_t *value = json_object_get(object, changing[i]);
        if (json_object_set(tail, changing[i], value ? value : json_null())) code = CN_E_MEMORY;
        json_object_del(object, changing[i]);
    }
    if (code == CN_OK) {
        out->status = (cn_response_status)at;
        out->closed = out->status != CN_RESPONSE_FAILED;
        code = cn_json_body_dump(object, arena, &out->head.data, &out->head.len, err);
    }
    if (code == CN_OK) code = cn_json_body_dump(tail, arena, &out->tail.data, &out->tail.len, err);
    if (code == CN_OK) {
        out->head.len--;                         // its closing brace
        ((char *)out->tail.data)[0] = ',';       // its opening one
        out->tail.len--;
    }
    json_decref(object);
    json_decref(tail);
    return code;
}

/* The entries as they were written: cuts count their bytes. The name cannot stand inside of a string,
 * where its quotes would be escaped. */
static bool find_logprobs(cn_bytes item, cn_response_view *out)
{
    static const char name[] = "\"logprobs\":[", end[] = "]}]}";
    const size_t name_len = sizeof name - 1, end_len = sizeof end - 1;
    const char *at = memmem(item.data, item.len, name, name_len);
    const char *stop = item.data + item.len - end_len;
    if (!at || at + name_len > stop || memcmp(stop, end, end_len) != 0) return false;
    out->logprobs = at + name_len;
    out->logprobs_len = (uint32_t)(stop - out->logprobs);
    return true;
}

static cn_code load_item(const cn_turn *turn, cn_arena *arena, cn_response_view *out, cn_err *err)
{
    out->item_id = "";
    out->text = "";
    if (turn->output_count == 0) return CN_OK;
    json_t *item = json_loadb(turn->output[0].data, turn->output[0].len, JSON_ALLOW_NUL, NULL);
    const json_t *part = json_array_get(json_object_get(item, "content"), 0);
    const json_t *text = json_object_get(part, "text"), *id = json_object_get(item, "id");
    cn_code code = json_is_string(text) && json_is_string(id) ? CN_OK : corrupt(turn, "item", err);
    if (code == CN_OK) {
        out->started = true;
        out->text_len = (uint32_t)json_string_length(text);
        out->text = cn_arena_copy(arena, json_string_value(text), out->text_len);
        out->item_id = cn_arena_copy(arena, json_string_value(id), json_string_length(id));
        if (!out->text || !out->item_id) code = cn_err_set(err, CN_E_MEMORY, "response: no memory");
    }
    if (code == CN_OK && !find_logprobs(turn->output[0], out)) code = corrupt(turn, "item", err);
    json_decref(item);
    return code;
}

static uint32_t number_at(const json_t *list, size_t index)
{
    return (uint32_t)json_integer_value(json_array_get(list, index));
}

static cn_code load_cuts(const cn_turn *turn, cn_arena *arena, cn_response_view *out, cn_err *err)
{
    json_t *settings = json_loadb(turn->settings.data, turn->settings.len, JSON_ALLOW_NUL, NULL);
    const json_t *deltas = json_object_get(settings, "deltas");
    const json_t *logprobs = json_object_get(settings, "delta_logprobs");
    const size_t count = json_array_size(deltas);
    cn_response_cut *cuts = cn_arena_take_array(arena, count + 1, sizeof *cuts);
    cn_response_cut at = {0, 0};
    bool fits = true;
    for (size_t i = 0; cuts && i < count; i++) {
        const uint32_t text = number_at(deltas, i), entries = number_at(logprobs, i);
        fits &= text <= out->text_len - at.text_end && entries <= out->logprobs_len - at.logprobs_end;
        if (!fits) break;
        at.text_end += text;
        at.logprobs_end += entries;
        cuts[i] = at;
    }
    json_decref(settings);
    if (!cuts) return cn_err_set(err, CN_E_MEMORY, "response: no memory");
    if (!fits) return corrupt(turn, "deltas", err);
    out->cuts = cuts;
    out->cut_count = (uint32_t)count;
    return CN_OK;
}

cn_code cn_response_view_load(const cn_turn *turn, cn_arena *arena, cn_response_view *out,
                              cn_err *err)
{
    *out = (cn_response_view){.settled = true};
    cn_code code = load_object(turn, arena, out, err);
    if (code == CN_OK) code = load_item(turn, arena, out, err);
    return code == CN_OK ? load_cuts(turn, arena, out, err) : code;
}
