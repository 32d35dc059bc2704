/* bench/settings.h: the flags of `cairn bench`, in one table: parser and help are made from it.
 *
 * Threads: main only.
 * Memory:  plain memory; texts point into argv or are constant. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Commands that have a flag. */
enum { CN_SETTINGS_RUN = 1, CN_SETTINGS_CAPACITY = 2, CN_SETTINGS_REPLAY = 4, CN_SETTINGS_SINK = 8,
       CN_SETTINGS_REPORT = 16, CN_SETTINGS_COMPARE = 32 };

#define CN_SETTINGS_LOAD (CN_SETTINGS_RUN | CN_SETTINGS_CAPACITY | CN_SETTINGS_REPLAY)
#define CN_SETTINGS_ONCE (CN_SETTINGS_RUN | CN_SETTINGS_REPLAY)
#define CN_SETTINGS_MADE (CN_SETTINGS_RUN | CN_SETTINGS_CAPACITY)

/* A flag is its field with hyphens: max_concurrency is --max-concurrency.
 *   T(field, default, commands, help)   N(field, default, min, max, commands, help)
 *   S(field, default, commands, help), which takes yes or no */
#define CN_SETTINGS(T, N, S)                                                                       \
    T(url, "http://127.0.0.1:8000", CN_SETTINGS_LOAD, "the server; a path before /v1 may follow")  \
    T(model, "", CN_SETTINGS_LOAD, "model to ask for; default: the first of /v1/models")           \
    T(api, "chat", CN_SETTINGS_LOAD, "chat, completions or responses")                             \
    T(history, "resend", CN_SETTINGS_LOAD, "how turn 2 knows turn 1: resend all, previous (response id) or conversation") \
    S(stream, true, CN_SETTINGS_LOAD, "read answers as streams")                                   \
    N(seed, 1, 0, 9e15, CN_SETTINGS_LOAD, "all draws come from it: same seed, same requests")      \
    T(dataset, "", CN_SETTINGS_ONCE, "file to replay or to take requests from")                    \
    T(format, "", CN_SETTINGS_ONCE, "of the dataset: sharegpt, mooncake, azure or burstgpt")       \
    T(preset, "", CN_SETTINGS_MADE, "lengths, turns and burstiness like a published trace: azure-conv, azure-code, weka or chat") \
    T(arrivals, "poisson", CN_SETTINGS_MADE, "poisson, gamma, constant, onoff, ramp or ramp-exponential") \
    N(rate, 1, 0, 1e7, CN_SETTINGS_RUN, "sessions per second; inf: all at once")                   \
    N(rate_end, 10, 0, 1e7, CN_SETTINGS_RUN, "ramps: the rate at the end of --duration")           \
    N(burstiness, 1, 0.001, 1000, CN_SETTINGS_MADE, "gamma: shape of the gaps; below 1 is burstier than poisson") \
    N(on, 1, 0.001, 1e6, CN_SETTINGS_MADE, "onoff: mean seconds of a burst")                       \
    N(off, 1, 0.001, 1e6, CN_SETTINGS_MADE, "onoff: mean seconds between bursts")                  \
    N(concurrency, 0, 0, 1e6, CN_SETTINGS_RUN, "closed loop instead: so many clients, one session after another") \
    N(max_concurrency, 0, 0, 1e6, CN_SETTINGS_LOAD, "requests at once; others wait in the client, and their time counts; 0: no limit") \
    N(sessions, 0, 0, 1e7, CN_SETTINGS_ONCE, "how many sessions; 0: as many as --duration has, else 100") \
    N(duration, 0, 0, 1e6, CN_SETTINGS_ONCE, "seconds in which sessions arrive; 0: until --sessions") \
    N(speed, 1, 1e-6, 1e6, CN_SETTINGS_REPLAY, "divides the times of the trace, so 2 is twice the load") \
    N(gap_max, 0, 0, 1e6, CN_SETTINGS_REPLAY, "seconds to which idle gaps of the trace are cut; 0: none is") \
    T(input_tokens, "128", CN_SETTINGS_MADE, "of a message: N, uniform:LOW:HIGH, normal:MEAN:DEVIATION, lognormal:MEDIAN:P90, exponential:MEAN") \
    T(output_tokens, "128", CN_SETTINGS_MADE, "of an answer, likewise")                            \
    T(turns, "1", CN_SETTINGS_MADE, "of a session, likewise")                                      \
    T(think, "0", CN_SETTINGS_MADE, "seconds between an answer and the next turn, likewise")       \
    N(prefix_tokens, 0, 0, 1e6, CN_SETTINGS_MADE, "of a system prompt that a group of sessions shares") \
    N(prefix_groups, 1, 1, 1e6, CN_SETTINGS_MADE, "how many different system prompts")             \
    T(prompt, "text", CN_SETTINGS_LOAD, "text, or ids: token ids, for completions")                \
    N(vocab, 1000, 32, 1e7, CN_SETTINGS_LOAD, "ids: token ids are below this")                     \
    N(words_per_token, 1, 0.01, 100, CN_SETTINGS_LOAD, "of the server's tokenizer, for made text") \
    N(temperature, 0, 0, 2, CN_SETTINGS_LOAD, "0 is greedy")                                       \
    S(ignore_eos, true, CN_SETTINGS_LOAD, "ask for the whole length (not known to every server)")  \
    S(token_ids, false, CN_SETTINGS_LOAD, "ask for token ids, and take the digest of them")        \
    T(extra_body, "", CN_SETTINGS_LOAD, "an object of JSON whose members are added to each request") \
    N(cancel_share, 0, 0, 1, CN_SETTINGS_ONCE, "share of requests that the client gives up")       \
    T(cancel_after, "1", CN_SETTINGS_ONCE, "seconds after sending; a number or a distribution")    \
    N(slow_share, 0, 0, 1, CN_SETTINGS_ONCE, "share of requests whose client reads slowly; not in the latencies") \
    N(slow_bytes, 1000, 1, 1e9, CN_SETTINGS_ONCE, "bytes per second that a slow client reads")     \
    N(reconnect_share, 0, 0, 1, CN_SETTINGS_ONCE, "share of streams that the client loses, and resumes behind the last event it saw") \
    T(reconnect_after, "1", CN_SETTINGS_ONCE, "seconds after sending; a number or a distribution") \
    N(timeout, 600, 0.001, 1e6, CN_SETTINGS_LOAD, "seconds until a request is given up")           \
    N(warmups, 1, 0, 1e6, CN_SETTINGS_LOAD, "requests before the clock starts; they also show that the server answers") \
    T(slo, "", CN_SETTINGS_LOAD, "service level for goodput: a name like llama3.1-8b-interactive")  \
    T(goodput, "", CN_SETTINGS_LOAD, "service level as ttft:MS tpot:MS e2el:MS")                   \
    N(rate_min, 0.5, 1e-6, 1e7, CN_SETTINGS_CAPACITY, "sessions per second to begin with")         \
    N(rate_max, 10000, 1e-6, 1e7, CN_SETTINGS_CAPACITY, "sessions per second to end at")           \
    N(probe, 10, 0.1, 1e5, CN_SETTINGS_CAPACITY, "seconds of each attempt")                        \
    N(precision, 0.05, 0.001, 0.5, CN_SETTINGS_CAPACITY, "stop when the knee is known to this share") \
    N(repeats, 3, 1, 50, CN_SETTINGS_CAPACITY, "searches, each with another seed")                 \
    N(within, 0.99, 0.01, 1, CN_SETTINGS_CAPACITY, "share of requests that must be within the service level") \
    T(label, "", CN_SETTINGS_LOAD, "a name for the run, kept in the JSON")                         \
    T(out, "", CN_SETTINGS_LOAD | CN_SETTINGS_REPORT, "file for the result: JSON of a run, HTML of a report") \
    T(log, "", CN_SETTINGS_ONCE, "file for one line of JSON per request")                          \
    T(html, "", CN_SETTINGS_ONCE, "file for the report")                                           \
    S(detailed, false, CN_SETTINGS_ONCE, "the JSON also has lengths, times and texts of all requests") \
    S(realtime, true, CN_SETTINGS_LOAD | CN_SETTINGS_SINK, "take real-time priority, where the system grants it") \
    T(listen, "127.0.0.1:8001", CN_SETTINGS_SINK, "address and port; port 0: any, printed")        \
    T(ttft, "0", CN_SETTINGS_SINK, "milliseconds to the first token; a number or a distribution")  \
    T(itl, "0", CN_SETTINGS_SINK, "milliseconds between tokens, likewise")                         \
    N(slots, 0, 0, 1e6, CN_SETTINGS_SINK, "answers that are played at once, others wait; 0: any number") \
    N(stall_at, 0, 0, 1e6, CN_SETTINGS_SINK, "second after the first request at which the sink stops") \
    N(stall, 0, 0, 1e6, CN_SETTINGS_SINK, "seconds that it stops for")                             \
    T(fault, "", CN_SETTINGS_SINK, "what each answer does wrong: close, cut, garbage, badjson, error, empty, silent or status:NNN")

