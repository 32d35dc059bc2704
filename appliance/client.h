/* appliance/client.h: what the commands that talk to a running server have in common: flags, requests
 * that answer with JSON, and text of the model on a terminal.
 *
 * Threads: main only.
 * Memory:  what a function returns is the caller's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

enum { CN_CLIENT_FLAGS_MAX = 8, CN_CLIENT_WORDS_MAX = 64, CN_CLIENT_ANSWER_BYTES_MAX = 1 << 30 };

typedef struct cn_client_flag {
    const char *name;            // "--at"
    bool takes_value;
    const char *value;           // NULL: not given; "" for one that takes none
} cn_client_flag;

/* A command line: --url, --api_key and --help, flags of the command, and words without dashes. */
typedef struct cn_client {
    const char *command;         // "cairn session fork", for texts
    const char *url, *api_key;
    bool help;
    cn_client_flag flags[CN_CLIENT_FLAGS_MAX];       // the command's own, filled in by the caller
    int flag_count;
    const char *words[CN_CLIENT_WORDS_MAX];
    int word_count, words_min, words_max;
} cn_client;

/* Reads the command line into *client, of which command, flags and words_min and _max are set. False:
 * it is not understood, which is said on standard error. */
bool cn_client_read(cn_client *client, int argc, char **argv);
/* The value of a flag, NULL if it was not given. */
const char *cn_client_flag_value(const cn_client *client, const char *name);

/* One request; the body of the answer is appended to `out`. Errors: those of cn_http_client_request;
 * CN_E_HTTP (another status than 200; the text says which and why). */
cn_code cn_client_request(const cn_client *client, const char *method, const char *path,
                          const char *body, size_t body_len, cn_buf *out, cn_err *err);
/* As above, and parses the answer; the caller gives it back. `body` may be NULL. NULL: failed. */
json_t *cn_client_json(const cn_client *client, const char *method, const char *path,
                       const json_t *body, cn_err *err);

/* Writes text so that it cannot command a terminal: control bytes other than \n and \t become spaces. */
void cn_client_print(const char *text, size_t len);
