#include "appliance/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "appliance/cli.h"
#include "appliance/client.h"
#include "appliance/nearest.h"
#include "base/map.h"

enum { PATH_BYTES = 256, IMPORT_BYTES_MAX = 1 << 30, PREFIX_BYTES = 1024 };

static int fail(const cn_err *err)
{
    cn_cli_complain(err);
    return CN_EXIT_FAILED;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_time(long long seconds)
{
    struct tm parts;
    char text[32] = "";
    const time_t when = (time_t)seconds;
    if (gmtime_r(&when, &parts)) strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts);
    fputs(text, stdout);
}

static void print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    putchar('\n');
}

static void print_metadata(const json_t *metadata)
{
    char *text = json_dumps(metadata, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text && strcmp(text, "{}") != 0) {
        fputs("  ", stdout);
        cn_client_print(text, strlen(text));
    }
    free(text);
}

// A path with an id in it; ids are checked by the server, but must not leave their segment.
static bool id_path(char out[PATH_BYTES], const char *id, const char *rest, cn_err *err)
{
    const size_t len = strlen(id);
    if (len == 0 || len > 64 || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len) {
        cn_err_set(err, CN_E_INVALID, "%.80s: is no id; must look like conv_ and 48 digits", id);
        return false;
    }
    snprintf(out, PATH_BYTES, "/v1/conversations/%s%s", id, rest);
    return true;
}

// ---- ls

static void print_row(const json_t *conversation)
{
    printf("%s  ", text_of(conversation, "id"));
    print_time(number_of(conversation, "created_at"));
    printf("  revision %lld", number_of(conversation, "revision"));
    if (!json_is_string(json_object_get(conversation, "head"))) fputs("  (empty)", stdout);
    print_metadata(json_object_get(conversation, "metadata"));
    putchar('\n');
}

// Adds the conversations of all pages; a scan may name one twice, which then counts once.
static bool read_all(const cn_client *client, json_t *by_id, cn_err *err)
{
    char path[PATH_BYTES], after[64] = "";
    do {
        snprintf(path, sizeof path, "/v1/conversations%s%s", *after ? "?after=" : "", after);
        json_t *page = cn_client_json(client, "GET", path, NULL, err);
        if (!page) return false;
        json_t *conversation;
        size_t i;
        json_array_foreach(json_object_get(page, "data"), i, conversation)
        {
            json_object_set(by_id, text_of(conversation, "id"), conversation);
        }
        const bool more = json_is_true(json_object_get(page, "has_more"));
        snprintf(after, sizeof after, "%s", more ? text_of(page, "after") : "");
        json_decref(page);
    } while (*after);
    return true;
}

// By age, and by id among those of one second, so that two lists can be compared.
static int compare_age(const void *a, const void *b)
{
    const json_t *left = *(json_t *const *)a, *right = *(json_t *const *)b;
    const long long difference = number_of(left, "created_at") - number_of(right, "created_at");
    if (difference != 0) return difference < 0 ? -1 : 1;
    return strcmp(text_of(left, "id"), text_of(right, "id"));
}

static int list(const cn_client *client)
{
    const bool as_json = cn_client_flag_value(client, "--json");
    cn_err err;
    json_t *by_id = json_object(), *conversation;
    bool done = read_all(client, by_id, &err);
    const size_t count = json_object_size(by_id);
    const json_t **rows = calloc(count + 1, sizeof *rows);
    if (done && !rows)
        done = cn_err_set(&err, CN_E_MEMORY, "no memory for %zu rows", count) == CN_OK;
    size_t n = 0;
    const char *id;
    json_object_foreach(by_id, id, conversation)
    {
        if (done) rows[n++] = conversation;
    }
    if (done) qsort(rows, n, sizeof *rows, compare_age);
    for (size_t i = 0; i < n; i++) {
        if (as_json) print_json(rows[i]);
        else print_row(rows[i]);
    }
    free(rows);
    json_decref(by_id);
    return done ? CN_EXIT_OK : fail(&err);
}

// ---- show

static void print_item(const json_t *item)
{
    const char *type = text_of(item, "type"), *role = text_of(item, "role");
    const json_t *content = json_object_get(item, "content"), *part;
    size_t i;
    printf("\n%s:\n", *role ? role : type);
    if (strcmp(type, "function_call") == 0) {
        cn_client_print(text_of(item, "name"), strlen(text_of(item, "name")));
        cn_client_print("(", 1);
        cn_client_print(text_of(item, "arguments"), strlen(text_of(item, "arguments")));
        puts(")");
    } else if (strcmp(type, "function_call_output") == 0) {
        cn_client_print(text_of(item, "output"), strlen(text_of(item, "output")));
        putchar('\n');
    }
    json_array_foreach(content, i, part)
    {
        const char *text = text_of(part, *text_of(part, "text") ? "text" : "refusal");
        cn_client_print(text, strlen(text));
        putchar('\n');
    }
}

