#include "model/safetensors.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/map.h"
#include "model/checkpoint_file.h"

/* How it works. The file is
 *
 *    │ header_bytes: 8, little-endian │ header: JSON │ data: to the end of the file │
 *
 * and the header is {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...} with
 * offsets into data, plus strings under "__metadata__". Read in the order of their offsets the
 * tensors must follow one another without a gap and end where the file ends, so one pass over the
 * sorted list proves at once that all are inside, none overlap and nothing is hidden between them.
 * The parser reads straight from the mapping and its tree is dropped before open returns. */

struct cn_safetensors {
    char *name;
    void *map;                   // NULL until it is there
    uint64_t map_bytes;
    const unsigned char *data;
    uint64_t data_bytes;
    cn_arena arena;              // tensors and names
    cn_safetensors_tensor *tensors;
    uint32_t count;
    cn_map *by_name;             // to an index of tensors
};

// A tensor of the header with its place, until the order is known.
typedef struct span {
    cn_safetensors_tensor tensor;
    uint64_t begin, end;
} span;

static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {
    {"BF16", 16},       {"F16", 16},        {"F32", 32},        {"F64", 64},   {"BOOL", 8},
    {"I8", 8},          {"I16", 16},        {"I32", 32},        {"I64", 64},   {"U8", 8},
    {"U16", 16},        {"U32", 32},        {"U64", 64},        {"F8_E4M3", 8}, {"F8_E5M2", 8},
    {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"C64", 64},   {"F6_E2M3", 6},
    {"F6_E3M2", 6},     {"F4", 4},
};

static cn_code bad(const cn_safetensors *file, const char *tensor, cn_err *err, const char *text)
{
    return cn_err_set(err, CN_E_FORMAT, "%s: tensor %.120s %s", file->name, tensor, text);
}

static cn_code read_dtype(const cn_safetensors *file, const char *name, const json_t *value,
                          uint32_t *bits, const char **dtype, cn_err *err)
{
    const char *text = json_string_value(value);
    if (!text) return bad(file, name, err, "has a dtype that is not a string");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(dtypes[i].name, text) != 0) continue;
        *dtype = dtypes[i].name;
        *bits = dtypes[i].bits;
        return CN_OK;
    }
    return cn_err_set(err, CN_E_FORMAT,
                      "%s: tensor %.120s has dtype \"%.20s\"; the format has BF16, F16, F32 and "
                      "others, not this one", file->name, name, text);
}

static cn_code read_shape(const cn_safetensors *file, const char *name, const json_t *value,
                          cn_safetensors_tensor *tensor, uint64_t *elements, cn_err *err)
{
    if (!json_is_array(value)) return bad(file, name, err, "has a shape that is not an array");
    if (json_array_size(value) > CN_SAFETENSORS_DIMS_MAX) {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: tensor %.120s has %zu dimensions; at most %d are read", file->name,
                          name, json_array_size(value), CN_SAFETENSORS_DIMS_MAX);
    }
    *elements = 1;
    tensor->dim_count = (uint32_t)json_array_size(value);
    for (uint32_t i = 0; i < tensor->dim_count; i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0) {
            return bad(file, name, err, "has a shape whose sizes are not all integers from 0");
        }
        tensor->shape[i] = (uint64_t)json_integer_value(item);
        if (__builtin_mul_overflow(*elements, tensor->shape[i], elements)) {
            return bad(file, name, err, "has a shape whose product exceeds 64 bits");
        }
    }
    return CN_OK;
}

static cn_code read_offsets(const cn_safetensors *file, const char *name, const json_t *value,
                            span *out, cn_err *err)
{
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin)) {
        return bad(file, name, err,
                   "has data_offsets that are not two integers, begin and end, from 0");
    }
    out->begin = (uint64_t)json_integer_value(begin);
    out->end = (uint64_t)json_integer_value(end);
    if (out->end <= file->data_bytes) return CN_OK;
    return cn_err_set(
        err, CN_E_FORMAT,
        "%s: tensor %.120s ends at byte %llu of the data, but the file has only %llu; "
        "it is cut short",
        file->name, name, (unsigned long long)out->end, (unsigned long long)file->data_bytes);
}

static cn_code check_bytes(const cn_safetensors *file, const span *at, uint64_t elements,
                           uint32_t bits, cn_err *err)
{
    uint64_t all;
    if (__builtin_mul_overflow(elements, (uint64_t)bits, &all) || all % 8 != 0) {
        return bad(file, at->tensor.name, err, "has a shape that is no number of bytes in 64 bits");
    }
    if (all / 8 == at->tensor.bytes) return CN_OK;
    return cn_err_set(
        err, CN_E_FORMAT,
        "%s: tensor %.120s has data_offsets for %llu bytes; its shape and dtype %s make "
        "it %llu",
        file->name, at->tensor.name, (unsigned long long)at->tensor.bytes, at->tensor.dtype,
        (unsigned long long)(all / 8));
}

