#include "appliance/state.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state/redis_private.h"
#include "state/store_redis.h"

enum { OPS_OF_PORT = 1024 };

struct cn_state {
    cn_state_options options;
    cn_durability durability;
    char password[CN_STATE_PASSWORD_BYTES];
    cn_redis_private *servers;       // NULL: none of our own
    cn_store *store;                 // NULL: none
};

void cn_state_directory(const cn_config_settings *c, char *out, size_t bytes)
{
    const char *given = c->state_directory[0] ? c->state_directory : getenv("STATE_DIRECTORY");
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (given && given[0]) snprintf(out, bytes, "%s", given);
    else if (state && state[0]) snprintf(out, bytes, "%s/cairn", state);
    else if (home && home[0]) snprintf(out, bytes, "%s/.local/state/cairn", home);
    else snprintf(out, bytes, "/var/lib/cairn");
}

// A 64th of the machine's memory for the log, an eighth for pages, unless configured.
static uint64_t memory_share(uint64_t configured, uint64_t part)
{
    const uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
    return configured ? configured : all / part;
}

static cn_code open_private(cn_state *s, cn_err *err)
{
    const cn_config_settings *c = s->options.settings;
    char directory[1024];
    cn_state_directory(c, directory, sizeof directory);
    const cn_redis_private_options options = {
        .directory = directory,
        .durability = s->durability,
        .log_bytes = memory_share(c->state_log_bytes, 64),
        .page_bytes = memory_share(c->state_page_bytes, 8),
        .clock = s->options.clock,
        .logger = s->options.logger,
    };
    cn_err why = {0};
    const cn_code code = cn_redis_private_open(&options, &s->servers, &why);
    if (code == CN_E_IO) {
        // The model is served all the same: what needs no store works.
        cn_log_event(s->options.logger, CN_LOG_ERROR, "no_store", cn_log_text("why", why.text));
        return CN_OK;
    }
    if (code != CN_OK && err) *err = why;
    return code;
}

cn_code cn_state_password(const cn_config_settings *c, char out[CN_STATE_PASSWORD_BYTES], cn_err *err)
{
    const char *path = c->state_password_file;
    out[0] = '\0';
    if (!path[0]) return CN_OK;
    FILE *file = fopen(path, "re");
    if (!file)
        return cn_err_set(err, CN_E_IO, "state.password_file: %s: %s", path, strerror(errno));
    const size_t len = fread(out, 1, CN_STATE_PASSWORD_BYTES, file);
    fclose(file);
    const bool fits = len < CN_STATE_PASSWORD_BYTES;
    out[fits ? len : 0] = '\0';
    for (size_t i = strlen(out); i > 0 && isspace((unsigned char)out[i - 1]); i--) out[i - 1] = '\0';
    return fits && out[0]
               ? CN_OK
               : cn_err_set(err, CN_E_INVALID, "state.password_file: %s: must hold 1 to %d bytes",
                            path, CN_STATE_PASSWORD_BYTES - 1);
}

cn_code cn_state_open(const cn_state_options *options, cn_state **out, cn_err *err)
{
    const cn_config_settings *c = options->settings;
    const int durability = cn_store_durability_parse(c->state_durability);
    const bool is_private = strcmp(c->state_store, "private") == 0;
    const bool is_redis = strcmp(c->state_store, "redis") == 0;
    *out = NULL;
    if (durability < 0)
        return cn_err_set(err, CN_E_INVALID,
                          "state.durability: %s; must be memory, process, fsync or fsync+replica",
                          c->state_durability);
    if (!is_private && !is_redis && strcmp(c->state_store, "none") != 0)
        return cn_err_set(err, CN_E_INVALID, "state.store: %s; must be private, redis or none",
                          c->state_store);
    if (is_redis && !c->state_log[0])
        return cn_err_set(err, CN_E_INVALID, "state.store: redis; state.log must name its server");
    if (is_private && (c->state_log[0] || c->state_pages[0]))
        return cn_err_set(
            err, CN_E_INVALID,
            "state.store: private; must be redis where state.log or state.pages is set");
    cn_state *s = calloc(1, sizeof *s);
    if (!s) return cn_err_set(err, CN_E_MEMORY, "no memory");
    s->options = *options;
    s->durability = (cn_durability)durability;
    cn_code code = is_redis ? cn_state_password(c, s->password, err) : CN_OK;
    if (is_private) code = open_private(s, err);
    if (code != CN_OK) cn_state_close(s);
    else *out = s;
    return code;
}

cn_code cn_state_connect(cn_state *s, uint64_t page_bytes, cn_err *err)
{
    const cn_config_settings *c = s->options.settings;
    const bool is_redis = strcmp(c->state_store, "redis") == 0;
    if (!is_redis && !s->servers) return CN_OK;
    const cn_store_redis_options options = {
        .log = is_redis ? c->state_log : cn_redis_private_log_address(s->servers),
        .pages = is_redis ? c->state_pages : cn_redis_private_pages_address(s->servers),
        .user = c->state_user,
        .password = s->password,
        .database = is_redis ? (uint32_t)c->state_database : 0,
        .durability = s->durability,
        .page_bytes = page_bytes,
        .port_count = CN_STATE_PORT_COUNT,
        .op_max = OPS_OF_PORT,
        .connection_count = (uint32_t)c->state_connections,
        .log_timeout_ns = c->state_timeout_ms * 1000000u,
        .page_timeout_ns = c->state_page_timeout_ms * 1000000u,
        .clock = s->options.clock,
        .random = s->options.random,
        .wake = s->options.wake,
        .logger = s->options.logger,
        .metrics = s->options.metrics,
    };
    return cn_store_redis_open(&options, &s->store, err);
}

void cn_state_close(cn_state *s)
{
    if (!s) return;
    if (s->store) s->store->ops->close(s->store);
    cn_redis_private_close(s->servers);
    free(s);
}

cn_store *cn_state_store(const cn_state *s) { return s ? s->store : NULL; }

bool cn_state_poll(cn_state *s, uint64_t timeout_ns)
{
    if (s->servers) {
        const uint64_t now = cn_clock_now_ns(&s->options.clock);
        const uint64_t due = cn_redis_private_due_ns(s->servers);
        const uint64_t wait = due > now ? due - now : 0;
        if (wait < timeout_ns) timeout_ns = wait;
    }
    const bool worked = s->store->ops->poll(s->store, timeout_ns);
    // A server that ended took its connections along, so the poll has noticed.
    if (s->servers) cn_redis_private_tend(s->servers);
    return worked;
}