// Hands each item on, in order; false: failed.
static bool each_item(const cn_client *client, const char *id, void (*see)(const json_t *item),
                      cn_err *err)
{
    char path[PATH_BYTES], rest[128] = "/items?order=asc&limit=100";
    for (bool more = true; more;) {
        if (!id_path(path, id, rest, err)) return false;
        json_t *page = cn_client_json(client, "GET", path, NULL, err);
        if (!page) return false;
        const json_t *item;
        size_t i;
        json_array_foreach(json_object_get(page, "data"), i, item) see(item);
        more = json_is_true(json_object_get(page, "has_more"));
        snprintf(rest, sizeof rest, "/items?order=asc&limit=100&after=%.80s",
                 text_of(page, "last_id"));
        json_decref(page);
    }
    return true;
}

static int show(const cn_client *client)
{
    char path[PATH_BYTES];
    cn_err err;
    const bool as_json = cn_client_flag_value(client, "--json");
    if (!id_path(path, client->words[0], "", &err)) return fail(&err);
    json_t *conversation = cn_client_json(client, "GET", path, NULL, &err);
    if (!conversation) return fail(&err);
    if (as_json) print_json(conversation);
    else {
        print_row(conversation);
        printf("head %s\n", text_of(conversation, "head"));
    }
    json_decref(conversation);
    if (!each_item(client, client->words[0], as_json ? print_json : print_item, &err)) {
        return fail(&err);
    }
    return CN_EXIT_OK;
}

// ---- tree

enum { NOBODY = -1 };

typedef struct node {
    const json_t *turn;
    long first, last, next; // children; the next child of the same parent
} node;

typedef struct drawing {
    const json_t *conversations;
    const char *asked; // the conversation that was named
    node *nodes;       // [0] stands above all roots
} drawing;

// Links each turn to its parent, which comes before it. False: no memory.
static bool link_turns(drawing *d, const json_t *turns)
{
    const json_t *turn;
    size_t i;
    cn_map *by_id = NULL;
    const size_t count = json_array_size(turns);
    d->nodes = calloc(count + 1, sizeof *d->nodes);
    bool done = d->nodes && cn_map_open((uint32_t)count, 0, &by_id) == CN_OK;
    if (done) d->nodes[0] = (node){NULL, NOBODY, NOBODY, NOBODY};
    json_array_foreach(turns, i, turn)
    {
        const char *id = text_of(turn, "id"), *parent = text_of(turn, "parent");
        uint64_t above = 0;
        if (!done) break;
        cn_map_find(by_id, parent, (uint32_t)strlen(parent), &above);
        const long at = (long)i + 1, last = d->nodes[above].last;
        d->nodes[at] = (node){turn, NOBODY, NOBODY, NOBODY};
        *(last == NOBODY ? &d->nodes[above].first : &d->nodes[last].next) = at;
        d->nodes[above].last = at;
        done = cn_map_put(by_id, id, (uint32_t)strlen(id), (uint64_t)at) == CN_OK;
    }
    cn_map_close(by_id);
    return done;
}

static void draw_turn(const drawing *d, const json_t *turn, const char *prefix, const char *joint)
{
    const char *id = text_of(turn, "id");
    const json_t *conversation;
    size_t i;
    printf("%s%s%s  ", prefix, joint, id);
    print_time(number_of(turn, "created_at"));
    const long long tokens = number_of(turn, "tokens"), answer = number_of(turn, "output_tokens");
    printf("  %lld + %lld tokens", tokens - answer, answer);
    if (json_is_true(json_object_get(turn, "deleted"))) fputs("  (deleted)", stdout);
    json_array_foreach(d->conversations, i, conversation)
    {
        if (strcmp(text_of(conversation, "head"), id) != 0) continue;
        const char *name = text_of(conversation, "id");
        printf("  %s %s", strcmp(name, d->asked) == 0 ? "◀" : "◁", name);
    }
    putchar('\n');
}

/* Draws what grows from a node. A turn with one child has it right below; the branches of one with
 * more are set in. False: deeper than the prefix holds. */