static cn_code read_tensor(cn_safetensors *file, const char *name, const json_t *value, span *out,
                           cn_err *err)
{
    const json_t *dtype = json_object_get(value, "dtype");
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    uint32_t bits = 0;
    uint64_t elements = 0;
    if (!dtype || !shape || !offsets || json_object_size(value) != 3) {
        return bad(file, name, err, "must have exactly dtype, shape and data_offsets");
    }
    cn_safetensors_tensor *tensor = &out->tensor;
    tensor->name = cn_arena_copy(&file->arena, name, strlen(name));
    if (!tensor->name) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", file->name);
    cn_code code = read_dtype(file, name, dtype, &bits, &tensor->dtype, err);
    if (code == CN_OK) code = read_shape(file, name, shape, tensor, &elements, err);
    if (code == CN_OK) code = read_offsets(file, name, offsets, out, err);
    if (code != CN_OK) return code;
    tensor->bytes = out->end - out->begin;
    tensor->data = file->data + out->begin;
    return check_bytes(file, out, elements, bits, err);
}

static cn_code check_metadata(const cn_safetensors *file, json_t *metadata, cn_err *err)
{
    const char *key;
    json_t *value;
    bool strings = json_is_object(metadata);
    json_object_foreach(metadata, key, value) strings = strings && json_is_string(value);
    if (strings) return CN_OK;
    return cn_err_set(err, CN_E_FORMAT, "%s: __metadata__: must be an object of strings",
                      file->name);
}

static int compare_spans(const void *left, const void *right)
{
    const span *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name);
}

// The proof of the essay: each begins where the one before ends, the last at the end of the file.
static cn_code check_order(const cn_safetensors *file, const span *spans, uint32_t count,
                           cn_err *err)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (spans[i].begin < at) {
            return cn_err_set(err, CN_E_FORMAT, "%s: tensor %.120s overlaps tensor %.120s",
                              file->name, spans[i].tensor.name, spans[i - 1].tensor.name);
        }
        if (spans[i].begin > at) {
            return cn_err_set(
                err, CN_E_FORMAT,
                "%s: tensor %.120s begins at byte %llu of the data; must begin at %llu, "
                "as the format allows no holes",
                file->name, spans[i].tensor.name, (unsigned long long)spans[i].begin,
                (unsigned long long)at);
        }
        at = spans[i].end;
    }
    if (at == file->data_bytes) return CN_OK;
    return cn_err_set(err, CN_E_FORMAT,
                      "%s: has %llu bytes of data; its tensors end at byte %llu", file->name,
                      (unsigned long long)file->data_bytes, (unsigned long long)at);
}

static cn_code keep_tensors(cn_safetensors *file, const span *spans, uint32_t count, cn_err *err)
{
    cn_code code = cn_map_open(count, 0, &file->by_name);
    file->tensors = cn_arena_take_array(&file->arena, count, sizeof *file->tensors);
    if (!file->tensors && count > 0) code = CN_E_MEMORY;
    for (uint32_t i = 0; i < count && code == CN_OK; i++) {
        file->tensors[i] = spans[i].tensor;
        const char *name = spans[i].tensor.name;
        code = cn_map_put(file->by_name, name, (uint32_t)strlen(name), i);
    }
    if (code != CN_OK) return cn_err_set(err, code, "%s: no memory", file->name);
    file->count = count;
    return CN_OK;
}

static cn_code read_header(cn_safetensors *file, json_t *root, cn_err *err)
{
    const char *name;
    json_t *value;
    uint32_t count = 0;
    cn_code code = CN_OK;
    span *spans = calloc(json_object_size(root) + 1, sizeof *spans);
    if (!spans) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", file->name);
    json_object_foreach(root, name, value) {
        if (strcmp(name, "__metadata__") == 0) code = check_metadata(file, value, err);
        else code = read_tensor(file, name, value, &spans[count++], err);
        if (code != CN_OK) goto out;
    }
    qsort(spans, count, sizeof *spans, compare_spans);
    code = check_order(file, spans, count, err);
    if (code == CN_OK) code = keep_tensors(file, spans, count, err);
out:
    free(spans);
    return code;
}

