#include "appliance/chat.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <histedit.h>
#include <jansson.h>

#include "appliance/cli.h"
#include "appliance/client.h"
#include "appliance/http_client.h"
#include "base/buf.h"
#include "base/clock.h"

enum { ANSWER_BYTES_MAX = 16 << 20 };

typedef struct chat {
    cn_client client;
    char *system;                // prompt, or NULL
    json_t *messages;            // of a chat that this program keeps
    char conversation[80];       // id of one that the server keeps; "" if none
    bool stored;                 // the server keeps it; a new one begins with the first question
    bool terminal;               // both ends: prompts, colours, figures
    bool failed;                 // a piped question got no answer
    cn_buf body;                 // what came of the answer and was not read yet
    cn_buf text;                 // the answer
    uint64_t first_ns, last_ns, sent_ns;
    uint64_t cached_tokens, answer_tokens, prompt_tokens;
} chat;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static uint64_t now_ns(void)
{
    const cn_clock clock = cn_clock_system();
    return cn_clock_now_ns(&clock);
}

static void say(const chat *c, const char *colour, const char *text)
{
    if (c->terminal) printf("\033[%sm%s\033[0m\n", colour, text);
    else fprintf(stderr, "%s\n", text);
}

static json_t *new_messages(const chat *c)
{
    json_t *messages = json_array();
    if (c->system) {
        json_array_append_new(messages,
                              json_pack("{s:s,s:s}", "role", "system", "content", c->system));
    }
    return messages;
}

static void reset(chat *c)
{
    json_decref(c->messages);
    c->messages = new_messages(c);
    c->conversation[0] = '\0';
}

static uint64_t count_of(const json_t *usage, const char *key)
{
    const json_t *value = json_object_get(usage, key);
    return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}

// What the model says cannot command the terminal.
static void print_piece(const chat *c, const char *text, size_t len)
{
    if (c->terminal) cn_client_print(text, len);
    else fwrite(text, 1, len, stdout);
    fflush(stdout);
}

static void read_usage(chat *c, const json_t *usage)
{
    const char *prompt = c->stored ? "input_tokens" : "prompt_tokens";
    const char *details = c->stored ? "input_tokens_details" : "prompt_tokens_details";
    if (!json_is_object(usage)) return;
    c->answer_tokens = count_of(usage, c->stored ? "output_tokens" : "completion_tokens");
    c->prompt_tokens = count_of(usage, prompt);
    c->cached_tokens = count_of(json_object_get(usage, details), "cached_tokens");
}

// One `data:` line of the stream, of chat completions or of responses.
static void read_event(chat *c, const char *data, size_t len)
{
    json_t *event = json_loadb(data, len, 0, NULL);
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const json_t *piece = json_object_get(json_object_get(choice, "delta"), "content");
    const json_t *response = json_object_get(event, "response");
    const json_t *failure = json_object_get(json_object_get(response, "error"), "message");
    const char *type = json_string_value(json_object_get(event, "type"));
    if (type && strcmp(type, "response.output_text.delta") == 0)
        piece = json_object_get(event, "delta");
    if (json_is_string(failure)) {
        c->failed = true;
        say(c, "31", json_string_value(failure));
    }
    read_usage(c, json_object_get(c->stored ? response : event, "usage"));
    if (json_is_string(piece) && json_string_length(piece) > 0) {
        const size_t piece_len = json_string_length(piece);
        c->last_ns = now_ns();
        if (c->text.len == 0) c->first_ns = c->last_ns;
        cn_buf_add(&c->text, json_string_value(piece), piece_len);
        print_piece(c, json_string_value(piece), piece_len);
    }
    json_decref(event);
}

static bool on_body(void *self, unsigned status, const char *data, size_t len)
{
    chat *c = self;
    if (interrupted) return false;
    if (len == 0) return true;
    cn_buf_add(&c->body, data, len);
    if (status != 200) return !c->body.overflowed;
    size_t start = 0;
    for (char *end; (end = memchr(c->body.data + start, '\n', c->body.len - start));) {
        const size_t line = (size_t)(end - c->body.data) - start;
        if (line > 6 && memcmp(c->body.data + start, "data: ", 6) == 0) {
            read_event(c, c->body.data + start + 6, line - 6);
        }
        start += line + 1;
        if (start == c->body.len) break;
    }
    memmove(c->body.data, c->body.data + start, c->body.len - start);
    c->body.len -= start;
    return !c->body.overflowed;
}

static void show_refusal(const chat *c, unsigned status)
{
    json_t *answer = json_loadb(c->body.data ? c->body.data : "", c->body.len, 0, NULL);
    const json_t *message = json_object_get(json_object_get(answer, "error"), "message");
    char text[512];
    snprintf(text, sizeof text, "the server answers %u: %s", status,
             json_is_string(message) ? json_string_value(message) : "(no reason given)");
    say(c, "31", text);
    json_decref(answer);
}

