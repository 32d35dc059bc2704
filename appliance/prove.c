#include "appliance/prove.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/cli.h"
#include "appliance/client.h"
#include "base/random.h"

/* How it works. The server exports the conversation: for each turn its tokens, which of them were
 * sampled, and its settings. The prompt of a turn is all tokens of the chain before its sampled ones,
 * from the last turn that stands for the whole history. /v1/completions takes prompts as token ids,
 * and a cache salt: pages are found only under the salt that made them, so a new salt makes a run
 * cold, the same salt again makes it warm, and no salt finds the pages of the conversation itself.
 *
 * The last turn goes first: after a restart its prompt restores the pages of the whole conversation,
 * which would otherwise be computed anew, turn by turn, by this program itself.
 *
 * Where the turn was asked for logprobs, those that it kept are compared as well.
 * JSON numbers are compared as they were written, which is exact: the server writes the shortest
 * text that reads back as the same float. */

enum { RUNS = 3, TIERS = 3 };
static const char *const run_names[RUNS] = {"found", "cold", "warm"};
static const char *const tier_names[TIERS] = {"device", "host", "redis"};

typedef struct run {
    json_t *tokens, *logprobs;
    long long cached;
    double tiers[TIERS]; // of cached, by where the pages came from
} run;

typedef struct proof {
    const cn_client *client;
    bool as_json;
    char *model;  // that the server serves
    json_t *seen; // turns that are proven, since forks share them
    uint64_t turns, tokens, different, other_model, restored;
} proof;