typedef struct cn_settings {
#define T(field, initial, commands, help) const char *field;
#define N(field, initial, min, max, commands, help) double field;
#define S(field, initial, commands, help) bool field;
    CN_SETTINGS(T, N, S)
#undef T
#undef N
#undef S
    bool json, help;             // --json prints the result as JSON; --help
    uint64_t given[2];           // a bit for each setting that was not left at its default
    const char *files[8];        // arguments without a flag
    uint32_t file_count;
} cn_settings;

/* Everything at its default. */
void cn_settings_init(cn_settings *settings);

/* Reads `--flag value` and `--flag=value` for one command. `nearest` (may be NULL) finds the known
 * name that an unknown one is closest to. Errors: CN_E_INVALID. */
cn_code cn_settings_read(int argc, char **argv, unsigned command, cn_settings *settings,
                         const char *(*nearest)(const char *, const char *const *, uint32_t),
                         cn_err *err);

/* Sets a field that was not given, by its flag's name: for presets. */
void cn_settings_suggest(cn_settings *settings, const char *field, const char *value);

/* Whether the flag was given, as "rate". */
bool cn_settings_is_given(const cn_settings *settings, const char *field);

/* The flags of one command with their defaults, for people. */
void cn_settings_write_help(unsigned command, cn_buf *out);
/* All settings of one command as an object of JSON. */
void cn_settings_write(const cn_settings *settings, unsigned command, cn_buf *out);
