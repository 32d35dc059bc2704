/* dataplane/host_tree.h: what the kernel tells about the machine in /proc and /sys, read below a root
 * that is "" but in tests and for the tree of another machine.
 *
 * Threads: any, nothing is kept.
 * Memory:  the caller's. Paths begin with a slash and may be formats. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

FILE *cn_host_tree_open(const char *root, const char *path);         // NULL: it is not there
bool cn_host_tree_exists(const char *root, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The first line of a file without its end; false: there is none. */
bool cn_host_tree_line(const char *root, char *out, size_t out_bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What follows `prefix` and blanks in the first line that begins with it; false: none does. */
bool cn_host_tree_field(const char *root, const char *path, const char *prefix, char *out,
                        size_t out_bytes);
/* The number that a file begins with; false: it is not there, or begins otherwise. */
bool cn_host_tree_number(const char *root, const char *path, uint64_t *out);

/* The last part of where a link points; false: there is no such link. */
bool cn_host_tree_link(const char *root, const char *path, char *out, size_t out_bytes);
/* The first entry of a directory that is not hidden; false: there is none. */
bool cn_host_tree_entry(const char *root, const char *path, char *out, size_t out_bytes);

/* Whether a list of CPUs ("2-3,7") names `cpu`, and how many it names. */
bool cn_host_tree_list_has(const char *list, int64_t cpu);
uint32_t cn_host_tree_list_count(const char *list);