static const json_t *member(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

// ---- one request

// Copies what repeats the sampling from a turn's settings.
static void copy_settings(json_t *request, const json_t *settings)
{
    static const char *const same[] = {"temperature",
                                       "top_p",
                                       "min_p",
                                       "top_k",
                                       "repetition_penalty",
                                       "presence_penalty",
                                       "frequency_penalty",
                                       "logit_bias"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        json_t *value = json_object_get(settings, same[i]);
        if (value) json_object_set(request, same[i], value);
    }
    const char *seed = json_string_value(member(settings, "seed"));
    // The same 64 bits, as the signed number that JSON has.
    if (seed)
        json_object_set_new(request, "seed", json_integer((json_int_t)strtoull(seed, NULL, 10)));
    json_t *ends = json_object_get(settings, "end_tokens");
    if (ends) json_object_set(request, "stop_token_ids", ends);
}

static json_t *make_request(const proof *p, const json_t *task, const char *salt)
{
    const json_t *settings = member(task, "settings");
    const json_int_t least = json_integer_value(member(settings, "tokens_min"));
    const json_int_t count = (json_int_t)json_array_size(member(task, "stored"));
    json_t *request = json_object();
    json_object_set_new(request, "model", json_string(p->model));
    json_object_set(request, "prompt", json_object_get(task, "prompt"));
    json_object_set_new(request, "max_tokens", json_integer(count));
    json_object_set_new(request, "min_tokens", json_integer(least < count ? least : count));
    json_object_set_new(request, "ignore_eos", json_true()); // end_tokens has them
    json_object_set_new(request, "return_token_ids", json_true());
    json_object_set_new(request, "logprobs", json_integer(0));
    copy_settings(request, settings);
    if (salt) json_object_set_new(request, "cache_salt", json_string(salt));
    return request;
}

// What the server has counted of cached tokens so far; 0 where it does not tell.
static void read_tiers(const proof *p, double out[TIERS])
{
    cn_buf text;
    cn_err err;
    cn_buf_init(&text, CN_CLIENT_ANSWER_BYTES_MAX);
    for (int i = 0; i < TIERS; i++) out[i] = 0;
    if (cn_client_request(p->client, "GET", "/metrics", NULL, 0, &text, &err) == CN_OK) {
        cn_buf_add_char(&text, '\0');
        for (int i = 0; i < TIERS; i++) {
            char series[80];
            snprintf(series, sizeof series, "\ncairn_cached_tokens_total{tier=\"%s\"} ",
                     tier_names[i]);
            const char *at = text.overflowed ? NULL : strstr(text.data, series);
            if (at) out[i] = strtod(at + strlen(series), NULL);
        }
    }
    cn_buf_close(&text);
}

static bool generate(const proof *p, const json_t *request, run *out, cn_err *err)
{
    double before[TIERS];
    read_tiers(p, before);
    json_t *answer = cn_client_json(p->client, "POST", "/v1/completions", request, err);
    if (!answer) return false;
    read_tiers(p, out->tiers);
    for (int i = 0; i < TIERS; i++) out->tiers[i] -= before[i];
    const json_t *choice = json_array_get(member(answer, "choices"), 0);
    const json_t *details = member(member(answer, "usage"), "prompt_tokens_details");
    out->tokens = json_incref(json_object_get(choice, "token_ids"));
    out->logprobs = json_incref(json_object_get(member(choice, "logprobs"), "token_logprobs"));
    out->cached = (long long)json_integer_value(member(details, "cached_tokens"));
    json_decref(answer);
    if (json_is_array(out->tokens) && json_is_array(out->logprobs)) return true;
    cn_err_set(err, CN_E_FORMAT, "the server's answer has no token_ids, or no logprobs");
    return false;
}

// ---- one turn

// Where two lists differ first; SIZE_MAX: nowhere.
static size_t difference(const json_t *a, const json_t *b)
{
    const size_t a_count = json_array_size(a), b_count = json_array_size(b);
    for (size_t i = 0; i < a_count && i < b_count; i++) {
        if (!json_equal(json_array_get(a, i), json_array_get(b, i))) return i;
    }
    if (a_count == b_count) return SIZE_MAX;
    return a_count < b_count ? a_count : b_count;
}

static void print_at(const json_t *list, size_t i)
{
    char *text = json_dumps(json_array_get(list, i), JSON_ENCODE_ANY);
    fputs(text ? text : "nothing", stdout);
    free(text);
}

static void tell_difference(const char *turn, const char *what, size_t at, const json_t *is,
                            const json_t *should)
{
    printf("%s  DIFFERS: %s %zu is ", turn, what, at);
    print_at(is, at);
    fputs(", was ", stdout);
    print_at(should, at);
    putchar('\n');
}

static void tell_json(const char *turn, const run runs[RUNS], size_t count, bool equal)
{
    printf("{\"turn\":\"%s\",\"tokens\":%zu,\"equal\":%s", turn, count, equal ? "true" : "false");
    for (int i = 0; i < RUNS; i++) {
        printf(",\"%s\":{\"cached_tokens\":%lld", run_names[i], runs[i].cached);
        for (int n = 0; n < TIERS; n++) printf(",\"%s\":%.0f", tier_names[n], runs[i].tiers[n]);
        fputs("}", stdout);
    }
    puts("}");
}

// Logprobs that the turn was asked for and kept, if any, as a list.
static json_t *kept_logprobs(const json_t *output)
{
    json_t *kept = json_array();
    const json_t *part = json_array_get(member(json_array_get(output, 0), "content"), 0), *entry;
    size_t i;
    json_array_foreach(member(part, "logprobs"), i, entry)
    {
        json_array_append(kept, json_object_get(entry, "logprob"));
    }
    return kept;
}

// Whether a run is what it must be; if not, that is said, but for --json.
static bool is_equal(const proof *p, const json_t *task, const run *r, const run *first,
                     const char *name)
{
    const char *turn = json_string_value(member(task, "id"));
    const json_t *stored = member(task, "stored"), *kept = member(task, "logprobs");
    const size_t token = difference(r->tokens, stored);
    const size_t logprob = difference(r->logprobs, first->logprobs);
    size_t was = difference(r->logprobs, kept);
    if (was >= json_array_size(kept)) was = SIZE_MAX; // what was not kept cannot differ
    char what[32];
    snprintf(what, sizeof what, "%s %s", name, token != SIZE_MAX ? "token" : "logprob");
    if (p->as_json) return token == SIZE_MAX && logprob == SIZE_MAX && was == SIZE_MAX;
    if (token != SIZE_MAX) tell_difference(turn, what, token, r->tokens, stored);
    else if (was != SIZE_MAX) tell_difference(turn, what, was, r->logprobs, kept);
    else if (logprob != SIZE_MAX)
        tell_difference(turn, what, logprob, r->logprobs, first->logprobs);
    else return true;
    return false;
}

static void tell(proof *p, const json_t *task, const run runs[RUNS])
{
    const char *turn = json_string_value(member(task, "id"));
    const size_t count = json_array_size(member(task, "stored"));
    bool equal = true;
    for (int i = 0; i < RUNS && equal; i++) {
        equal = is_equal(p, task, &runs[i], &runs[0], run_names[i]);
    }
    if (p->as_json) tell_json(turn, runs, count, equal);
    else if (equal) {
        printf("%s  %zu tokens: equal; of the prompt %lld were found, %lld cold, %lld warm\n", turn,
               count, runs[0].cached, runs[1].cached, runs[2].cached);
    }
    p->turns++;
    p->tokens += count;
    p->different += !equal;
    p->restored += (uint64_t)(runs[0].tiers[1] + runs[0].tiers[2]);
}

static bool prove_turn(proof *p, const json_t *task, cn_err *err)
{
    run runs[RUNS] = {{0}};
    char salt[40];
    const cn_random random = cn_random_system();
    bool done = true;
    snprintf(salt, sizeof salt, "prove-%016" PRIx64, cn_random_u64(&random));
    for (int i = 0; i < RUNS && done; i++) {
        json_t *request = make_request(p, task, i ? salt : NULL);
        done = generate(p, request, &runs[i], err);
        json_decref(request);
    }
    if (done) tell(p, task, runs);
    for (int i = 0; i < RUNS; i++) {
        json_decref(runs[i].tokens);
        json_decref(runs[i].logprobs);
    }
    return done;
}

// ---- one conversation

// What is needed to have a turn again; or NULL: nothing of it was sampled.
static json_t *task_of(const json_t *line, const json_t *history)
{
    const json_t *tokens = member(line, "tokens");
    const size_t count = json_array_size(tokens);
    const size_t sampled = (size_t)json_integer_value(member(line, "output_tokens"));
    json_t *prompt = json_copy((json_t *)(uintptr_t)history), *stored = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append(i + sampled < count ? prompt : stored, json_array_get(tokens, i));
    }
    json_t *task = NULL;
    if (sampled) {
        task = json_pack("{s:O,s:O,s:O,s:O,s:o}", "id", member(line, "id"), "prompt", prompt,
                         "stored", stored, "settings", member(line, "settings"), "logprobs",
                         kept_logprobs(member(line, "output")));
    }
    json_decref(prompt);
    json_decref(stored);
    return task;
}

