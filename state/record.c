#include "state/record.h"

#include <assert.h>
#include <string.h>

#include <sodium.h>
#include <xxhash.h>

#include "base/assert.h"
#include "proto/cairn.pb-c.h"

/* A record that an appliance of today cannot read whole raises READER_MIN; other changes raise
 * VERSION alone. */
enum { CN_RECORD_VERSION = 1, CN_RECORD_READER_MIN = 1 };

enum { KIND_TURN = 'T', KIND_CONVERSATION = 'C', ID_PREFIX = 5 };

typedef struct header {
    uint8_t magic[3], kind;
    uint16_t version, reader_min;
    uint32_t body_bytes, zero;
    uint64_t checksum;
} header;

static_assert(sizeof(header) == CN_RECORD_HEADER_BYTES, "the form of a record");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "records are written as they lie in memory");
static_assert(sizeof(size_t) >= 8, "lengths of a record cannot overflow");

// The hash of name and header is the seed of that of the body.
static uint64_t checksum(const header *h, const cn_session_id *name, const void *body)
{
    char outside[sizeof name->text + offsetof(header, checksum)];
    memcpy(outside, name->text, sizeof name->text);
    memcpy(outside + sizeof name->text, h, offsetof(header, checksum));
    return XXH3_64bits_withSeed(body, h->body_bytes, XXH3_64bits(outside, sizeof outside));
}

void cn_record_id_text(const uint8_t raw[CN_SESSION_ID_RAW_BYTES], cn_session_id *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->text, "resp_", ID_PREFIX);
    sodium_bin2hex(out->text + ID_PREFIX, sizeof out->text - ID_PREFIX, raw,
                   CN_SESSION_ID_RAW_BYTES);
}

void cn_record_id_raw(const cn_session_id *id, uint8_t out[CN_SESSION_ID_RAW_BYTES])
{
    const int bad = sodium_hex2bin(out, CN_SESSION_ID_RAW_BYTES, id->text + ID_PREFIX,
                                   2 * CN_SESSION_ID_RAW_BYTES, NULL, NULL, NULL);
    CN_ASSERT(bad == 0);
}

// ---- writing

static cn_code write_record(uint8_t kind, const cn_session_id *id, const ProtobufCMessage *message,
                            cn_buf *out, cn_err *err)
{
    const size_t body = protobuf_c_message_get_packed_size(message);
    const size_t bytes = sizeof(header) + body;
    if (bytes > out->bytes_max - out->len) {
        return cn_err_set(err, CN_E_LIMIT, "%s: %zu bytes as a record; at most %zu can be stored",
                          id->text, bytes, out->bytes_max);
    }
    uint8_t *at = (uint8_t *)cn_buf_reserve(out, bytes);
    if (!at) return cn_err_set(err, CN_E_MEMORY, "%s: no memory for a record", id->text);
    header h = {
        {'C', 'N', 'r'}, kind, CN_RECORD_VERSION, CN_RECORD_READER_MIN, (uint32_t)body, 0, 0};
    protobuf_c_message_pack(message, at + sizeof h);
    h.checksum = checksum(&h, id, at + sizeof h);
    memcpy(at, &h, sizeof h);
    cn_buf_advance(out, bytes);
    return CN_OK;
}

// protobuf-c's structs have no const; nothing is written through these pointers.
static ProtobufCBinaryData binary(cn_bytes bytes)
{
    return (ProtobufCBinaryData){bytes.len, (uint8_t *)(uintptr_t)bytes.data};
}

static char *text_of(const cn_session_id *id)
{
    return (char *)(uintptr_t)id->text;
}

static ProtobufCBinaryData *binaries(cn_arena *arena, const cn_bytes *items, uint32_t count)
{
    ProtobufCBinaryData *out = cn_arena_take_array(arena, count, sizeof *out);
    for (uint32_t i = 0; out && i < count; i++) out[i] = binary(items[i]);
    return out;
}

