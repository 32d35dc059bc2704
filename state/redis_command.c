#include "state/redis_command_int.h"

#include <stdio.h>
#include <string.h>

#include "state/sha1_int.h"

enum { SCAN_KEYS = 1000 };

// One GET, one SET: what reaches the append-only file is a plain SET.
const char *const cn_redis_command_script =
    "if KEYS[2] then\n"
    "  local t = redis.call('GET', KEYS[2])\n"
    "  if not t or redis.sha1hex(t) ~= ARGV[5] then return redis.error_reply('GUARDED') end\n"
    "end\n"
    "local v = redis.call('GET', KEYS[1])\n"
    "if v == ARGV[1] then return 1 end\n"
    "if ARGV[3] == '1' then\n"
    "  if v ~= ARGV[4] then return v end\n"
    "elseif v then\n"
    "  return v\n"
    "end\n"
    "if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])\n"
    "else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end\n"
    "return 1\n";

static void add_bytes(cn_buf *out, const void *data, size_t len)
{
    cn_buf_add_char(out, '$');
    cn_buf_add_u64(out, len);
    cn_buf_add(out, "\r\n", 2);
    cn_buf_add(out, data, len);
    cn_buf_add(out, "\r\n", 2);
}

static void add_text(cn_buf *out, const char *text) { add_bytes(out, text, strlen(text)); }

static void add_number(cn_buf *out, uint64_t number)
{
    char text[24];
    const int len = snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    add_bytes(out, text, (size_t)len);
}

static void begin(cn_buf *out, uint32_t words)
{
    cn_buf_add_char(out, '*');
    cn_buf_add_u64(out, words);
    cn_buf_add(out, "\r\n", 2);
}

void cn_redis_command_write_words(cn_buf *out, const char *const *words, uint32_t count)
{
    begin(out, count);
    for (uint32_t i = 0; i < count; i++) add_text(out, words[i]);
}

void cn_redis_command_write_get(cn_buf *out, const cn_store_op *op)
{
    begin(out, 2);
    add_text(out, "GET");
    add_text(out, op->key);
}

static void write_put(cn_buf *out, const cn_store_op *op)
{
    begin(out, op->life_ms ? 6 : 4);
    add_text(out, "SET");
    add_text(out, op->key);
    add_bytes(out, op->value, op->value_len);
    add_text(out, "NX");
    if (!op->life_ms) return;
    add_text(out, "PX");
    add_number(out, op->life_ms);
}

static void write_swap(cn_buf *out, const cn_store_op *op, const cn_redis_script_call *call)
{
    begin(out, call->guard ? 10 : 8);
    add_text(out, call->sha ? "EVALSHA" : "EVAL");
    add_text(out, call->sha ? call->sha : cn_redis_command_script);
    add_text(out, call->guard ? "2" : "1");
    add_text(out, op->key);
    if (call->guard) add_text(out, call->guard->key);
    add_bytes(out, op->value, op->value_len);
    add_number(out, op->life_ms);
    add_text(out, op->expected ? "1" : "0");
    add_bytes(out, op->expected, op->expected ? op->expected_len : 0);
    if (call->guard) {
        char sha[CN_SHA1_HEX_BYTES];
        cn_sha1_hex(call->guard->value, call->guard->value_len, sha);
        add_text(out, sha);
    }
}

static void write_scan(cn_buf *out, const cn_store_op *op, uint64_t cursor)
{
    char pattern[2 * CN_STORE_KEY_BYTES_MAX + 2];
    size_t len = 0;
    for (const char *at = op->key; *at; at++) {
        if (strchr("*?[]\\^-", *at)) pattern[len++] = '\\';
        pattern[len++] = *at;
    }
    pattern[len++] = '*';
    pattern[len] = '\0';
    begin(out, 6);
    add_text(out, "SCAN");
    add_number(out, cursor);
    add_text(out, "MATCH");
    add_text(out, pattern);
    add_text(out, "COUNT");
    add_number(out, SCAN_KEYS);
}

void cn_redis_command_write(cn_buf *out, const cn_store_op *op, const cn_redis_script_call *call,
                            uint64_t cursor)
{
    switch (op->kind) {
    case CN_STORE_GET:
        if (!op->life_ms) {
            cn_redis_command_write_get(out, op);
            return;
        }
        begin(out, 4);
        add_text(out, "GETEX");
        add_text(out, op->key);
        add_text(out, "PX");
        add_number(out, op->life_ms);
        return;
    case CN_STORE_PUT_NEW: write_put(out, op); return;
    case CN_STORE_SWAP: write_swap(out, op, call); return;
    case CN_STORE_DELETE:
        begin(out, 2);
        add_text(out, "DEL");
        add_text(out, op->key);
        return;
    default: write_scan(out, op, cursor); return;
    }
}