// The rate is over the whole time from sending: a short answer may arrive in a single piece.
static void show_figures(const chat *c)
{
    char text[200];
    const double seconds = (double)(c->last_ns - c->sent_ns) / 1e9;
    if (!c->terminal || seconds <= 0) return;
    snprintf(
        text, sizeof text,
        "%llu tokens, %.0f per second, the first after %.0f ms; %llu of %llu prompt tokens cached",
        (unsigned long long)c->answer_tokens, (double)c->answer_tokens / seconds,
        (double)(c->first_ns - c->sent_ns) / 1e6, (unsigned long long)c->cached_tokens,
        (unsigned long long)c->prompt_tokens);
    say(c, "2", text);
}

// Makes the conversation that the server keeps. False: it could not, which was said.
static bool begin_stored(chat *c)
{
    cn_err err;
    json_t *none = json_object();
    json_t *made = cn_client_json(&c->client, "POST", "/v1/conversations", none, &err);
    const char *id = json_string_value(json_object_get(made, "id"));
    if (!made) say(c, "31", err.text);
    else snprintf(c->conversation, sizeof c->conversation, "%s", id ? id : "");
    json_decref(none);
    json_decref(made);
    return c->conversation[0] != '\0';
}

// The body of the next request; NULL: there is none, which was said.
static char *make_request(chat *c, const json_t *question)
{
    json_t *request = NULL;
    if (!c->stored) {
        request = json_pack("{s:O,s:b,s:{s:b}}", "messages", c->messages, "stream", 1,
                            "stream_options", "include_usage", 1);
    } else if (c->conversation[0] || begin_stored(c)) {
        request = json_pack("{s:s,s:O,s:b}", "conversation", c->conversation, "input", question,
                            "stream", 1);
        if (c->system) json_object_set_new(request, "instructions", json_string(c->system));
    }
    char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    return body;
}

// Sends the conversation and streams the answer into it. False if there was none.
static bool ask(chat *c, const json_t *question)
{
    char url[600];
    cn_err err;
    unsigned status = 0;
    cn_buf_clear(&c->text);
    char *body = make_request(c, question);
    if (!body) return false;
    cn_buf_clear(&c->body);
    interrupted = 0;
    c->answer_tokens = c->cached_tokens = c->prompt_tokens = 0;
    c->sent_ns = c->first_ns = c->last_ns = now_ns();
    snprintf(url, sizeof url, "%s/v1/%s", c->client.url,
             c->stored ? "responses" : "chat/completions");
    const cn_http_client_call call = {url, c->client.api_key, "POST", body, strlen(body)};
    const cn_code code = cn_http_client_request(&call, on_body, c, &status, &err);
    free(body);
    if (c->text.len) putchar('\n');
    if (code != CN_OK) say(c, "31", err.text);
    else if (status != 200 && !interrupted) show_refusal(c, status);
    else if (interrupted) say(c, "2", "(stopped)");
    else show_figures(c);
    if (c->text.len == 0) return code == CN_OK && status == 200;
    json_array_append_new(c->messages, json_pack("{s:s,s:s%}", "role", "assistant", "content",
                                                 c->text.data, c->text.len));
    return code == CN_OK;
}

static void save(const chat *c, const char *path)
{
    char text[320];
    if (json_dump_file(c->messages, path, JSON_INDENT(1)) == 0)
        snprintf(text, sizeof text, "saved to %.200s", path);
    else snprintf(text, sizeof text, "%.200s: %s", path, strerror(errno));
    say(c, "2", text);
}

// A line that begins with a slash. False ends the program.
static bool command(chat *c, const char *line)
{
    const char *argument = strchr(line, ' ');
    argument = argument ? argument + 1 : "";
    if (strcmp(line, "/quit") == 0) return false;
    if (strcmp(line, "/reset") == 0) {
        reset(c);
        say(c, "2", "a new conversation");
    } else if (strncmp(line, "/system ", 8) == 0) {
        free(c->system);
        c->system = strdup(argument);
        reset(c);
        say(c, "2", "a new conversation with this system prompt");
    } else if (strncmp(line, "/save ", 6) == 0) save(c, argument);
    else {
        say(c, "2", "/reset  begin anew\n/system TEXT  begin anew with a system prompt\n"
                    "/save FILE  write the conversation as JSON\n/quit  end (or Ctrl-D)\n"
                    "Ctrl-C stops an answer");
    }
    return true;
}

static bool take_line(chat *c, char *line)
{
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0') return true;
    if (line[0] == '/') return command(c, line);
    const size_t before = json_array_size(c->messages);
    json_t *message = json_pack("{s:s,s:s}", "role", "user", "content", line);
    if (!message) {
        say(c, "31", "the line is not UTF-8");
        return true;
    }
    json_array_append_new(c->messages, message);
    // A question that got no answer is taken back, so that it can be put again.
    if (!ask(c, json_object_get(message, "content")) && c->text.len == 0) {
        while (json_array_size(c->messages) > before) json_array_remove(c->messages, before);
        c->failed = !c->terminal;
        return c->terminal;
    }
    return true;
}