cn_code cn_record_write_turn(const cn_turn *turn, cn_arena *arena, cn_buf *out, cn_err *err)
{
    Cairn__Turn message = CAIRN__TURN__INIT;
    message.id = text_of(&turn->id);
    message.state = turn->withdrawn ? CAIRN__TURN__STATE__WITHDRAWN
                    : turn->deleted ? CAIRN__TURN__STATE__DELETED
                                    : CAIRN__TURN__STATE__WHOLE;
    if (turn->withdrawn) return write_record(KIND_TURN, &turn->id, &message.base, out, err);
    message.ancestors.data = (uint8_t *)(uintptr_t)turn->ancestors;
    message.ancestors.len = (size_t)turn->ancestor_count * CN_SESSION_ID_RAW_BYTES;
    message.depth = turn->depth;
    message.conversation = text_of(&turn->conversation);
    message.created_s = turn->created_s;
    message.completed_s = turn->completed_s;
    message.kept_s = turn->kept_s;
    message.response = binary(turn->response);
    message.n_input = turn->input_count;
    message.input = binaries(arena, turn->input, turn->input_count);
    message.n_output = turn->output_count;
    message.output = binaries(arena, turn->output, turn->output_count);
    if (!message.input || !message.output) {
        return cn_err_set(err, CN_E_MEMORY, "%s: no memory for its items", turn->id.text);
    }
    message.text = binary(turn->text);
    message.n_tokens = turn->token_count;
    message.tokens = (int32_t *)(uintptr_t)turn->tokens;
    message.output_token_count = turn->output_token_count;
    message.resets_text = turn->resets_text;
    message.seam_messages = turn->seam.messages;
    message.seam_bytes = turn->seam.bytes;
    message.seam_digest.data = (uint8_t *)(uintptr_t)turn->seam.digest;
    message.seam_digest.len = turn->seam.messages ? sizeof turn->seam.digest : 0;
    message.settings = binary(turn->settings);
    message.request_digest.data = (uint8_t *)(uintptr_t)turn->request_digest;
    message.request_digest.len = sizeof turn->request_digest;
    return write_record(KIND_TURN, &turn->id, &message.base, out, err);
}

cn_code cn_record_write_conversation(const cn_conversation *c, cn_buf *out, cn_err *err)
{
    Cairn__Conversation message = CAIRN__CONVERSATION__INIT;
    message.id = text_of(&c->id);
    message.head = text_of(&c->head);
    message.root = text_of(&c->root);
    message.revision = c->revision;
    message.created_s = c->created_s;
    message.kept_s = c->kept_s;
    message.metadata = binary(c->metadata);
    message.deleted_items = binary(c->deleted_items);
    message.deleted = c->deleted;
    message.forked_from = text_of(&c->forked_from);
    message.forked_at = text_of(&c->forked_at);
    message.request_digest.data = (uint8_t *)(uintptr_t)c->request_digest;
    message.request_digest.len = sizeof c->request_digest;
    return write_record(KIND_CONVERSATION, &c->id, &message.base, out, err);
}

// ---- reading

typedef struct space {
    cn_arena *arena;
    bool ran_out;
} space;

static void *space_take(void *self, size_t bytes)
{
    space *s = self;
    void *piece = cn_arena_take(s->arena, bytes);
    if (!piece) s->ran_out = true;
    return piece;
}

static void space_put(void *self, void *memory)
{
    (void)self;
    (void)memory;
}

static cn_code corrupt(cn_err *err, const cn_session_id *id, const char *what)
{
    return cn_err_set(err, CN_E_CORRUPT, "%s: its record %s", id->text, what);
}

static cn_code too_much(cn_err *err, const cn_session_id *id, const cn_arena *arena)
{
    return cn_err_set(err, CN_E_LIMIT, "%s: more than the %llu bytes that one request may use",
                      id->text, (unsigned long long)arena->bytes_max);
}

