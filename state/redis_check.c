#include "state/redis_check_int.h"

#include <stdio.h>
#include <string.h>

bool cn_redis_check_role(const redisReply *role, char *why, size_t why_bytes)
{
    if (role->type == REDIS_REPLY_ARRAY && role->elements > 0 &&
        role->element[0]->type == REDIS_REPLY_STRING) {
        if (strcmp(role->element[0]->str, "master") == 0) return true;
        snprintf(why, why_bytes, "is a %s; must be the primary", role->element[0]->str);
    } else {
        snprintf(why, why_bytes, "ROLE: %s",
                 role->type == REDIS_REPLY_ERROR ? role->str : "no answer");
    }
    return false;
}

// The value of one setting in the reply of CONFIG GET, NULL if it is not there.
static const char *setting(const redisReply *config, const char *name)
{
    for (size_t i = 0; config->type == REDIS_REPLY_ARRAY && i + 1 < config->elements; i += 2) {
        const redisReply *key = config->element[i], *value = config->element[i + 1];
        if (key->type == REDIS_REPLY_STRING && value->type == REDIS_REPLY_STRING &&
            strcmp(key->str, name) == 0)
            return value->str;
    }
    return NULL;
}

static bool unknown(const redisReply *config, const char *name, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s cannot be read, so durability is unknown: %s", name,
             config->type == REDIS_REPLY_ERROR ? config->str : "CONFIG GET does not say it");
    return false;
}

bool cn_redis_check_appending(const redisReply *config, cn_durability wanted, char *why,
                              size_t why_bytes)
{
    const char *only = setting(config, "appendonly"), *sync = setting(config, "appendfsync");
    const char *pause = setting(config, "no-appendfsync-on-rewrite");
    if (wanted == CN_DURABILITY_MEMORY) return true;
    if (!only || !sync || !pause) return unknown(config, "appendonly", why, why_bytes);
    if (strcmp(only, "yes") != 0) {
        snprintf(why, why_bytes, "appendonly is %s; %s needs yes", only,
                 cn_store_durability_name(wanted));
    } else if (wanted == CN_DURABILITY_PROCESS) {
        // everysec keeps up to two seconds of writes in the process while a sync is under way.
        if (strcmp(sync, "everysec") != 0) return true;
        snprintf(why, why_bytes, "appendfsync is everysec; process needs no or always");
    } else if (strcmp(sync, "always") != 0) {
        snprintf(why, why_bytes, "appendfsync is %s; %s needs always", sync,
                 cn_store_durability_name(wanted));
    } else if (strcmp(pause, "no") != 0) {
        snprintf(why, why_bytes, "no-appendfsync-on-rewrite is %s; %s needs no", pause,
                 cn_store_durability_name(wanted));
    } else {
        return true;
    }
    return false;
}

bool cn_redis_check_memory(const redisReply *config, cn_durability wanted, char *why,
                           size_t why_bytes)
{
    const char *bytes = setting(config, "maxmemory"), *policy = setting(config, "maxmemory-policy");
    if (wanted == CN_DURABILITY_MEMORY) return true;
    if (!bytes || !policy) return unknown(config, "maxmemory-policy", why, why_bytes);
    if (strcmp(bytes, "0") == 0 || strcmp(policy, "noeviction") == 0) return true;
    snprintf(why, why_bytes, "maxmemory-policy is %s; the log needs noeviction", policy);
    return false;
}
