/* appliance/keys.h: the API keys of a configuration, read from its list and its keys file, and read
 * again while the server runs.
 *
 * Threads: main only.
 * Memory:  a keys file (dataplane/key_file.h) while it is read. */
#pragma once

#include <sys/stat.h>

#include "appliance/config.h"
#include "base/log.h"
#include "dataplane/api.h"

/* Reads all keys; the caller closes *out. Errors: CN_E_IO, CN_E_INVALID (place, key or member, value),
 * CN_E_MEMORY. */
cn_code cn_keys_read(const cn_config_settings *settings, cn_key_file **out, cn_err *err);
/* The whole of a keys file, which the caller frees. Errors: CN_E_IO, CN_E_INVALID (too large). */
cn_code cn_keys_load(const char *path, char **out, size_t *len, cn_err *err);

/* The keys of a server that runs. */
typedef struct cn_keys_watch {
    const cn_config_settings *settings;
    cn_api *api;
    const cn_log *log;
    struct stat seen;            // of the file when it was read
} cn_keys_watch;

/* The server has the keys of now; all borrowed. */
void cn_keys_watch_init(cn_keys_watch *watch, const cn_config_settings *settings, cn_api *api,
                        const cn_log *log);
/* Reads the keys again if the file is another one than before; call once a second or so. */
void cn_keys_watch_poll(cn_keys_watch *watch);
/* Reads them in any case. What cannot be read is logged, and the keys stay what they were. False then. */
bool cn_keys_watch_reload(cn_keys_watch *watch);
