#include "state/session_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>
#include <xxhash.h>

#include "base/assert.h"

/* How it works. A turn's record names the 32 turns above it, so a chain of n turns is read in about
 * n/32 rounds, each of which the store carries out as one pipeline. Between calls, only records of
 * turns are kept, a bounded number of bytes of them (state/turn_cache.h), since they do not change.
 * What a conversation is, is in the store, and two appliances agree because they change a head by
 * compare-and-set on the whole record, in which a revision counts up, so that no value comes back.
 *
 * Life. Records are forgotten `life_ms` after their last use. A use renews a chain at most once a
 * day, or the use would cost a disk sync per turn: each turn says how old the last renewal of its
 * chain was when it was written (`kept_s`), and this process remembers its own renewals in a small
 * lossy table. A record that was renewed too often is no harm. */

enum { DAY_S = 86400, SCAN_BYTES_MAX = 4 << 20 };

// ---- lists and rounds

static void list_init(cn_session_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_add(cn_session_list *list, cn_session_work *work)
{
    work->next = NULL;
    *list->last = work;
    list->last = &work->next;
}

static cn_session_work *list_take(cn_session_list *list)
{
    cn_session_work *work = list->first;
    if (work && !(list->first = work->next)) list->last = &list->first;
    return work;
}

void cn_session_key(const cn_session_work *work, const cn_session_id *id,
                    char out[CN_STORE_KEY_BYTES_MAX])
{
    const char *what = id->text[0] == 'r' ? "turn" : "conv";
    const int len =
        snprintf(out, CN_STORE_KEY_BYTES_MAX, "cairn:%s:%s:%s", what, work->tenant, id->text);
    CN_ASSERT(len > 0 && len < CN_STORE_KEY_BYTES_MAX);
}

cn_store_op *cn_session_op(cn_session *session, cn_session_work *work, cn_store_kind kind,
                           const cn_session_id *id)
{
    CN_ASSERT(work->waiting == 0);
    if (work->sent) work->sent = work->op_count = 0; // the last round's
    CN_ASSERT(work->op_count < work->op_capacity);
    cn_store_op *op = &work->ops[work->op_count++];
    cn_buf reply = op->reply;
    cn_buf_clear(&reply);
    *op = (cn_store_op){
        .kind = kind, .reply = reply, .deadline_ns = work->call->deadline_ns, .user = work};
    op->reply.bytes_max =
        kind == CN_STORE_SCAN ? SCAN_BYTES_MAX : session->options.record_bytes_max;
    if (kind != CN_STORE_GET) op->life_ms = session->options.life_ms;
    cn_session_key(work, id, op->key);
    return op;
}

// Hands operations to the store; false if its ring is full.
static bool send_ops(cn_session *session, cn_session_work *work)
{
    while (work->sent < work->op_count) {
        cn_store_op *op = &work->ops[work->sent];
        const uint32_t count = op->then ? 2 : 1;
        CN_ASSERT(count == 1 || op->then == op + 1);
        if (!cn_store_port_submit(session->options.store, op)) return false;
        work->sent += count;
    }
    return true;
}

void cn_session_round(cn_session *session, cn_session_work *work, cn_session_step step)
{
    CN_ASSERT(work->op_count > 0 && work->sent == 0);
    work->step = step;
    work->waiting = work->op_count;
    if (session->unsent.first || !send_ops(session, work)) list_add(&session->unsent, work);
}

void *cn_session_take(cn_session *session, cn_session_work *work, size_t count, size_t size)
{
    void *piece = cn_arena_take_array(work->call->arena, count, size);
    if (!piece) {
        cn_session_fail(session, work, CN_E_LIMIT,
                        "%s: more than the %llu bytes that one request may use",
                        work->call->id.text, (unsigned long long)work->call->arena->bytes_max);
    }
    return piece;
}

static void free_buffers(cn_session_work *work)
{
    for (uint32_t i = 0; i < work->op_capacity; i++) cn_buf_close(&work->ops[i].reply);
    cn_buf_close(&work->turn_record);
    cn_buf_close(&work->conversation_record);
}

void cn_session_finish(cn_session *session, cn_session_work *work)
{
    CN_ASSERT(work->waiting == 0);
    free_buffers(work);
    list_add(&session->finished, work);
}

void cn_session_fail(cn_session *session, cn_session_work *work, cn_code code, const char *format,
                     ...)
{
    char text[sizeof work->call->err.text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cn_err_set(&work->call->err, code, "%s", text);
    cn_session_finish(session, work);
}

// ---- what came back

void cn_session_absent(cn_session *session, cn_session_work *work, const cn_session_id *id)
{
    cn_session_fail(session, work, CN_E_NOT_FOUND, "%s is not there", id->text);
}

bool cn_session_must(cn_session *session, cn_session_work *work, const cn_store_op *op,
                     const cn_session_id *id)
{
    switch (op->code) {
    case CN_OK: return true;
    case CN_E_STORE:
        cn_session_fail(session, work, CN_E_STORE, "%s: the store of turns did not answer in time",
                        id->text);
        return false;
    case CN_E_STORE_FULL:
        cn_session_fail(session, work, CN_E_STORE_FULL, "%s: the store of turns is full", id->text);
        return false;
    case CN_E_LIMIT:
        cn_session_fail(session, work, CN_E_LIMIT,
                        "%s: its record is longer than the %u bytes of limit turn_record_bytes",
                        id->text, session->options.record_bytes_max);
        return false;
    case CN_E_NOT_FOUND: cn_session_absent(session, work, id); return false;
    case CN_E_CORRUPT:
        cn_session_fail(session, work, CN_E_CORRUPT, "%s: its key in the store is no record",
                        id->text);
        return false;
    default:
        cn_session_fail(session, work, op->code, "%s: %s", id->text,
                        cn_err_info(op->code)->meaning);
        return false;
    }
}

static cn_session_got got(cn_session *session, cn_session_work *work, const cn_store_op *op,
                          const cn_session_id *id)
{
    if (op->code == CN_E_NOT_FOUND) return CN_SESSION_ABSENT;
    return cn_session_must(session, work, op, id) ? CN_SESSION_HAS : CN_SESSION_OVER;
}

cn_session_got cn_session_get_turn(cn_session *session, cn_session_work *work,
                                   const cn_store_op *op, const cn_session_id *id, cn_turn *out)
{
    const cn_session_got is = got(session, work, op, id);
    if (is != CN_SESSION_HAS) return is;
    const cn_code code = cn_record_read_turn(op->reply.data, op->reply.len, id, work->call->arena,
                                             out, &work->call->err);
    if (code != CN_OK) {
        cn_session_finish(session, work);
        return CN_SESSION_OVER;
    }
    return out->withdrawn ? CN_SESSION_ABSENT : CN_SESSION_HAS;
}

cn_session_got cn_session_get_conversation(cn_session *session, cn_session_work *work,
                                           const cn_store_op *op, const cn_session_id *id,
                                           cn_conversation *out)
{
    const cn_session_got is = got(session, work, op, id);
    if (is != CN_SESSION_HAS) return is;
    const cn_code code = cn_record_read_conversation(op->reply.data, op->reply.len, id,
                                                     work->call->arena, out, &work->call->err);
    if (code != CN_OK) {
        cn_session_finish(session, work);
        return CN_SESSION_OVER;
    }
    return out->deleted ? CN_SESSION_ABSENT : CN_SESSION_HAS;
}

bool cn_session_must_turn(cn_session *session, cn_session_work *work, const cn_store_op *op,
                          const cn_session_id *id, cn_turn *out)
{
    const cn_session_got is = cn_session_get_turn(session, work, op, id, out);
    if (is == CN_SESSION_ABSENT) cn_session_absent(session, work, id);
    return is == CN_SESSION_HAS;
}

bool cn_session_must_conversation(cn_session *session, cn_session_work *work, const cn_store_op *op,
                                  const cn_session_id *id, cn_conversation *out)
{
    const cn_session_got is = cn_session_get_conversation(session, work, op, id, out);
    if (is == CN_SESSION_ABSENT) cn_session_absent(session, work, id);
    return is == CN_SESSION_HAS;
}

cn_store_op *cn_session_swap(cn_session *session, cn_session_work *work,
                             const cn_conversation *from, cn_conversation *to)
{
    cn_buf *record = &work->conversation_record;
    to->revision = from->revision + 1;
    to->kept_s = cn_session_now_s(session);
    cn_buf_clear(record);
    if (cn_record_write_conversation(to, record, &work->call->err) != CN_OK) {
        cn_session_finish(session, work);
        return NULL;
    }
    char *copy = cn_session_take(session, work, record->len, 1);
    if (!copy) return NULL;
    memcpy(copy, record->data, record->len);
    to->stored = (cn_bytes){copy, (uint32_t)record->len};
    cn_store_op *op = cn_session_op(session, work, CN_STORE_SWAP, &to->id);
    op->value = to->stored.data;
    op->value_len = to->stored.len;
    op->expected = from->stored.data;
    op->expected_len = from->stored.len;
    return op;
}

// ---- life

uint64_t cn_session_now_s(const cn_session *session)
{
    return cn_clock_wall_ns(&session->options.clock) / 1000000000u;
}

static cn_session_kept kept_slot(const cn_session *session, const cn_session_id *id, uint32_t *slot)
{
    const uint64_t hash = XXH3_64bits(id->text, strlen(id->text));
    *slot = (uint32_t)(hash % CN_SESSION_KEPT_SLOTS);
    return (cn_session_kept){
        hash, session->kept[*slot].id_hash == hash ? session->kept[*slot].kept_s : 0};
}

uint64_t cn_session_kept_get(const cn_session *session, const cn_session_id *id, uint64_t kept_s)
{
    uint32_t slot;
    const cn_session_kept known = kept_slot(session, id, &slot);
    return known.kept_s > kept_s ? known.kept_s : kept_s;
}

void cn_session_kept_put(cn_session *session, const cn_session_id *id)
{
    uint32_t slot;
    cn_session_kept known = kept_slot(session, id, &slot);
    known.kept_s = cn_session_now_s(session);
    session->kept[slot] = known;
}

bool cn_session_kept_due(const cn_session *session, uint64_t kept_s)
{
    const uint64_t life_s = session->options.life_ms / 1000, now_s = cn_session_now_s(session);
    const uint64_t every_s = life_s / 4 < DAY_S ? life_s / 4 : DAY_S;
    if (session->options.life_ms == 0) return false;
    // Also where it seems to have been renewed in the future: a clock was wrong, then or now.
    return now_s > kept_s + every_s || kept_s > now_s + every_s;
}

// ---- ids

cn_session_id cn_session_id_new(const cn_session *session, const char *prefix)
{
    uint8_t raw[CN_SESSION_ID_RAW_BYTES];
    cn_session_id id;
    cn_random_fill(&session->options.random, raw, sizeof raw);
    cn_record_id_text(raw, &id);
    memcpy(id.text, prefix, strlen("resp_"));
    return id;
}

cn_session_id cn_session_id_for_key(const uint8_t tenant[CN_SESSION_TENANT_BYTES], const char *key)
{
    uint8_t raw[CN_SESSION_ID_RAW_BYTES];
    cn_session_id id;
    crypto_generichash(raw, sizeof raw, (const uint8_t *)key, strlen(key), tenant,
                       CN_SESSION_TENANT_BYTES);
    cn_record_id_text(raw, &id);
    return id;
}

bool cn_session_id_parse(const char *text, const char *prefix, cn_session_id *out)
{
    enum { DIGITS = 2 * CN_SESSION_ID_RAW_BYTES };
    const size_t prefix_len = strlen(prefix);
    if (strncmp(text, prefix, prefix_len) != 0) return false;
    if (strspn(text + prefix_len, "0123456789abcdef") != DIGITS) return false;
    if (text[prefix_len + DIGITS] != '\0') return false;
    memset(out, 0, sizeof *out);
    memcpy(out->text, text, prefix_len + DIGITS);
    return true;
}

// ---- life of a session, and of a call

cn_code cn_session_open(const cn_session_options *options, cn_session **out, cn_err *err)
{
    *out = NULL;
    if (options->record_bytes_max <= CN_RECORD_HEADER_BYTES || options->chain_max == 0 ||
        options->call_max == 0) {
        return cn_err_set(err, CN_E_INVALID,
                          "sessions: record_bytes_max %u, chain_max %u, call_max %u; must be above "
                          "%d, 0 and 0",
                          options->record_bytes_max, options->chain_max, options->call_max,
                          CN_RECORD_HEADER_BYTES);
    }
    cn_session *session = calloc(1, sizeof *session);
    if (!session) return cn_err_set(err, CN_E_MEMORY, "sessions: no memory");
    session->options = *options;
    if (options->cache_bytes > 0) {
        const uint64_t seed = cn_random_u64(&options->random);
        if (cn_turn_cache_open(options->cache_bytes, seed, &session->cache) != CN_OK) {
            free(session);
            return cn_err_set(err, CN_E_MEMORY, "sessions: no memory");
        }
    }
    list_init(&session->unsent);
    list_init(&session->finished);
    *out = session;
    return CN_OK;
}

void cn_session_close(cn_session *session)
{
    if (!session) return;
    for (cn_session_work *work = session->works; work; work = work->older) free_buffers(work);
    cn_turn_cache_close(session->cache);
    free(session);
}

static const struct {
    cn_session_step start;
    uint32_t ops; // of its largest round
} kinds[] = {
    [CN_SESSION_TURN] = {cn_session_read_turn, 1},
    [CN_SESSION_HISTORY] = {cn_session_read_history, CN_SESSION_ANCESTORS_MAX + 2},
    [CN_SESSION_COMMIT] = {cn_session_commit_start, 2},
    [CN_SESSION_REPLAY] = {cn_session_commit_replay, 2},
    [CN_SESSION_TURN_DELETE] = {cn_session_change_turn_delete, 1},
    [CN_SESSION_CONVERSATION] = {cn_session_read_conversation, 1},
    [CN_SESSION_CREATE] = {cn_session_change_create, 1},
    [CN_SESSION_UPDATE] = {cn_session_change_update, 1},
    [CN_SESSION_FORK] = {cn_session_change_fork, 2},
    [CN_SESSION_LIST] = {cn_session_list_start, CN_SESSION_ANCESTORS_MAX},
    [CN_SESSION_TREE] = {cn_session_list_tree, CN_SESSION_ANCESTORS_MAX},
};

cn_code cn_session_start(cn_session *session, cn_session_call *call)
{
    CN_ASSERT((size_t)call->kind < sizeof kinds / sizeof kinds[0]);
    if (session->in_flight == session->options.call_max) return CN_E_QUEUE;
    const uint32_t ops = kinds[call->kind].ops;
    cn_session_work *work = cn_arena_take_array(call->arena, 1, sizeof *work);
    if (work) work->ops = cn_arena_take_array(call->arena, ops, sizeof *work->ops);
    if (!work || !work->ops) return CN_E_MEMORY;
    session->in_flight++;
    work->op_capacity = ops;
    work->older = session->works;
    work->link = &session->works;
    if (work->older) work->older->link = &work->older;
    session->works = work;
    call->session_state = work;
    call->err = (cn_err){0};
    work->call = call;
    cn_buf_init(&work->turn_record, session->options.record_bytes_max);
    cn_buf_init(&work->conversation_record, session->options.record_bytes_max);
    sodium_bin2hex(work->tenant, sizeof work->tenant, call->tenant, CN_SESSION_TENANT_BYTES);
    kinds[call->kind].start(session, work);
    return CN_OK;
}

static bool send_waiting(cn_session *session)
{
    bool worked = false;
    while (session->unsent.first && send_ops(session, session->unsent.first)) {
        list_take(&session->unsent);
        worked = true;
    }
    return worked;
}

bool cn_session_poll(cn_session *session)
{
    bool worked = send_waiting(session);
    cn_store_op *op;
    while ((op = cn_store_port_next(session->options.store))) {
        cn_session_work *work = op->user;
        CN_ASSERT(work->waiting > 0);
        if (--work->waiting == 0) work->step(session, work);
        worked = true;
    }
    worked |= send_waiting(session);
    for (cn_session_work *work; (work = list_take(&session->finished));) {
        cn_session_call *call = work->call;
        session->in_flight--;
        *work->link = work->older;
        if (work->older) work->older->link = work->link;
        call->session_state = NULL;
        call->done(call); // the arena, and `work` with it, may be gone now
        worked = true;
    }
    return worked;
}
