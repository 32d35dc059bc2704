/* tests/unit/model/test_files.h: a temporary directory, and checkpoint files written into it.
 *
 * Threads: one.
 * Memory:  the directory and all files in it are removed by test_files_close. */
#pragma once

#include <dirent.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/unit/cmocka_all.h"

typedef struct test_files {
    char directory[128];
} test_files;

typedef struct test_tensor {
    const char *name;            // NULL: end of a list
    const char *dtype;
    const char *shape;           // "4, 2"
    uint32_t bytes;
} test_tensor;

static inline test_files test_files_open(void)
{
    test_files files;
    const char *base = getenv("TMPDIR");
    snprintf(files.directory, sizeof files.directory, "%s/cairn-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(files.directory));
    return files;
}

static inline void test_files_path(const test_files *files, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", files->directory, name);
}

static inline void test_files_remove(const test_files *files, const char *name)
{
    char path[512];
    test_files_path(files, name, path);
    assert_int_equal(remove(path), 0);
}

static inline void test_files_close(const test_files *files)
{
    DIR *dir = opendir(files->directory);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            test_files_remove(files, entry->d_name);
        }
    }
    closedir(dir);
    assert_int_equal(rmdir(files->directory), 0);
}

static inline void test_files_write(const test_files *files, const char *name, const void *data,
                                    size_t len)
{
    char path[512];
    test_files_path(files, name, path);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static inline void test_files_write_text(const test_files *files, const char *name,
                                         const char *text)
{
    test_files_write(files, name, text, strlen(text));
}

/* A file with this header, whatever it says, and `data_bytes` bytes 0, 1, 2, ... after it. */
static inline void test_files_write_header(const test_files *files, const char *name,
                                           const char *header, size_t header_bytes,
                                           size_t data_bytes)
{
    cn_buf buf;
    cn_buf_init(&buf, 1 << 24);
    const uint64_t length = htole64(header_bytes);
    cn_buf_add(&buf, &length, sizeof length);
    cn_buf_add(&buf, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) cn_buf_add_char(&buf, (char)i);
    assert_false(buf.overflowed);
    test_files_write(files, name, buf.data, buf.len);
    cn_buf_close(&buf);
}

/* A good file with these tensors one after another; `padding` spaces end the header. */
static inline void test_files_write_tensors(const test_files *files, const char *name,
                                            const test_tensor *tensors, uint32_t padding)
{
    cn_buf header;
    uint32_t at = 0;
    cn_buf_init(&header, 1 << 24);
    cn_buf_add_text(&header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (const test_tensor *t = tensors; t->name; t++) {
        cn_buf_add_format(&header, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [%s], "
                          "\"data_offsets\": [%u, %u]}", t->name, t->dtype, t->shape, at,
                          at + t->bytes);
        at += t->bytes;
    }
    cn_buf_add_char(&header, '}');
    while (header.len % 8 != 0) cn_buf_add_char(&header, ' ');
    for (uint32_t i = 0; i < padding; i++) cn_buf_add_char(&header, ' ');
    test_files_write_header(files, name, header.data, header.len, at);
    cn_buf_close(&header);
}