static bool draw_below(const drawing *d, long at, char *prefix, size_t prefix_len)
{
    for (;; at = d->nodes[at].first) {
        const long first = d->nodes[at].first;
        if (first == NOBODY) return true;
        if (prefix_len + 8 > PREFIX_BYTES) return false;
        if (d->nodes[first].next == NOBODY) {
            draw_turn(d, d->nodes[first].turn, prefix, "");
            continue;
        }
        for (long child = first; child != NOBODY; child = d->nodes[child].next) {
            const bool is_last = d->nodes[child].next == NOBODY;
            draw_turn(d, d->nodes[child].turn, prefix, is_last ? "└─ " : "├─ ");
            snprintf(prefix + prefix_len, PREFIX_BYTES - prefix_len, "%s", is_last ? "   " : "│  ");
            const bool drawn = draw_below(d, child, prefix, strlen(prefix));
            prefix[prefix_len] = '\0';
            if (!drawn) return false;
        }
        return true;
    }
}

static bool draw(const json_t *tree, const char *asked, cn_err *err)
{
    char prefix[PREFIX_BYTES] = "";
    const json_t *turns = json_object_get(tree, "turns");
    drawing d = {json_object_get(tree, "conversations"), asked, NULL};
    bool drawn = link_turns(&d, turns);
    if (!drawn)
        cn_err_set(err, CN_E_MEMORY, "no memory for a tree of %zu turns", json_array_size(turns));
    else if (json_array_size(turns) == 0) puts("(empty)");
    else if (!draw_below(&d, 0, prefix, 0)) {
        drawn = false;
        cn_err_set(err, CN_E_LIMIT, "the tree branches too deep to be drawn; --json has all of it");
    }
    free(d.nodes);
    return drawn;
}

static int tree(const cn_client *client)
{
    char path[PATH_BYTES];
    cn_err err;
    if (!id_path(path, client->words[0], "/tree", &err)) return fail(&err);
    json_t *answer = cn_client_json(client, "GET", path, NULL, &err);
    if (!answer) return fail(&err);
    bool drawn = true;
    if (cn_client_flag_value(client, "--json")) print_json(answer);
    else drawn = draw(answer, client->words[0], &err);
    json_decref(answer);
    return drawn ? CN_EXIT_OK : fail(&err);
}

// ---- fork, export, import, rm

static int show_new(const cn_client *client, json_t *conversation)
{
    if (cn_client_flag_value(client, "--json")) print_json(conversation);
    else puts(text_of(conversation, "id"));
    json_decref(conversation);
    return CN_EXIT_OK;
}

static int fork_at(const cn_client *client)
{
    char path[PATH_BYTES];
    cn_err err;
    const char *at = cn_client_flag_value(client, "--at");
    if (!id_path(path, client->words[0], "/fork", &err)) return fail(&err);
    json_t *body = json_object();
    if (at) json_object_set_new(body, "at", json_string(at));
    json_t *conversation = cn_client_json(client, "POST", path, body, &err);
    json_decref(body);
    return conversation ? show_new(client, conversation) : fail(&err);
}

// Writes to the file and takes it away again if that fails: no file is better than half of one.
static bool write_file(const char *name, const cn_buf *text, cn_err *err)
{
    FILE *file = name ? fopen(name, "wx") : stdout;
    bool done = file && fwrite(text->data, 1, text->len, file) == text->len;
    if (file && name) done &= fclose(file) == 0;
    else if (file) done &= fflush(file) == 0;
    if (done) return true;
    cn_err_set(err, CN_E_IO, "%.200s: %s", name ? name : "standard output", strerror(errno));
    if (file && name) remove(name);
    return false;
}

static int export_lines(const cn_client *client)
{
    char path[PATH_BYTES];
    cn_err err;
    cn_buf out;
    if (!id_path(path, client->words[0], "/export", &err)) return fail(&err);
    cn_buf_init(&out, CN_CLIENT_ANSWER_BYTES_MAX);
    const bool done = cn_client_request(client, "GET", path, NULL, 0, &out, &err) == CN_OK &&
                      write_file(cn_client_flag_value(client, "--out"), &out, &err);
    cn_buf_close(&out);
    return done ? CN_EXIT_OK : fail(&err);
}

static bool read_file(const char *name, cn_buf *out, cn_err *err)
{
    FILE *file = name ? fopen(name, "r") : stdin;
    bool done = file != NULL;
    while (done && !feof(file)) {
        char *at = cn_buf_reserve(out, 1 << 16);
        if (!at) {
            cn_err_set(err, CN_E_LIMIT, "%.200s: longer than %d bytes",
                       name ? name : "standard input", IMPORT_BYTES_MAX);
            break;
        }
        cn_buf_advance(out, fread(at, 1, 1 << 16, file));
        done = !ferror(file);
    }
    if (!done) {
        cn_err_set(err, CN_E_IO, "%.200s: %s", name ? name : "standard input", strerror(errno));
    }
    if (file && name) fclose(file);
    return done && !out->overflowed;
}

