/* The real world behind fmq_env: system calls, clocks, malloc.
 *
 * What differs between systems stays in this file.  macOS: fsync only reaches the drive's cache, so
 * syncing means F_FULLFSYNC; there is no fallocate.
 */
#ifdef __linux__
#define _GNU_SOURCE /* fallocate, preadv2 */
#endif

#include "fastmq/env.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Evaluate a system call until it is not interrupted. */
#define RETRY(result, call)                                                                        \
    do {                                                                                           \
        (result) = (call);                                                                         \
    } while ((result) < 0 && errno == EINTR)

static int system_open(void *ctx, const char *path, int flags, int mode) {
    (void)ctx;
    int fd;
    RETRY(fd, open(path, flags | O_CLOEXEC, (mode_t)mode));
    return fd < 0 ? -errno : fd;
}

static int system_close(void *ctx, int fd) {
    (void)ctx;
    /* Never retried: after EINTR the descriptor is gone on Linux and may belong to someone else. */
    if (close(fd) != 0 && errno != EINTR) {
        return -errno;
    }
    return FMQ_OK;
}

static int64_t system_pread(void *ctx, int fd, void *buf, size_t size, int64_t position) {
    (void)ctx;
    ssize_t done;
    RETRY(done, pread(fd, buf, size, (off_t)position));
    return done < 0 ? -errno : done;
}

static int64_t system_pwrite(void *ctx, int fd, const void *buf, size_t size, int64_t position) {
    (void)ctx;
    ssize_t done;
    RETRY(done, pwrite(fd, buf, size, (off_t)position));
    return done < 0 ? -errno : done;
}

static bool system_is_cached(void *ctx, int fd, int64_t position) {
    (void)ctx;
#if defined(__linux__) && defined(RWF_NOWAIT)
    char byte;
    struct iovec part = {&byte, 1};
    return !(preadv2(fd, &part, 1, (off_t)position, RWF_NOWAIT) < 0 && errno == EAGAIN);
#else
    (void)fd;
    (void)position;
    return true;
#endif
}

/* Force a file or directory to the medium. */
static int sync_fd(int fd, bool data_only) {
    int result;
#if defined(__APPLE__)
    (void)data_only;
    RETRY(result, fcntl(fd, F_FULLFSYNC));
    if (result < 0 && (errno == ENOTSUP || errno == EINVAL || errno == ENOTTY)) {
        RETRY(result, fsync(fd)); /* network and foreign file systems know nothing better */
    }
#else
    if (data_only) {
        RETRY(result, fdatasync(fd));
    } else {
        RETRY(result, fsync(fd));
    }
#endif
    return result < 0 ? -errno : FMQ_OK;
}

static int system_fdatasync(void *ctx, int fd) {
    (void)ctx;
    return sync_fd(fd, true);
}

static int system_ftruncate(void *ctx, int fd, int64_t size) {
    (void)ctx;
    int result;
    RETRY(result, ftruncate(fd, (off_t)size));
    return result < 0 ? -errno : FMQ_OK;
}

static int64_t system_file_size(void *ctx, int fd) {
    (void)ctx;
    struct stat st;
    int result;
    RETRY(result, fstat(fd, &st));
    return result < 0 ? -errno : (int64_t)st.st_size;
}

/* A hint: a file system that cannot reserve space is no error, a full one is. */
static int system_preallocate(void *ctx, int fd, int64_t size) {
    (void)ctx;
#if defined(__linux__)
    int result;
    RETRY(result, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size));
    if (result < 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
        return -errno;
    }
#elif defined(__APPLE__)
    fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, (off_t)size, 0};
    if (fcntl(fd, F_PREALLOCATE, &store) < 0 && errno != ENOTSUP && errno != EINVAL) {
        return -errno;
    }
#else
    (void)fd;
    (void)size;
#endif
    return FMQ_OK;
}

static int system_mkdir(void *ctx, const char *path, int mode) {
    (void)ctx;
    return mkdir(path, (mode_t)mode) < 0 ? -errno : FMQ_OK;
}

static int system_rename(void *ctx, const char *from, const char *to) {
    (void)ctx;
    return rename(from, to) < 0 ? -errno : FMQ_OK;
}

static int system_unlink(void *ctx, const char *path) {
    (void)ctx;
    return unlink(path) < 0 ? -errno : FMQ_OK;
}

static int system_sync_dir(void *ctx, const char *path) {
    int fd = system_open(ctx, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return fd;
    }
    int result = sync_fd(fd, false);
    int closed = system_close(ctx, fd);
    return result != FMQ_OK ? result : closed;
}

static int system_list_dir(void *ctx, const char *path, int (*visit)(void *arg, const char *name),
                           void *arg) {
    (void)ctx;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return -errno;
    }
    int result = FMQ_OK;
    while (result == FMQ_OK) {
        errno = 0; /* readdir tells the end from an error only by errno */
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            result = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            result = visit(arg, entry->d_name);
        }
    }
    (void)closedir(dir); /* read only: nothing can be lost */
    return result;
}

static int64_t system_wall_ms(void *ctx) {
    (void)ctx;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t system_mono_ns(void *ctx) {
    (void)ctx;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t system_boot_ns(void *ctx) {
#ifdef CLOCK_BOOTTIME
    (void)ctx;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#else
    return system_mono_ns(ctx);
#endif
}

static void *system_alloc(void *ctx, size_t size) {
    (void)ctx;
    return malloc(size);
}

static void *system_realloc(void *ctx, void *memory, size_t size) {
    (void)ctx;
    return realloc(memory, size);
}

static void system_free(void *ctx, void *memory) {
    (void)ctx;
    free(memory);
}

static const fmq_env system_env = {
    .ctx = NULL,
    .open = system_open,
    .close = system_close,
    .pread = system_pread,
    .pwrite = system_pwrite,
    .is_cached = system_is_cached,
    .fdatasync = system_fdatasync,
    .ftruncate = system_ftruncate,
    .file_size = system_file_size,
    .preallocate = system_preallocate,
    .mkdir = system_mkdir,
    .rename = system_rename,
    .unlink = system_unlink,
    .sync_dir = system_sync_dir,
    .list_dir = system_list_dir,
    .wall_ms = system_wall_ms,
    .mono_ns = system_mono_ns,
    .boot_ns = system_boot_ns,
    .alloc = system_alloc,
    .realloc = system_realloc,
    .free = system_free,
};

const fmq_env *fmq_env_system(void) {
    return &system_env;
}