/* Checks everything outside of the message, then unpacks it. */
static cn_code read_record(uint8_t kind, const void *data, size_t len, const cn_session_id *id,
                           const ProtobufCMessageDescriptor *type, cn_arena *arena,
                           ProtobufCMessage **out, cn_err *err)
{
    header h;
    const uint8_t *body = (const uint8_t *)data + sizeof h;
    if (len < sizeof h) return corrupt(err, id, "is shorter than its header");
    memcpy(&h, data, sizeof h);
    if (memcmp(h.magic, "CNr", sizeof h.magic) != 0 || h.kind != kind) {
        return corrupt(err, id, "is something else");
    }
    if (h.reader_min > CN_RECORD_VERSION) {
        return cn_err_set(err, CN_E_CORRUPT,
                          "%s: its record is of version %u, for readers from version %u on; this "
                          "Cairn reads version %d",
                          id->text, h.version, h.reader_min, CN_RECORD_VERSION);
    }
    if (h.zero != 0 || h.body_bytes != len - sizeof h)
        return corrupt(err, id, "has another length");
    if (h.checksum != checksum(&h, id, body)) return corrupt(err, id, "fails its checksum");
    space s = {arena, false};
    ProtobufCAllocator allocator = {space_take, space_put, &s};
    *out = protobuf_c_message_unpack(type, &allocator, h.body_bytes, body);
    if (s.ran_out) return too_much(err, id, arena);
    return *out ? CN_OK : corrupt(err, id, "is no message");
}

// "" is an id that is absent.
static bool read_id(const char *text, const char *prefix, cn_session_id *out)
{
    if (text[0]) return cn_session_id_parse(text, prefix, out);
    memset(out, 0, sizeof *out);
    return true;
}

static bool read_bytes(ProtobufCBinaryData in, cn_bytes *out)
{
    out->data = (const char *)in.data;
    out->len = (uint32_t)in.len;
    return in.len <= UINT32_MAX;
}

static cn_bytes *read_items(cn_arena *arena, const ProtobufCBinaryData *items, size_t count)
{
    cn_bytes *out = cn_arena_take_array(arena, count, sizeof *out);
    for (size_t i = 0; out && i < count; i++) read_bytes(items[i], &out[i]);
    return out;
}

static bool tokens_are_ids(const int32_t *tokens, size_t count)
{
    int32_t all = 0;
    for (size_t i = 0; i < count; i++) all |= tokens[i];
    return all >= 0;
}

static bool read_ancestors(const Cairn__Turn *m, cn_turn *out)
{
    const size_t count = m->ancestors.len / CN_SESSION_ID_RAW_BYTES;
    const uint32_t above = m->depth - 1;
    if (m->depth == 0 || m->ancestors.len % CN_SESSION_ID_RAW_BYTES != 0) return false;
    if (count != (above < CN_SESSION_ANCESTORS_MAX ? above : CN_SESSION_ANCESTORS_MAX))
        return false;
    out->depth = m->depth;
    out->ancestors = m->ancestors.data;
    out->ancestor_count = (uint32_t)count;
    if (count > 0) cn_record_id_text(m->ancestors.data, &out->parent);
    return true;
}

// Absent in records of an older Cairn.
static bool read_seam(const Cairn__Turn *m, cn_turn_seam *out)
{
    if (m->seam_messages == 0) return true;
    if (m->seam_digest.len != sizeof out->digest || m->seam_bytes > m->text.len) return false;
    out->messages = m->seam_messages;
    out->bytes = m->seam_bytes;
    memcpy(out->digest, m->seam_digest.data, sizeof out->digest);
    return true;
}

