/* state/redis_doctor.h: whether the configured Redis servers are fit for turns and pages, said before
 * they are used, each fault with the command that repairs it. Asks the servers; changes nothing.
 *
 * Threads: any; blocks for at most the timeout per question.
 * Memory:  nothing is kept. */
#pragma once

#include <stdint.h>

#include "base/clock.h"
#include "state/store.h"

typedef enum cn_redis_health { CN_REDIS_FINE, CN_REDIS_POOR, CN_REDIS_BROKEN } cn_redis_health;

typedef struct cn_redis_finding {
    const char *check;               // "redis_evict"
    cn_redis_health health;
    char text[256];
    char fix[256];                   // a command; "" if it is FINE
} cn_redis_finding;

typedef struct cn_redis_doctor_options {
    const char *log, *pages;         // as cn_store_redis_options
    const char *user, *password;
    cn_durability durability;
    uint32_t connection_count;       // that the server will open to the log
    uint32_t timeout_ms;
    cn_clock clock;
} cn_redis_doctor_options;

enum { CN_REDIS_FINDING_MAX = 16 };

/* The checks by name, and what each looks at, for people; *count of them. */
typedef struct cn_redis_doctor_check {
    const char *name, *what;
} cn_redis_doctor_check;
const cn_redis_doctor_check *cn_redis_doctor_checks(uint32_t *count);

/* Writes at most CN_REDIS_FINDING_MAX findings; returns how many. */
uint32_t cn_redis_doctor_examine(const cn_redis_doctor_options *options, cn_redis_finding *out);