static cn_redis_verdict done(cn_store_op *op, cn_code code)
{
    op->code = op->reply.overflowed ? CN_E_LIMIT : code;
    return CN_REDIS_DONE;
}

static bool begins(const redisReply *reply, const char *word)
{
    return strncmp(reply->str, word, strlen(word)) == 0;
}

static cn_redis_verdict read_error(cn_store_op *op, const redisReply *reply)
{
    if (begins(reply, "NOSCRIPT")) return CN_REDIS_EVAL;
    if (begins(reply, "GUARDED")) return CN_REDIS_GUARDED;
    if (begins(reply, "MOVED ")) return CN_REDIS_MOVED;
    if (begins(reply, "ASK ")) return CN_REDIS_ASK;
    if (begins(reply, "OOM") || begins(reply, "MISCONF")) return done(op, CN_E_STORE_FULL);
    if (begins(reply, "WRONGTYPE")) return done(op, CN_E_CORRUPT);
    if (begins(reply, "READONLY") || begins(reply, "NOAUTH") || begins(reply, "NOPERM"))
        return CN_REDIS_ELSEWHERE;
    // LOADING, BUSY, NOREPLICAS, CLUSTERDOWN, TRYAGAIN, MASTERDOWN pass by themselves. What is not
    // known may pass as well; if it does not, the deadline ends it.
    return CN_REDIS_AGAIN;
}

// [cursor, [key, ...]]
static cn_redis_verdict read_scan(cn_store_op *op, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_ARRAY)
        return CN_REDIS_AGAIN;
    unsigned long long cursor = 0;
    if (sscanf(reply->element[0]->str, "%llu", &cursor) != 1) return CN_REDIS_AGAIN;
    for (size_t i = 0; i < reply->element[1]->elements; i++) {
        const redisReply *key = reply->element[1]->element[i];
        cn_buf_add(&op->reply, key->str, key->type == REDIS_REPLY_STRING ? (size_t)key->len : 0);
        cn_buf_add_char(&op->reply, '\n');
    }
    op->cursor = cursor;
    return done(op, CN_OK);
}

cn_redis_verdict cn_redis_command_read(cn_store_op *op, const redisReply *reply)
{
    cn_buf_clear(&op->reply);
    if (reply->type == REDIS_REPLY_ERROR) return read_error(op, reply);
    const bool is_value = reply->type == REDIS_REPLY_STRING,
               is_nil = reply->type == REDIS_REPLY_NIL;
    switch (op->kind) {
    case CN_STORE_GET:
        if (is_value) cn_buf_add(&op->reply, reply->str, (size_t)reply->len);
        return is_value ? done(op, CN_OK) : is_nil ? done(op, CN_E_NOT_FOUND) : CN_REDIS_AGAIN;
    case CN_STORE_PUT_NEW:
        if (reply->type == REDIS_REPLY_STATUS) return done(op, CN_OK);
        return is_nil ? CN_REDIS_COMPARE : CN_REDIS_AGAIN;
    case CN_STORE_SWAP:
        if (reply->type == REDIS_REPLY_INTEGER) return done(op, CN_OK);
        if (is_value) cn_buf_add(&op->reply, reply->str, (size_t)reply->len);
        return is_value || is_nil ? done(op, CN_E_CONFLICT) : CN_REDIS_AGAIN;
    case CN_STORE_DELETE:
        return reply->type == REDIS_REPLY_INTEGER ? done(op, CN_OK) : CN_REDIS_AGAIN;
    default: return read_scan(op, reply);
    }
}

cn_redis_verdict cn_redis_command_compare(cn_store_op *op, const redisReply *reply)
{
    cn_buf_clear(&op->reply);
    if (reply->type == REDIS_REPLY_ERROR) return read_error(op, reply);
    if (reply->type != REDIS_REPLY_STRING) return CN_REDIS_AGAIN;
    const size_t len = (size_t)reply->len;
    if (len == op->value_len && (len == 0 || memcmp(reply->str, op->value, len) == 0))
        return done(op, CN_OK);
    cn_buf_add(&op->reply, reply->str, len);
    return done(op, CN_E_EXISTS);
}
