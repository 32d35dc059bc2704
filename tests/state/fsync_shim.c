/* tests/state/fsync_shim.c: loaded into redis-server (LD_PRELOAD), it writes down how much of each
 * file the disk is sure to have: after every fdatasync, the size that the file had before it, in
 * $CN_FSYNC_RECORD.<inode>. A test that cuts the file back to that size has what a power loss
 * leaves. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fdatasync(int fd);

int fdatasync(int fd)
{
    static int (*real)(int);
    struct stat status;
    char path[512], text[32];
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    const int known = fstat(fd, &status);
    const int result = real(fd);
    const char *record = getenv("CN_FSYNC_RECORD");
    if (result != 0 || known != 0 || !record) return result;
    snprintf(path, sizeof path, "%s.%llu", record, (unsigned long long)status.st_ino);
    const int out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    // One write of a fixed length: a kill leaves the old number or the new one.
    const int len = snprintf(text, sizeof text, "%020llu\n", (unsigned long long)status.st_size);
    if (out < 0 || write(out, text, (size_t)len) != len) abort();
    close(out);
    return result;
}