static const char *prompt(EditLine *editor)
{
    (void)editor;
    return "\1\033[1m\1you> \1\033[0m\1";
}

static void talk(chat *c)
{
    HistEvent event;
    EditLine *editor = el_init("cairn", stdin, stdout, stderr);
    History *past = history_init();
    int count;
    const char *line;
    history(past, &event, H_SETSIZE, 1000);
    el_set(editor, EL_PROMPT_ESC, prompt, '\1');
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_HIST, history, past);
    say(c, "2", "Type a message. /help lists commands, Ctrl-D ends.");
    for (bool go_on = true; go_on;) {
        interrupted = 0;
        line = el_gets(editor, &count);
        if (!line && interrupted) {      // Ctrl-C at the prompt clears the line
            putchar('\n');
            el_reset(editor);
            continue;
        }
        if (!line || count <= 0) break;
        history(past, &event, H_ENTER, line);
        char *copy = strdup(line);
        go_on = copy && take_line(c, copy);
        free(copy);
    }
    putchar('\n');
    history_end(past);
    el_end(editor);
}

// Piped input: one question per line, answers alone on standard output. Returns the exit code.
static int answer_lines(chat *c)
{
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0 && take_line(c, line)) continue;
    free(line);
    return c->failed ? CN_EXIT_FAILED : CN_EXIT_OK;
}

static void print_help(void)
{
    puts("usage: cairn chat [--url http://127.0.0.1:8000] [--api_key KEY] [--system TEXT]\n"
         "                  [--store | --resume CONVERSATION]\n\n"
         "Talks to a running server. Without a terminal, each line of the input is a question and\n"
         "the answers go to the output. The key may also be in CAIRN_API_KEY. With --store the server\n"
         "keeps the conversation; --resume goes on with one that it keeps (`cairn session ls`).");
}

static void print_past(const json_t *item)
{
    const json_t *part;
    size_t i;
    const char *role = json_string_value(json_object_get(item, "role"));
    json_array_foreach(json_object_get(item, "content"), i, part) {
        const char *text = json_string_value(json_object_get(part, "text"));
        if (!text) continue;
        if (role && strcmp(role, "user") == 0) fputs("\033[1myou>\033[0m ", stdout);
        cn_client_print(text, strlen(text));
        putchar('\n');
    }
}

// What was said last. False: the conversation is not there, which was said.
static bool resume(chat *c)
{
    char path[200];
    cn_err err;
    snprintf(path, sizeof path, "/v1/conversations/%s/items?limit=6", c->conversation);
    json_t *page = cn_client_json(&c->client, "GET", path, NULL, &err);
    if (!page) {
        cn_cli_complain(&err);
        return false;
    }
    const json_t *items = json_object_get(page, "data");
    for (size_t i = json_array_size(items); c->terminal && i > 0; i--)
        print_past(json_array_get(items, i - 1));
    json_decref(page);
    return true;
}

// False if the arguments are not understood, which is said.
static bool read_arguments(int argc, char **argv, chat *c)
{
    c->client = (cn_client){.command = "cairn chat", .flag_count = 3,
                            .flags = {{"--system", true, NULL}, {"--store", false, NULL},
                                      {"--resume", true, NULL}}};
    if (!cn_client_read(&c->client, argc, argv)) return false;
    const char *system = cn_client_flag_value(&c->client, "--system");
    const char *id = cn_client_flag_value(&c->client, "--resume");
    c->stored = id || cn_client_flag_value(&c->client, "--store");
    c->system = system ? strdup(system) : NULL;
    if (!id) return true;
    const size_t len = strlen(id);
    if (len == 0 || len >= sizeof c->conversation ||
        strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_") != len) {
        fprintf(stderr, "cairn: --resume: %.80s; must be the id of a conversation, conv_...\n", id);
        return false;
    }
    memcpy(c->conversation, id, len + 1);
    return true;
}

int cn_chat_run(int argc, char **argv)
{
    chat c = {.terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    if (!read_arguments(argc, argv, &c)) return CN_EXIT_USAGE;
    if (c.client.help) {
        print_help();
        return CN_EXIT_OK;
    }
    if (c.conversation[0] && !resume(&c)) return CN_EXIT_FAILED;
    // For the line editor, which needs to know where a character ends; numbers stay as they are.
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    cn_buf_init(&c.body, ANSWER_BYTES_MAX);
    cn_buf_init(&c.text, ANSWER_BYTES_MAX);
    // Without SA_RESTART, so that a signal ends the wait for the next piece.
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
    c.messages = new_messages(&c);
    int exit_code = CN_EXIT_OK;
    if (c.terminal) talk(&c);
    else exit_code = answer_lines(&c);
    if (c.conversation[0]) {
        char text[160];
        snprintf(text, sizeof text, "cairn chat --resume %s goes on here", c.conversation);
        say(&c, "2", text);
    }
    json_decref(c.messages);
    cn_buf_close(&c.body);
    cn_buf_close(&c.text);
    free(c.system);
    return exit_code;
}
