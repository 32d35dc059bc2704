#include "dataplane/host_tree.h"

#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

static void write_path(const char *root, const char *format, va_list arguments, char out[PATH_BYTES])
{
    const int len = snprintf(out, PATH_BYTES, "%.250s", root);
    vsnprintf(out + len, PATH_BYTES - (size_t)len, format, arguments);
}

FILE *cn_host_tree_open(const char *root, const char *path)
{
    char full[PATH_BYTES];
    snprintf(full, sizeof full, "%s%s", root, path);
    return fopen(full, "re");
}

bool cn_host_tree_exists(const char *root, const char *format, ...)
{
    char full[PATH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    write_path(root, format, arguments, full);
    va_end(arguments);
    return access(full, F_OK) == 0;
}

bool cn_host_tree_line(const char *root, char *out, size_t out_bytes, const char *format, ...)
{
    char full[PATH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    write_path(root, format, arguments, full);
    va_end(arguments);
    FILE *file = fopen(full, "re");
    if (!file) return false;
    const bool got = fgets(out, (int)out_bytes, file) != NULL;
    fclose(file);
    if (got) out[strcspn(out, "\n")] = '\0';
    return got;
}

bool cn_host_tree_field(const char *root, const char *path, const char *prefix, char *out,
                        size_t out_bytes)
{
    char *line = NULL;
    size_t line_bytes = 0;
    bool found = false;
    FILE *file = cn_host_tree_open(root, path);
    if (!file) return false;
    while (!found && getline(&line, &line_bytes, file) > 0) {
        found = strncmp(line, prefix, strlen(prefix)) == 0;
        if (!found) continue;
        const char *rest = line + strlen(prefix);
        rest += strspn(rest, " \t");
        snprintf(out, out_bytes, "%.*s", (int)strcspn(rest, "\n"), rest);
    }
    free(line);
    fclose(file);
    return found;
}

bool cn_host_tree_number(const char *root, const char *path, uint64_t *out)
{
    char line[64];
    if (!cn_host_tree_line(root, line, sizeof line, "%s", path)) return false;
    *out = strtoull(line, NULL, 10);
    return isdigit((unsigned char)line[0]);
}

bool cn_host_tree_link(const char *root, const char *path, char *out, size_t out_bytes)
{
    char full[PATH_BYTES], target[PATH_BYTES];
    snprintf(full, sizeof full, "%s%s", root, path);
    const ssize_t len = readlink(full, target, sizeof target - 1);
    if (len <= 0) return false;
    target[len] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(out, out_bytes, "%s", slash ? slash + 1 : target);
    return true;
}

bool cn_host_tree_entry(const char *root, const char *path, char *out, size_t out_bytes)
{
    char full[PATH_BYTES];
    snprintf(full, sizeof full, "%s%s", root, path);
    DIR *directory = opendir(full);
    const struct dirent *entry = NULL;
    if (!directory) return false;
    while ((entry = readdir(directory)) && entry->d_name[0] == '.') continue;
    if (entry) snprintf(out, out_bytes, "%s", entry->d_name);
    closedir(directory);
    return entry != NULL;
}

// The next range of a list, "2-3,7"; NULL when it is at its end.
static const char *next_range(const char *at, int64_t *first, int64_t *last)
{
    char *end;
    if (!isdigit((unsigned char)*at)) return NULL;
    *first = strtoll(at, &end, 10);
    *last = *end == '-' ? strtoll(end + 1, &end, 10) : *first;
    return *end == ',' ? end + 1 : end;
}

bool cn_host_tree_list_has(const char *list, int64_t cpu)
{
    int64_t first, last;
    while ((list = next_range(list, &first, &last))) {
        if (cpu >= first && cpu <= last) return true;
    }
    return false;
}

uint32_t cn_host_tree_list_count(const char *list)
{
    int64_t first, last;
    uint32_t count = 0;
    while ((list = next_range(list, &first, &last))) {
        if (last >= first) count += (uint32_t)(last - first + 1);
    }
    return count;
}