static cn_code parse_header(cn_safetensors *file, cn_err *err)
{
    uint64_t header_bytes;
    if (file->map_bytes < sizeof header_bytes) {
        return cn_err_set(
            err, CN_E_FORMAT,
            "%s: has %llu bytes; the format begins with 8 that give the header's length",
            file->name, (unsigned long long)file->map_bytes);
    }
    memcpy(&header_bytes, file->map, sizeof header_bytes);
    header_bytes = le64toh(header_bytes);
    if (header_bytes > CN_SAFETENSORS_HEADER_BYTES_MAX) {
        return cn_err_set(err, CN_E_FORMAT, "%s: header length: %llu; must be at most %d",
                          file->name, (unsigned long long)header_bytes,
                          CN_SAFETENSORS_HEADER_BYTES_MAX);
    }
    const uint64_t rest = file->map_bytes - sizeof header_bytes;
    if (header_bytes > rest) {
        return cn_err_set(err, CN_E_FORMAT,
                          "%s: header length: %llu; only %llu bytes follow, the file is cut short",
                          file->name, (unsigned long long)header_bytes, (unsigned long long)rest);
    }
    const char *header = (const char *)file->map + sizeof header_bytes;
    file->data = (const unsigned char *)header + header_bytes;
    file->data_bytes = rest - header_bytes;
    if (header_bytes == 0 || header[0] != '{') {
        return cn_err_set(err, CN_E_FORMAT, "%s: header: must begin with {", file->name);
    }
    json_error_t why;
    json_t *root = json_loadb(header, header_bytes, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        return cn_err_set(err, CN_E_FORMAT, "%s: header, byte %d: %s", file->name, why.position,
                          why.text);
    }
    const cn_code code = read_header(file, root, err);
    json_decref(root);
    return code;
}

static cn_code map_descriptor(cn_safetensors *file, int fd, cn_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return cn_err_set(err, CN_E_IO, "%s: %s", file->name, strerror(errno));
    if (!S_ISREG(st.st_mode)) {
        return cn_err_set(err, CN_E_IO, "%s: is not a regular file", file->name);
    }
    if (st.st_size == 0) return cn_err_set(err, CN_E_FORMAT, "%s: is empty", file->name);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) return cn_err_set(err, CN_E_IO, "%s: %s", file->name, strerror(errno));
    file->map = map;
    file->map_bytes = (uint64_t)st.st_size;
    // Advice only: a backend copies the weights once, mostly in the order of the file.
    madvise(map, (size_t)st.st_size, MADV_SEQUENTIAL);
    return CN_OK;
}

static cn_code map_file(cn_safetensors *file, const char *directory, cn_err *err)
{
    char path[CN_CHECKPOINT_FILE_PATH_MAX];
    cn_code code = cn_checkpoint_file_path(directory, file->name, path, err);
    if (code != CN_OK) return code;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        code = errno == ENOENT ? CN_E_NOT_FOUND : CN_E_IO;
        return cn_err_set(err, code, "%s: %s in %s", file->name, strerror(errno), directory);
    }
    code = map_descriptor(file, fd, err);
    close(fd);
    return code;
}

cn_code cn_safetensors_open(const char *directory, const char *name, cn_safetensors **out,
                            cn_err *err)
{
    *out = NULL;
    cn_safetensors *file = calloc(1, sizeof *file);
    if (!file) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", name);
    // A name of the header is copied once, a record is larger than the text that asks for it.
    cn_arena_init(&file->arena, 16 * (uint64_t)CN_SAFETENSORS_HEADER_BYTES_MAX);
    file->name = strdup(name);
    cn_code code = file->name ? CN_OK : cn_err_set(err, CN_E_MEMORY, "%s: no memory", name);
    if (code == CN_OK) code = map_file(file, directory, err);
    if (code == CN_OK) code = parse_header(file, err);
    if (code == CN_OK) *out = file;
    else cn_safetensors_close(file);
    return code;
}

void cn_safetensors_close(cn_safetensors *file)
{
    if (!file) return;
    if (file->map) munmap(file->map, file->map_bytes);
    cn_map_close(file->by_name);
    cn_arena_close(&file->arena);
    free(file->name);
    free(file);
}

const char *cn_safetensors_name(const cn_safetensors *file) { return file->name; }

uint32_t cn_safetensors_count(const cn_safetensors *file) { return file->count; }

const cn_safetensors_tensor *cn_safetensors_at(const cn_safetensors *file, uint32_t index)
{
    CN_ASSERT(index < file->count);
    return &file->tensors[index];
}

const cn_safetensors_tensor *cn_safetensors_find(const cn_safetensors *file, const char *name)
{
    uint64_t index;
    if (!cn_map_find(file->by_name, name, (uint32_t)strlen(name), &index)) return NULL;
    return &file->tensors[index];
}
