/* fastmq/env.h - everything the C code asks of the world: files, clocks, memory.
 *
 * All I/O, time and allocation of csrc goes through one `struct fmq_env`, so that tests hand in
 * failing disks, full disks, torn writes and a virtual clock, and the simulator runs real log code.
 * Functions return a result >= 0 or `-errno`; they never set `errno` for the caller to read.
 * `fmq_env_system()` is the real one: retrying EINTR, otherwise one system call per function.
 */
#ifndef FASTMQ_ENV_H
#define FASTMQ_ENV_H

#include "fastmq/base.h"

typedef struct fmq_env {
    void *ctx; /* handed to every function */

    /* Files.  `open` takes open(2) flags (O_CLOEXEC is added) and returns a descriptor. */
    int (*open)(void *ctx, const char *path, int flags, int mode);
    int (*close)(void *ctx, int fd);
    int64_t (*pread)(void *ctx, int fd, void *buf, size_t size, int64_t position);
    int64_t (*pwrite)(void *ctx, int fd, const void *buf, size_t size, int64_t position);
    /* Whether the byte at `position` is in the page cache; true when that cannot be told. */
    bool (*is_cached)(void *ctx, int fd, int64_t position);
    int (*fdatasync)(void *ctx, int fd);
    int (*ftruncate)(void *ctx, int fd, int64_t size);
    int64_t (*file_size)(void *ctx, int fd);
    int (*preallocate)(void *ctx, int fd, int64_t size); /* hint, keeps the size */

    /* Names. */
    int (*mkdir)(void *ctx, const char *path, int mode);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*sync_dir)(void *ctx, const char *path); /* fsync of a directory */
    /* Calls `visit` for each entry but . and ..; stops and returns its result when not 0. */
    int (*list_dir)(void *ctx, const char *path, int (*visit)(void *arg, const char *name),
                    void *arg);

    /* Clocks: wall time in ms since 1970, monotonic time in ns. */
    int64_t (*wall_ms)(void *ctx);
    int64_t (*mono_ns)(void *ctx);
    int64_t (*boot_ns)(void *ctx); /* goes on while the machine sleeps; NULL: as mono_ns */

    /* Memory: NULL when exhausted (callers answer -ENOMEM, never abort). */
    void *(*alloc)(void *ctx, size_t size);
    void *(*realloc)(void *ctx, void *memory, size_t size);
    void (*free)(void *ctx, void *memory);
} fmq_env;

/* The real world.  Static storage, never freed, usable from any thread. */
const fmq_env *fmq_env_system(void);

static inline int64_t fmq_boot_ns(const fmq_env *env) {
    return env->boot_ns != NULL ? env->boot_ns(env->ctx) : env->mono_ns(env->ctx);
}

static inline void *fmq_alloc(const fmq_env *env, size_t size) {
    return env->alloc(env->ctx, size);
}

static inline void *fmq_realloc(const fmq_env *env, void *memory, size_t size) {
    return env->realloc(env->ctx, memory, size);
}

static inline void fmq_free(const fmq_env *env, void *memory) {
    env->free(env->ctx, memory);
}

#endif
