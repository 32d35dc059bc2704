#include "base/assert.h"
#include "dataplane/api_int.h"
#include "dataplane/responses.h"
#include "dataplane/sse.h"

/* How it works. A reader is a place in the events of a view. Every stream of a response is told in
 * this way, that of the client who made it as well as one that is resumed; so there is one source of
 * events and nothing to keep for later. Events are made while little of the reply waits to be sent: a
 * long stored answer does not become one long buffer. */

enum { WINDOW_BYTES = 65536 };

void cn_responses_reader_open(cn_answer *answer, cn_responses_reader *reader,
                              const cn_response_view *view, bool streams)
{
    reader->view = view;
    reader->streams = streams;
    answer->reader = reader;
    cn_api_todo(answer);
}

static bool tell_object(cn_answer *answer, const cn_responses_reader *reader)
{
    if (!reader->view->settled) return true;
    cn_response_view_object(reader->view, &answer->reply.out);
    if (answer->reply.out.overflowed) cn_answer_overflow(answer);
    else cn_reply_whole(&answer->reply, 200, "application/json");
    return true;
}

bool cn_responses_reader_pump(cn_answer *answer)
{
    cn_responses_reader *reader = answer->reader;
    cn_reply *reply = &answer->reply;
    if (!reader || reply->complete) return true;
    if (!reader->streams) return tell_object(answer, reader);
    if (reply->state == CN_REPLY_IDLE) return true;      // the stream has not begun
    const uint32_t count = cn_response_view_event_count(reader->view);
    while (reader->next < count && reply->out.len < WINDOW_BYTES) {
        cn_response_view_event(reader->view, reader->next++, &reply->out);
    }
    if (reader->next < count) return false;
    if (reader->view->settled) cn_reply_end(reply);
    return true;
}

void cn_responses_reader_wake(cn_answer *answer)
{
    cn_api_todo(answer);
    for (cn_answer *r = answer->turn->readers; r; r = r->reader->next_reader) cn_api_todo(r);
}

// ---- those who did not make the turn

static bool gone(cn_answer *answer)
{
    (void)answer;
    return false;
}

static void leave_source(cn_answer *answer)
{
    cn_responses_reader *reader = answer->reader;
    if (!reader || !reader->source) return;
    cn_answer **at = &reader->source->turn->readers;
    while (*at != answer) at = &(*at)->reader->next_reader;
    *at = reader->next_reader;
    cn_api_todo(reader->source);         // which may have waited for its last reader
    reader->source = NULL;
}

static void fail(cn_answer *answer, const cn_err *err)
{
    cn_answer_refuse(answer, err);
    cn_reply_end(&answer->reply);
}

static const cn_answer_kind reader_kind = {
    .input = "body", .fail = fail, .gone = gone, .pump = cn_responses_reader_pump,
    .close = leave_source};

static cn_code open_reader(cn_answer *answer, const cn_response_view *view, bool streams,
                           uint32_t next, cn_err *err)
{
    cn_responses_reader *reader =
        cn_arena_take_array(&answer->request->arena, 1, sizeof *reader);
    if (!reader) return cn_err_set(err, CN_E_MEMORY, "response: no memory to read it");
    reader->next = next;
    answer->kind = &reader_kind;
    cn_responses_reader_open(answer, reader, view, streams);
    cn_responses_durability(answer);
    if (streams) cn_sse_open(&answer->reply);
    return CN_OK;
}

cn_code cn_responses_reader_replay(cn_answer *answer, const cn_turn *turn, bool streams,
                                   uint32_t next, cn_err *err)
{
    cn_arena *arena = &answer->request->arena;
    cn_response_view *view = cn_arena_take_array(arena, 1, sizeof *view);
    if (!view) return cn_err_set(err, CN_E_MEMORY, "response: no memory to read it");
    const cn_code code = cn_response_view_load(turn, arena, view, err);
    return code == CN_OK ? open_reader(answer, view, streams, next, err) : code;
}

cn_code cn_responses_reader_follow(cn_answer *answer, cn_answer *source, bool streams,
                                   uint32_t next, cn_err *err)
{
    CN_ASSERT(source->turn);
    const cn_code code = open_reader(answer, &source->turn->view, streams, next, err);
    if (code != CN_OK) return code;
    answer->reader->source = source;
    answer->reader->next_reader = source->turn->readers;
    source->turn->readers = answer;
    return CN_OK;
}