static int import_lines(const cn_client *client)
{
    const char *name = client->word_count ? client->words[0] : NULL;
    cn_err err;
    cn_buf text, answer;
    json_t *conversation = NULL;
    cn_buf_init(&text, IMPORT_BYTES_MAX);
    cn_buf_init(&answer, CN_CLIENT_ANSWER_BYTES_MAX);
    if (read_file(name, &text, &err) &&
        cn_client_request(client, "POST", "/v1/conversations/import", text.len ? text.data : "",
                          text.len, &answer, &err) == CN_OK) {
        conversation = json_loadb(answer.data ? answer.data : "", answer.len, 0, NULL);
        if (!conversation) cn_err_set(&err, CN_E_SYNTAX, "the server's answer is no JSON");
    }
    cn_buf_close(&text);
    cn_buf_close(&answer);
    return conversation ? show_new(client, conversation) : fail(&err);
}

static int delete_all(const cn_client *client)
{
    char path[PATH_BYTES];
    cn_err err;
    for (int i = 0; i < client->word_count; i++) {
        if (!id_path(path, client->words[i], "", &err)) return fail(&err);
        json_t *answer = cn_client_json(client, "DELETE", path, NULL, &err);
        if (!answer) return fail(&err);
        json_decref(answer);
    }
    return CN_EXIT_OK;
}

// ---- the command

static const struct {
    const char *name, *words, *what;
    int (*run)(const cn_client *client);
    int words_min, words_max;
    cn_client_flag flag; // beside --json
    bool has_json;
} jobs[] = {
    {"ls", "", "list the conversations, oldest first", list, 0, 0, {0}, true},
    {"show", "ID", "a conversation and its items", show, 1, 1, {0}, true},
    {"tree", "ID", "its turns, and those of all that were forked from them", tree, 1, 1, {0}, true},
    {"fork", "ID [--at TURN]", "a new conversation that begins at a turn; default: the head",
     fork_at, 1, 1, {"--at", true, NULL}, true},
    {"export", "ID [--out FILE]", "the conversation as lines of JSON", export_lines, 1, 1,
     {"--out", true, NULL}, false},
    {"import", "[FILE]", "a new conversation from such lines", import_lines, 0, 1, {0}, true},
    {"rm", "ID...", "delete conversations", delete_all, 1, CN_CLIENT_WORDS_MAX, {0}, false},
};

enum { JOB_COUNT = sizeof jobs / sizeof jobs[0] };

static void print_help(FILE *to)
{
    fputs(
        "usage: cairn session JOB [ID] [--url http://127.0.0.1:8000] [--api_key KEY] [--json]\n\n",
        to);
    for (int i = 0; i < JOB_COUNT; i++) {
        fprintf(to, "  %-7s %-16s %s\n", jobs[i].name, jobs[i].words, jobs[i].what);
    }
    fputs(
        "\nThe conversations are those of the API key, which may also be in CAIRN_API_KEY. --json\n"
        "prints what the server answers: for ls and show one line of JSON per object.\n",
        to);
}

static int refuse_job(const char *name)
{
    const char *names[JOB_COUNT];
    for (int i = 0; i < JOB_COUNT; i++) names[i] = jobs[i].name;
    cn_nearest_refuse("session: unknown job ", "cairn session", name, names, JOB_COUNT);
    return CN_EXIT_USAGE;
}

int cn_session_run(int argc, char **argv)
{
    const char *name = argc > 0 ? argv[0] : "";
    const bool help = strcmp(name, "--help") == 0;
    int n = 0;
    while (n < JOB_COUNT && strcmp(jobs[n].name, name) != 0) n++;
    if (n == JOB_COUNT && *name && !help) return refuse_job(name);
    if (n == JOB_COUNT) {
        print_help(help ? stdout : stderr);
        return help ? CN_EXIT_OK : CN_EXIT_USAGE;
    }
    char command[32];
    snprintf(command, sizeof command, "cairn session %s", name);
    cn_client client = {
        .command = command, .words_min = jobs[n].words_min, .words_max = jobs[n].words_max};
    if (jobs[n].flag.name) client.flags[client.flag_count++] = jobs[n].flag;
    if (jobs[n].has_json)
        client.flags[client.flag_count++] = (cn_client_flag){"--json", false, NULL};
    if (!cn_client_read(&client, argc - 1, argv + 1)) return CN_EXIT_USAGE;
    if (client.help) {
        print_help(stdout);
        return CN_EXIT_OK;
    }
    return jobs[n].run(&client);
}
