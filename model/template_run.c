#include "model/template_run_int.h"

#include <stdarg.h>
#include <stdio.h>

#include "model/template_ast_int.h"

/* How it works. Output goes to the caller's buffer unless a capture is open; captures nest, and all
 * of them live one behind the other in one growing piece of the arena: begin notes where a capture
 * starts, end copies what follows and cuts it off.
 *
 * grow makes `ns.text = ns.text + piece` linear. A longer string or list is written into an
 * allocation with room to spare, and the last few such allocations are remembered as tails. If the
 * next growth starts from a value that ends exactly where a tail ends, only the new part is
 * written: the old value keeps its length and so never sees the bytes behind it. */

enum { BYTES_PER_STEP = 64 };

cn_value cn_template_run_fail(cn_run *run, cn_code code, const char *format, ...)
{
    char sentence[sizeof run->err->text];
    if (run->code) return make_bad();
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    run->code = cn_err_set(run->err, code, "%s:%u: %s", run->tmpl->name, run->line, sentence);
    return make_bad();
}

cn_value cn_template_run_invalid(cn_run *run, const char *format, ...)
{
    char sentence[sizeof run->err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return cn_template_run_fail(run, CN_E_INVALID, "%s", sentence);
}

cn_value cn_template_run_undefined(cn_run *run, cn_value undefined)
{
    const int len = undefined.len < 200 ? (int)undefined.len : 200;
    const char *text = undefined.as.text;
    const cn_value of = {.kind = (uint8_t)undefined.of, .flags = CN_VIEW_KEYS};
    const char *type = undefined.of == CN_NONE ? "None" : cn_template_value_type(of);
    const char *object = undefined.of == CN_NONE ? "" : " object";
    switch (undefined.flags) {
    case CN_NO_NAME: return cn_template_run_invalid(run, "'%.*s' is undefined", len, text);
    case CN_NO_ATTRIBUTE:
        return cn_template_run_invalid(run, "'%s%s' has no attribute '%.*s'", type, object, len,
                                       text);
    case CN_NO_ELEMENT:
        return cn_template_run_invalid(run, "%s%s has no element %lld", type, object,
                                       (long long)undefined.as.integer);
    default: return cn_template_run_invalid(run, "%.*s", len, text);
    }
}

bool cn_template_run_charge(cn_run *run, uint64_t steps)
{
    if (steps <= run->steps_left) {
        run->steps_left -= steps;
        return true;
    }
    run->steps_left = 0;
    cn_template_run_fail(run, CN_E_LIMIT, "the template takes more than %llu steps",
                         (unsigned long long)run->steps_max);
    return false;
}

bool cn_template_run_charge_bytes(cn_run *run, uint64_t bytes)
{
    return cn_template_run_charge(run, bytes / BYTES_PER_STEP);
}

bool cn_template_run_enter(cn_run *run)
{
    if (run->nested >= CN_NESTED_MAX) {
        cn_template_run_fail(run, CN_E_LIMIT, "expressions or values are nested more than %d deep",
                             CN_NESTED_MAX);
        return false;
    }
    run->nested++;
    return true;
}

void *cn_template_run_take(cn_run *run, size_t count, size_t size)
{
    size_t bytes;
    // Lengths of strings and lists have 32 bits.
    const bool fits = !__builtin_mul_overflow(count, size, &bytes) && bytes < UINT32_MAX;
    void *piece = NULL;
    if (fits && cn_template_run_charge_bytes(run, bytes)) piece = cn_arena_take(run->arena, bytes);
    if (piece || run->code) return piece;
    const bool bounded = !fits || bytes > run->arena->bytes_max - run->arena->total_bytes;
    cn_template_run_fail(run, bounded ? CN_E_LIMIT : CN_E_MEMORY,
                         "the template needs more than %llu bytes of memory",
                         (unsigned long long)run->arena->bytes_max);
    return NULL;
}

void *cn_template_run_grow(cn_run *run, const void *at, size_t bytes, size_t more)
{
    const char *start = at;
    for (uint32_t i = 0; bytes && i < CN_TAILS; i++) {
        cn_tail *tail = &run->tails[i];
        if (tail->end != start + bytes || start < tail->start || more > tail->spare) continue;
        if (!cn_template_run_charge_bytes(run, more)) return NULL;
        tail->end += more;
        tail->spare -= more;
        return (void *)(uintptr_t)start;
    }
    // Short results are mostly built once; only what keeps growing gets room to spare.
    const size_t spare = bytes >= 256 ? bytes + more : 0;
    char *piece = cn_template_run_take(run, bytes + more + spare, 1);
    if (!piece) return NULL;
    if (bytes) memcpy(piece, start, bytes);
    if (spare) {
        run->tails[run->tail_next++ % CN_TAILS] =
            (cn_tail){.start = piece, .end = piece + bytes + more, .spare = spare};
    }
    return piece;
}

static bool capture(cn_run *run, const char *at, size_t len)
{
    if (len > run->capture_capacity - run->capture_len) {
        size_t capacity = run->capture_capacity ? run->capture_capacity * 2 : 1024;
        while (capacity < run->capture_len + len) capacity *= 2;
        char *larger = cn_template_run_take(run, capacity, 1);
        if (!larger) return false;
        if (run->capture_len) memcpy(larger, run->capture, run->capture_len);
        run->capture = larger;
        run->capture_capacity = capacity;
    }
    memcpy(run->capture + run->capture_len, at, len);
    run->capture_len += len;
    return true;
}

bool cn_template_run_emit(cn_run *run, const char *at, size_t len)
{
    if (run->code) return false;
    if (!len) return true;
    if (!cn_template_run_charge_bytes(run, len)) return false;
    if (run->captures) return capture(run, at, len);
    cn_buf_add(run->out, at, len);
    if (!run->out->overflowed) return true;
    cn_template_run_fail(run, CN_E_LIMIT, "the template writes more than %zu bytes",
                         run->out->bytes_max);
    return false;
}

bool cn_template_run_emit_text(cn_run *run, const char *text)
{
    return cn_template_run_emit(run, text, strlen(text));
}

size_t cn_template_run_begin(cn_run *run)
{
    run->captures++;
    return run->capture_len;
}

cn_value cn_template_run_end(cn_run *run, size_t mark)
{
    const size_t len = run->capture_len - mark;
    run->captures--;
    if (run->code) return make_bad();
    char *text = cn_template_run_take(run, len, 1);
    if (!text) return make_bad();
    if (len) memcpy(text, run->capture + mark, len);
    run->capture_len = mark;
    return make_text(text, len);
}

static cn_value import_array(cn_run *run, const json_t *json)
{
    const size_t count = json_array_size(json);
    cn_value *items = cn_template_run_take(run, count, sizeof *items);
    if (!items) return make_bad();
    for (size_t i = 0; i < count; i++) {
        items[i] = cn_template_run_import(run, json_array_get(json, i));
        if (is_bad(items[i])) return make_bad();
    }
    return make_items(CN_LIST, items, count);
}

static cn_value import_object(cn_run *run, const json_t *json)
{
    const char *key;
    size_t key_len;
    json_t *member;
    cn_dict *dict = cn_template_value_dict(run, (uint32_t)json_object_size(json));
    if (!dict) return make_bad();
    json_object_keylen_foreach((json_t *)(uintptr_t)json, key, key_len, member)
    {
        const cn_value value = cn_template_run_import(run, member);
        if (is_bad(value)) return value;
        if (!cn_template_value_add(run, dict, (cn_text){key, key_len}, value)) return make_bad();
    }
    return make_dict(CN_DICT, dict);
}

cn_value cn_template_run_import(cn_run *run, const json_t *json)
{
    cn_value value = make_none();
    switch (json_typeof(json)) {
    case JSON_NULL: return make_none();
    case JSON_TRUE: return make_bool(true);
    case JSON_FALSE: return make_bool(false);
    case JSON_INTEGER: return make_int(json_integer_value(json));
    case JSON_REAL: return make_float(json_real_value(json));
    case JSON_STRING: return make_text(json_string_value(json), json_string_length(json));
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    if (!cn_template_run_charge(run, 1) || !cn_template_run_enter(run)) return make_bad();
    value = json_is_array(json) ? import_array(run, json) : import_object(run, json);
    leave(run);
    return value;
}

static cn_value load_global(cn_run *run, uint32_t name)
{
    const cn_text text = run->tmpl->names[name];
    const json_t *json = json_object_getn(run->variables, text.at, text.len);
    cn_value value = json ? cn_template_run_import(run, json) : cn_template_globals_find(run, text);
    if (is_missing(value)) {
        value = (cn_value){.kind = CN_UNDEFINED, .flags = CN_NO_NAME, .len = (uint32_t)text.len,
                           .as.text = text.at};
    }
    run->globals[name] = value;
    return value;
}

cn_value cn_template_run_load(cn_run *run, uint32_t name)
{
    for (const cn_scope *scope = run->scope; scope; scope = scope->parent) {
        for (uint32_t i = scope->count; i-- > 0;) {
            if (scope->bindings[i].name == name) return scope->bindings[i].value;
        }
    }
    const cn_value value = run->globals[name];
    return is_missing(value) ? load_global(run, name) : value;
}

bool cn_template_run_store(cn_run *run, uint32_t name, cn_value value)
{
    cn_scope *scope = run->scope;
    if (!scope) {
        run->globals[name] = value;
        return true;
    }
    for (uint32_t i = 0; i < scope->count; i++) {
        if (scope->bindings[i].name != name) continue;
        scope->bindings[i].value = value;
        return true;
    }
    if (scope->count == scope->capacity) {
        const uint32_t capacity = scope->capacity ? scope->capacity * 2 : 4;
        cn_binding *bindings = cn_template_run_take(run, capacity, sizeof *bindings);
        if (!bindings) return false;
        if (scope->count) memcpy(bindings, scope->bindings, scope->count * sizeof *bindings);
        scope->bindings = bindings;
        scope->capacity = capacity;
    }
    scope->bindings[scope->count++] = (cn_binding){.name = name, .value = value};
    return true;
}
