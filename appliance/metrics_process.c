#include "appliance/metrics_process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// The first `bytes` - 1 bytes of a file, terminated; empty if there is none.
static void read_file(const char *path, char *out, size_t bytes)
{
    FILE *file = fopen(path, "re");
    const size_t n = file ? fread(out, 1, bytes - 1, file) : 0;
    out[n] = '\0';
    if (file) fclose(file);
}

static uint64_t count_descriptors(void)
{
    uint64_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) return 0;
    for (const struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    return count - 1;            // without the one that reads them
}

// When the system started: the rest of /proc counts from there.
static double boot_seconds(void)
{
    char text[16384];
    double seconds = 0;
    read_file("/proc/stat", text, sizeof text);
    const char *at = strstr(text, "\nbtime ");
    if (at) sscanf(at, "\nbtime %lf", &seconds);
    return seconds;
}

void cn_metrics_process_read(cn_metrics_process *out)
{
    char text[1024];
    struct rlimit limit = {0};
    unsigned long user = 0, system = 0, virtual_bytes = 0;
    unsigned long long start = 0;
    long threads = 0, pages = 0;
    const double tick = (double)sysconf(_SC_CLK_TCK);
    read_file("/proc/self/stat", text, sizeof text);
    const char *after_name = strrchr(text, ')');         // the name may hold anything
    if (after_name) {
        sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %ld %*d "
               "%llu %lu %ld", &user, &system, &threads, &start, &virtual_bytes, &pages);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    *out = (cn_metrics_process){
        .cpu_seconds = (double)(user + system) / tick,
        .start_seconds = boot_seconds() + (double)start / tick,
        .resident_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGE_SIZE),
        .virtual_bytes = virtual_bytes, .threads = (uint64_t)threads,
        .open_descriptors = count_descriptors(), .descriptors_max = limit.rlim_cur};
}
