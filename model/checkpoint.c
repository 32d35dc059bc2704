#include "model/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "model/checkpoint_text.h"
#include "model/checkpoint_weights.h"
#include "model/model_config.h"
#include "model/generation.h"
#include "model/json_file.h"

struct cn_checkpoint {
    cn_arena arena;              // frequencies, layers, template and tokens
    cn_model_config config;
    cn_generation_defaults generation;
    cn_checkpoint_text text;
    cn_checkpoint_weights *weights;      // NULL after drop_weights
    uint64_t parameter_count;
};

// Of the arena: a template and tokens (at most two files' worth) and 1,024 layers.
enum { ARENA_BYTES_MAX = 512 << 20 };

static cn_code check_directory(const char *directory, cn_err *err)
{
    struct stat st;
    if (stat(directory, &st) != 0) {
        return cn_err_set(err, CN_E_IO, "%s: %s", directory, strerror(errno));
    }
    if (S_ISDIR(st.st_mode)) return CN_OK;
    return cn_err_set(err, CN_E_IO, "%s: is not a directory; must be the directory of a checkpoint",
                      directory);
}

static cn_code read_configuration(cn_checkpoint *checkpoint, const char *directory, cn_err *err)
{
    cn_json_file file;
    cn_code code = cn_json_file_open(directory, "config.json", &file, err);
    if (code == CN_E_NOT_FOUND) {
        return cn_err_set(err, CN_E_IO, "config.json: no such file in %s", directory);
    }
    if (code != CN_OK) return code;
    const cn_json_object root = cn_json_file_root(&file);
    code = cn_model_config_read(&root, &checkpoint->arena, &checkpoint->config, err);
    if (code == CN_OK) {
        code =
            cn_generation_read(directory, &root, &checkpoint->config, &checkpoint->generation, err);
    }
    cn_json_file_close(&file);
    return code;
}

cn_code cn_checkpoint_open(const char *directory, cn_checkpoint **out, cn_err *err)
{
    *out = NULL;
    cn_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint) return cn_err_set(err, CN_E_MEMORY, "%s: no memory", directory);
    cn_arena_init(&checkpoint->arena, ARENA_BYTES_MAX);
    cn_code code = check_directory(directory, err);
    if (code == CN_OK) code = read_configuration(checkpoint, directory, err);
    if (code == CN_OK) {
        code = cn_checkpoint_text_read(directory, &checkpoint->arena, &checkpoint->text, err);
    }
    if (code == CN_OK) {
        code = cn_checkpoint_weights_open(directory, &checkpoint->config, &checkpoint->arena,
                                          &checkpoint->weights, err);
    }
    if (code != CN_OK) {
        cn_checkpoint_close(checkpoint);
        return code;
    }
    checkpoint->parameter_count = cn_checkpoint_weights_parameter_count(checkpoint->weights);
    *out = checkpoint;
    return CN_OK;
}

void cn_checkpoint_close(cn_checkpoint *checkpoint)
{
    if (!checkpoint) return;
    cn_checkpoint_weights_close(checkpoint->weights);
    cn_arena_close(&checkpoint->arena);
    free(checkpoint);
}

const cn_model_spec *cn_checkpoint_spec(const cn_checkpoint *checkpoint)
{
    return &checkpoint->config.spec;
}

const cn_generation_defaults *cn_checkpoint_generation(const cn_checkpoint *checkpoint)
{
    return &checkpoint->generation;
}

const char *cn_checkpoint_family(const cn_checkpoint *checkpoint)
{
    return checkpoint->config.family->name;
}

uint64_t cn_checkpoint_parameter_count(const cn_checkpoint *checkpoint)
{
    return checkpoint->parameter_count;
}

const char *cn_checkpoint_chat_template(const cn_checkpoint *checkpoint, size_t *len)
{
    *len = checkpoint->text.chat_template_len;
    return checkpoint->text.chat_template;
}

const char *cn_checkpoint_special_token(const cn_checkpoint *checkpoint, const char *name)
{
    return cn_checkpoint_text_token(&checkpoint->text, name);
}

void cn_checkpoint_drop_weights(cn_checkpoint *checkpoint)
{
    cn_checkpoint_weights_close(checkpoint->weights);
    checkpoint->weights = NULL;
    // Whoever still reads a tensor meets a NULL and not another mapping.
    cn_model_spec *spec = &checkpoint->config.spec;
    spec->embed.data = spec->final_norm.data = spec->head.data = NULL;
    spec->layers = NULL;
}