cn_code cn_record_read_turn(const void *data, size_t len, const cn_session_id *id, cn_arena *arena,
                            cn_turn *out, cn_err *err)
{
    ProtobufCMessage *base;
    memset(out, 0, sizeof *out);
    const cn_code code =
        read_record(KIND_TURN, data, len, id, &cairn__turn__descriptor, arena, &base, err);
    if (code != CN_OK) return code;
    const Cairn__Turn *m = (const Cairn__Turn *)base;
    if (strcmp(m->id, id->text) != 0) return corrupt(err, id, "has another id");
    out->id = *id;
    out->withdrawn = m->state == CAIRN__TURN__STATE__WITHDRAWN;
    out->deleted = m->state == CAIRN__TURN__STATE__DELETED;
    if (out->withdrawn) return CN_OK;
    if (!out->deleted && m->state != CAIRN__TURN__STATE__WHOLE) {
        return corrupt(err, id, "is in no known state");
    }
    if (!read_ancestors(m, out)) return corrupt(err, id, "has ancestors that do not fit its depth");
    if (!read_id(m->conversation, "conv_", &out->conversation)) {
        return corrupt(err, id, "names no conversation");
    }
    const bool fits = read_bytes(m->response, &out->response) && read_bytes(m->text, &out->text) &&
                      read_bytes(m->settings, &out->settings) && m->n_tokens <= UINT32_MAX &&
                      m->output_token_count <= m->n_tokens && m->n_input <= UINT32_MAX &&
                      m->n_output <= UINT32_MAX &&
                      m->request_digest.len == sizeof out->request_digest &&
                      tokens_are_ids(m->tokens, m->n_tokens) && read_seam(m, &out->seam);
    if (!fits) return corrupt(err, id, "has a value out of bounds");
    out->created_s = m->created_s;
    out->completed_s = m->completed_s;
    out->kept_s = m->kept_s;
    out->input = read_items(arena, m->input, m->n_input);
    out->input_count = (uint32_t)m->n_input;
    out->output = read_items(arena, m->output, m->n_output);
    out->output_count = (uint32_t)m->n_output;
    if (!out->input || !out->output) return too_much(err, id, arena);
    out->tokens = m->tokens;
    out->token_count = (uint32_t)m->n_tokens;
    out->output_token_count = m->output_token_count;
    out->resets_text = m->resets_text;
    memcpy(out->request_digest, m->request_digest.data, sizeof out->request_digest);
    return CN_OK;
}

cn_code cn_record_read_conversation(const void *data, size_t len, const cn_session_id *id,
                                    cn_arena *arena, cn_conversation *out, cn_err *err)
{
    ProtobufCMessage *base;
    memset(out, 0, sizeof *out);
    const cn_code code = read_record(KIND_CONVERSATION, data, len, id,
                                     &cairn__conversation__descriptor, arena, &base, err);
    if (code != CN_OK) return code;
    const Cairn__Conversation *m = (const Cairn__Conversation *)base;
    if (strcmp(m->id, id->text) != 0) return corrupt(err, id, "has another id");
    out->id = *id;
    const bool fits = read_id(m->head, "resp_", &out->head) &&
                      read_id(m->root, "resp_", &out->root) &&
                      read_id(m->forked_from, "conv_", &out->forked_from) &&
                      read_id(m->forked_at, "resp_", &out->forked_at) &&
                      read_bytes(m->metadata, &out->metadata) &&
                      read_bytes(m->deleted_items, &out->deleted_items) && m->revision > 0 &&
                      m->request_digest.len <= sizeof out->request_digest;
    if (!fits) return corrupt(err, id, "has a value out of bounds");
    // Records of an older Cairn have none.
    if (m->request_digest.len) memcpy(out->request_digest, m->request_digest.data, m->request_digest.len);
    out->revision = m->revision;
    out->created_s = m->created_s;
    out->kept_s = m->kept_s;
    out->deleted = m->deleted;
    char *copy = cn_arena_copy(arena, data, len);
    if (!copy) return too_much(err, id, arena);
    out->stored = (cn_bytes){copy, (uint32_t)len};
    return CN_OK;
}