// The turns of an export that can be had again, oldest first; NULL: it is not one.
static json_t *tasks_of(const cn_buf *lines, const char *conversation, cn_err *err)
{
    json_t *history = json_array(), *tasks = json_array();
    bool done = true;
    for (size_t at = 0; done && at < lines->len;) {
        const char *end = memchr(lines->data + at, '\n', lines->len - at);
        const size_t len = end ? (size_t)(end - lines->data) - at : lines->len - at;
        json_t *line = json_loadb(lines->data + at, len, JSON_ALLOW_NUL, NULL);
        const char *object = json_string_value(member(line, "object"));
        done = object != NULL;
        if (done && strcmp(object, "turn") == 0) {
            if (json_is_true(member(line, "resets_text"))) json_array_clear(history);
            json_array_append_new(tasks, task_of(line, history)); // refuses NULL
            json_array_extend(history, (json_t *)(uintptr_t)member(line, "tokens"));
        }
        json_decref(line);
        at += len + 1;
    }
    json_decref(history);
    if (done) return tasks;
    json_decref(tasks);
    cn_err_set(err, CN_E_SYNTAX, "%s: its export is not made of JSON lines", conversation);
    return NULL;
}

static bool prove_task(proof *p, const json_t *task, cn_err *err)
{
    const json_t *settings = member(task, "settings");
    const char *id = json_string_value(member(task, "id"));
    const char *model = json_string_value(member(settings, "model"));
    if (!id || json_object_get(p->seen, id)) return true;
    json_object_set_new(p->seen, id, json_true());
    if (model && strcmp(model, p->model) == 0) {
        return prove_turn(p, task, err);
    }
    p->other_model++;
    return true;
}

