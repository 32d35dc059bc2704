/* model/checkpoint_file.h: the bytes of one small file of a checkpoint directory.
 * For configuration and templates, which are read whole; weights are mapped (model/safetensors.h).
 *
 * Threads: any, nothing is kept.
 * Memory:  what read returns is the caller's, to be given to free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    CN_CHECKPOINT_FILE_BYTES_MAX = 64 << 20,
    CN_CHECKPOINT_FILE_PATH_MAX = 4096
};

/* Puts "directory/name" into `path`. Errors: CN_E_IO (the path is too long). */
cn_code cn_checkpoint_file_path(const char *directory, const char *name,
                                char path[CN_CHECKPOINT_FILE_PATH_MAX], cn_err *err);

/* Reads `directory`/`name` into *data, which is terminated. A file that does not exist is
 * CN_E_NOT_FOUND with its own text, for callers that can do without.
 * Errors: CN_E_NOT_FOUND, CN_E_IO, CN_E_FORMAT (too large), CN_E_MEMORY. */
cn_code cn_checkpoint_file_read(const char *directory, const char *name, char **data, size_t *len,
                                cn_err *err);
