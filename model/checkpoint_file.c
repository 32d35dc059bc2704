#include "model/checkpoint_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

cn_code cn_checkpoint_file_path(const char *directory, const char *name,
                                char path[CN_CHECKPOINT_FILE_PATH_MAX], cn_err *err)
{
    const int len = snprintf(path, CN_CHECKPOINT_FILE_PATH_MAX, "%s/%s", directory, name);
    if (len >= 0 && len < CN_CHECKPOINT_FILE_PATH_MAX) return CN_OK;
    return cn_err_set(err, CN_E_IO, "%s: the path of its directory has %zu bytes; at most %d fit",
                      name, strlen(directory), CN_CHECKPOINT_FILE_PATH_MAX - 1);
}

static cn_code read_all(int fd, const char *name, char *data, size_t len, cn_err *err)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = read(fd, data + done, len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cn_err_set(err, CN_E_IO, "%s: %s", name, strerror(errno));
        if (n == 0) return cn_err_set(err, CN_E_IO, "%s: became shorter while it was read", name);
        done += (size_t)n;
    }
    data[len] = '\0';
    return CN_OK;
}

static cn_code read_open(int fd, const char *name, char **data, size_t *len, cn_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return cn_err_set(err, CN_E_IO, "%s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode)) return cn_err_set(err, CN_E_IO, "%s: is not a regular file", name);
    if (st.st_size > CN_CHECKPOINT_FILE_BYTES_MAX) {
        return cn_err_set(err, CN_E_FORMAT, "%s: has %lld bytes; at most %d are read", name,
                          (long long)st.st_size, CN_CHECKPOINT_FILE_BYTES_MAX);
    }
    *len = (size_t)st.st_size;
    *data = malloc(*len + 1);
    if (!*data) return cn_err_set(err, CN_E_MEMORY, "%s: no memory for %zu bytes", name, *len);
    const cn_code code = read_all(fd, name, *data, *len, err);
    if (code != CN_OK) {
        free(*data);
        *data = NULL;
    }
    return code;
}

cn_code cn_checkpoint_file_read(const char *directory, const char *name, char **data, size_t *len,
                                cn_err *err)
{
    char path[CN_CHECKPOINT_FILE_PATH_MAX];
    *data = NULL;
    *len = 0;
    cn_code code = cn_checkpoint_file_path(directory, name, path, err);
    if (code != CN_OK) return code;
    // Not blocking: a FIFO under this name is refused instead of waited for.
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        code = errno == ENOENT ? CN_E_NOT_FOUND : CN_E_IO;
        return cn_err_set(err, code, "%s: %s in %s", name, strerror(errno), directory);
    }
    code = read_open(fd, name, data, len, err);
    close(fd);
    return code;
}