static bool prove_conversation(proof *p, const char *id, cn_err *err)
{
    char path[128];
    cn_buf lines;
    const size_t id_len = strlen(id);
    if (id_len > 64 || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_") != id_len) {
        cn_err_set(err, CN_E_INVALID, "%.80s: is no id; must look like conv_ and 48 digits", id);
        return false;
    }
    snprintf(path, sizeof path, "/v1/conversations/%s/export", id);
    cn_buf_init(&lines, CN_CLIENT_ANSWER_BYTES_MAX);
    json_t *tasks = NULL;
    if (cn_client_request(p->client, "GET", path, NULL, 0, &lines, err) == CN_OK) {
        tasks = tasks_of(&lines, id, err);
    }
    bool done = tasks != NULL;
    for (size_t i = json_array_size(tasks); done && i > 0; i--) {
        done = prove_task(p, json_array_get(tasks, i - 1), err);
    }
    json_decref(tasks);
    cn_buf_close(&lines);
    return done;
}

static bool prove_all(proof *p, cn_err *err)
{
    char path[128] = "/v1/conversations";
    for (bool more = true; more;) {
        const json_t *conversation;
        size_t i;
        json_t *page = cn_client_json(p->client, "GET", path, NULL, err);
        bool done = page != NULL;
        json_array_foreach(member(page, "data"), i, conversation)
        {
            const char *id = json_string_value(member(conversation, "id"));
            done = done && prove_conversation(p, id ? id : "", err);
        }
        const char *after = json_string_value(member(page, "after"));
        more = done && after && json_is_true(member(page, "has_more"));
        if (more) snprintf(path, sizeof path, "/v1/conversations?after=%.40s", after);
        json_decref(page);
        if (!done) return false;
    }
    return true;
}

// ---- the command

static bool read_model(proof *p, cn_err *err)
{
    json_t *models = cn_client_json(p->client, "GET", "/v1/models", NULL, err);
    const char *id = json_string_value(member(json_array_get(member(models, "data"), 0), "id"));
    if (models && !id) cn_err_set(err, CN_E_FORMAT, "the server names no model");
    p->model = id ? strdup(id) : NULL;
    json_decref(models);
    return p->model != NULL;
}

static void print_help(void)
{
    puts("usage: cairn prove [CONVERSATION ...] [--url http://127.0.0.1:8000] [--api_key KEY] "
         "[--json]\n\n"
         "Generates each stored turn three times more: with the pages that are there (after a "
         "restart\n"
         "those come from the store), cold, and warm. Tokens must be the stored ones, logprobs the "
         "same\n"
         "in all three, to the last bit. Without a conversation: all of the key.\n"
         "Exit code 0: all are equal; 1: one is not, or could not be generated.");
}

static void print_sum(const proof *p)
{
    printf("%" PRIu64 " turns, %" PRIu64 " tokens, three times each: %" PRIu64 " differ", p->turns,
           p->tokens, p->different);
    if (p->restored)
        printf("; %" PRIu64 " prompt tokens came from pages that were restored", p->restored);
    if (p->other_model) printf("; %" PRIu64 " turns of other models were left out", p->other_model);
    putchar('\n');
}

int cn_prove_run(int argc, char **argv)
{
    cn_client client = {.command = "cairn prove",
                        .words_max = CN_CLIENT_WORDS_MAX,
                        .flag_count = 1,
                        .flags = {{"--json", false, NULL}}};
    cn_err err;
    if (!cn_client_read(&client, argc, argv)) return CN_EXIT_USAGE;
    if (client.help) {
        print_help();
        return CN_EXIT_OK;
    }
    proof p = {.client = &client,
               .as_json = cn_client_flag_value(&client, "--json") != NULL,
               .seen = json_object()};
    bool done = read_model(&p, &err);
    for (int i = 0; i < client.word_count && done; i++) {
        done = prove_conversation(&p, client.words[i], &err);
    }
    if (done && client.word_count == 0) done = prove_all(&p, &err);
    if (done && !p.as_json) print_sum(&p);
    if (!done) cn_cli_complain(&err);
    json_decref(p.seen);
    free(p.model);
    return done && p.different == 0 ? CN_EXIT_OK : CN_EXIT_FAILED;
}
