/* cairn: an LLM inference appliance that remembers. One binary, one subcommand per job. */
#include <stdio.h>
#include <string.h>

#include "appliance/capture.h"
#include "appliance/bench.h"
#include "appliance/chat.h"
#include "appliance/cli.h"
#include "appliance/command.h"
#include "appliance/completion.h"
#include "appliance/doctor.h"
#include "appliance/explain.h"
#include "appliance/manual.h"
#include "appliance/metrics.h"
#include "appliance/drain.h"
#include "appliance/key.h"
#include "appliance/nearest.h"
#include "appliance/prove.h"
#include "appliance/serve.h"
#include "appliance/session.h"
#include "appliance/support_bundle.h"

static int fail(const cn_err *err, int exit_code)
{
    cn_cli_complain(err);
    return exit_code;
}

static void print_serve_help(void)
{
    puts("usage: cairn serve --model DIR [--listen ADDR:PORT] [--config FILE] [--KEY VALUE ...]\n\n"
         "Serves a Hugging Face checkpoint directory to OpenAI clients.\n"
         "Flags win over the environment (CAIRN_KV_BYTES for --kv.bytes), which wins over the "
         "file,\n"
         "which wins over defaults. Numbers may end in K, M, G or T (powers of 1024).\n"
         "SIGTERM and Ctrl-C drain: running answers get drain.seconds; a second one ends at "
         "once.\n"
         "SIGHUP reads the configuration again; the log says what has changed, and what waits for "
         "a\nrestart.\n\n"
         "Keys, with their [defaults]:");
    cn_cli_print_keys();
}

static int run_serve(int argc, char **argv)
{
    static cn_config_settings settings;
    cn_cli_flags flags = {0};
    cn_err err;
    const cn_code code = cn_cli_read(argc, argv, &settings, &flags, &err);
    int exit_code = CN_EXIT_OK;
    if (flags.help) print_serve_help();
    else if (code != CN_OK) exit_code = fail(&err, CN_EXIT_USAGE);
    else if (!settings.model[0]) {
        cn_err_set(&err, CN_E_INVALID,
                   "model: is not given; must be the directory of a Hugging Face "
                   "checkpoint (cairn serve --model DIR)");
        exit_code = fail(&err, CN_EXIT_USAGE);
    } else exit_code = cn_serve_run(&settings, argc, argv);
    cn_config_close(&settings);
    return exit_code;
}

static void print_config_help(void)
{
    puts("usage: cairn config check [--config FILE] [--KEY VALUE ...]\n"
         "       cairn config print [--json] [--config FILE] [--KEY VALUE ...]\n\n"
         "check says whether the configuration is sound; print shows each value and where it is "
         "from.\n"
         "\nKeys, with their [defaults]:");
    cn_cli_print_keys();
}

static int run_config(int argc, char **argv)
{
    static cn_config_settings settings;
    cn_cli_flags flags = {0};
    cn_err err;
    const bool prints = argc > 0 && strcmp(argv[0], "print") == 0;
    if (argc == 0 || (!prints && strcmp(argv[0], "check") != 0)) {
        const bool help = argc > 0 && strcmp(argv[0], "--help") == 0;
        print_config_help();
        return help ? CN_EXIT_OK : CN_EXIT_USAGE;
    }
    const cn_code code = cn_cli_read(argc - 1, argv + 1, &settings, &flags, &err);
    int exit_code = CN_EXIT_OK;
    if (flags.help) print_config_help();
    else if (code != CN_OK) exit_code = fail(&err, CN_EXIT_USAGE);
    else if (prints) {
        cn_buf out;
        cn_buf_init(&out, 1 << 20);
        cn_config_write(&settings, flags.json, &out);
        fwrite(out.data, 1, out.len, stdout);
        cn_buf_close(&out);
    } else puts("the configuration is sound");
    cn_config_close(&settings);
    return exit_code;
}

static int run_version(int argc, char **argv)
{
    const char *flag = argc == 1 ? argv[0] : "";
    const bool json = strcmp(flag, "--json") == 0, help = strcmp(flag, "--help") == 0;
    if (argc > (json || help)) {
        fprintf(stderr, "cairn: unexpected argument %.80s; usage: cairn version [--json]\n",
                argv[argc - 1]);
        return CN_EXIT_USAGE;
    }
    if (help) puts("usage: cairn version [--json]");
    else printf(json ? "{\"version\":\"%s\"}\n" : "cairn %s\n", CN_VERSION);
    return CN_EXIT_OK;
}

// These two tell of all commands, themselves included.
static int run_manual(int argc, char **argv);
static int run_completion(int argc, char **argv);

static const cn_command commands[] = {
    {"serve", run_serve, "serve a checkpoint to OpenAI clients"},
    {"chat", cn_chat_run, "talk to a running server in the terminal"},
    {"session", cn_session_run, "list, show, fork, export, import and delete conversations"},
    {"key", cn_key_run, "make, list and revoke API keys"},
    {"prove", cn_prove_run, "generate stored turns again and compare them bit for bit"},
    {"bench", cn_bench_run, "load any OpenAI-compatible server and say how it answered"},
    {"metrics", cn_metrics_run, "print what a server counts, or list what there is"},
    {"drain", cn_drain_run, "have a running server end, without losing a request"},
    {"doctor", cn_doctor_run, "say whether this machine can run a configuration"},
    {"capture", cn_capture_run, "write what the network port sees to a pcap file"},
    {"config", run_config, "check the configuration, or print it"},
    {"support-bundle", cn_support_bundle_run, "write a file for somebody who helps from afar"},
    {"explain", cn_explain_run, "say what an error means and what to do"},
    {"manual", run_manual, "print the manual pages"},
    {"completion", run_completion, "print a script that completes commands in a shell"},
    {"version", run_version, "print the version"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const cn_commands all = {commands, COMMAND_COUNT};

static int run_manual(int argc, char **argv) { return cn_manual_run(&all, argc, argv); }

static int run_completion(int argc, char **argv) { return cn_completion_run(&all, argc, argv); }

static void print_help(FILE *to)
{
    fprintf(to, "Cairn %s: an LLM inference appliance that remembers.\n\n"
                "usage: cairn COMMAND [--flag value ...]\n\n", CN_VERSION);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-15s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\n`cairn COMMAND --help` says more.\n\n"
                "Exit codes: 0 done, 1 failed (a file, a port, the server), 2 bad usage or\n"
                "configuration, 128 + n ended by a second signal n.\n");
}

static int refuse_command(const char *name)
{
    const char *names[COMMAND_COUNT];
    for (int i = 0; i < COMMAND_COUNT; i++) names[i] = commands[i].name;
    cn_nearest_refuse("unknown command ", "cairn", name, names, COMMAND_COUNT);
    return CN_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 2, argv + 2);
    }
    const bool help = strcmp(name, "--help") == 0 || strcmp(name, "help") == 0;
    if (name[0] && !help) return refuse_command(name);
    print_help(help ? stdout : stderr);
    return help ? CN_EXIT_OK : CN_EXIT_USAGE;
}
