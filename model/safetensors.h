/* model/safetensors.h: one file of tensors, mapped and checked.
 * The whole header is validated before anything is handed out: every tensor lies inside the file,
 * its shape and dtype give its bytes, and the tensors cover the data without overlap or hole, as
 * the format demands. What the numbers mean is for others to say.
 *
 * A file that is made shorter while it is mapped raises SIGBUS at the next read of what is gone; no
 * check can prevent that. Checkpoints are to be replaced by rename, as every tool does it.
 *
 * Threads: open on one thread; read-only afterwards.
 * Memory:  the mapping, and about 150 bytes per tensor. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    CN_SAFETENSORS_HEADER_BYTES_MAX = 100000000,     // the format's own limit
    CN_SAFETENSORS_DIMS_MAX = 8
};

typedef struct cn_safetensors cn_safetensors;

typedef struct cn_safetensors_tensor {
    const char *name;
    const char *dtype;           // "BF16", as the format names it
    const void *data;            // in the mapping, aligned to nothing
    uint64_t bytes;
    uint32_t dim_count;
    uint64_t shape[CN_SAFETENSORS_DIMS_MAX];
} cn_safetensors_tensor;

/* Maps `directory`/`name`, which is copied. The caller owns *out until close.
 * Errors: CN_E_NOT_FOUND, CN_E_IO, CN_E_FORMAT, CN_E_MEMORY. */
cn_code cn_safetensors_open(const char *directory, const char *name, cn_safetensors **out,
                            cn_err *err);
void cn_safetensors_close(cn_safetensors *file);

const char *cn_safetensors_name(const cn_safetensors *file);
uint32_t cn_safetensors_count(const cn_safetensors *file);
/* In the order of their data; borrowed from the file. */
const cn_safetensors_tensor *cn_safetensors_at(const cn_safetensors *file, uint32_t index);
/* NULL if the file has no such tensor. */
const cn_safetensors_tensor *cn_safetensors_find(const cn_safetensors *file, const char *name);
