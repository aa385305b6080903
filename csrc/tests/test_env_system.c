/* The real environment: what each function promises, on a scratch directory. */
#include "check.h"
#include "fastmq/env.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

static const fmq_env *env;
static char dir[PATH_MAX - 64];

static const char *path_of(const char *name) {
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return path;
}

static int open_new(const char *name) {
    return env->open(env->ctx, path_of(name), O_RDWR | O_CREAT | O_EXCL, 0600);
}

static void files_are_written_and_read(void) {
    const int fd = open_new("a");
    REQUIRE(fd >= 0);
    char text[8] = {0};
    CHECK_EQ(env->pwrite(env->ctx, fd, "hello", 5, 10), 5);
    CHECK_EQ(env->file_size(env->ctx, fd), 15);
    CHECK_EQ(env->pread(env->ctx, fd, text, 8, 10), 5);
    CHECK(strcmp(text, "hello") == 0);
    CHECK_EQ(env->pread(env->ctx, fd, text, 8, 15), 0);
    CHECK_EQ(env->ftruncate(env->ctx, fd, 3), FMQ_OK);
    CHECK_EQ(env->file_size(env->ctx, fd), 3);
    CHECK_EQ(env->preallocate(env->ctx, fd, 1 << 20), FMQ_OK);
    CHECK_EQ(env->file_size(env->ctx, fd), 3);
    CHECK_EQ(env->fdatasync(env->ctx, fd), FMQ_OK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(env->close(env->ctx, fd), FMQ_OK);
}

static void errors_are_negative_errno(void) {
    char byte;
    CHECK_EQ(env->open(env->ctx, path_of("missing"), O_RDONLY, 0), -ENOENT);
    CHECK_EQ(open_new("a"), -EEXIST);
    CHECK_EQ(env->close(env->ctx, -1), -EBADF);
    CHECK_EQ(env->pread(env->ctx, -1, &byte, 1, 0), -EBADF);
    CHECK_EQ(env->pwrite(env->ctx, -1, "x", 1, 0), -EBADF);
    CHECK_EQ(env->fdatasync(env->ctx, -1), -EBADF);
    CHECK_EQ(env->ftruncate(env->ctx, -1, 0), -EBADF);
    CHECK_EQ(env->file_size(env->ctx, -1), -EBADF);
    CHECK_EQ(env->preallocate(env->ctx, -1, 1), -EBADF);
    CHECK_EQ(env->mkdir(env->ctx, dir, 0700), -EEXIST);
    CHECK_EQ(env->rename(env->ctx, path_of("missing"), path_of("b")), -ENOENT);
    CHECK_EQ(env->unlink(env->ctx, path_of("missing")), -ENOENT);
    CHECK_EQ(env->sync_dir(env->ctx, path_of("missing")), -ENOENT);
    CHECK_EQ(env->sync_dir(env->ctx, path_of("a")), -ENOTDIR);
}

static int count_name(void *arg, const char *name) {
    CHECK(strcmp(name, "b") == 0 || strcmp(name, "d") == 0);
    ++*(int *)arg;
    return 0;
}

static int stop_at_once(void *arg, const char *name) {
    (void)name;
    ++*(int *)arg;
    return 42;
}

static void names_are_changed_and_listed(void) {
    CHECK_EQ(env->rename(env->ctx, path_of("a"), path_of("b")), FMQ_OK);
    CHECK_EQ(env->mkdir(env->ctx, path_of("d"), 0700), FMQ_OK);
    CHECK_EQ(env->sync_dir(env->ctx, dir), FMQ_OK);
    int count = 0;
    CHECK_EQ(env->list_dir(env->ctx, dir, count_name, &count), FMQ_OK);
    CHECK_EQ(count, 2);
    count = 0;
    CHECK_EQ(env->list_dir(env->ctx, dir, stop_at_once, &count), 42);
    CHECK_EQ(count, 1);
    CHECK_EQ(env->list_dir(env->ctx, path_of("missing"), count_name, &count), -ENOENT);
    CHECK_EQ(env->unlink(env->ctx, path_of("b")), FMQ_OK);
    rmdir(path_of("d"));
}

static void clocks_run(void) {
    const int64_t first = env->mono_ns(env->ctx);
    CHECK(env->mono_ns(env->ctx) >= first);
    CHECK(env->wall_ms(env->ctx) > 1600000000000); /* after 2020 */
}

static void memory_grows(void) {
    char *memory = fmq_alloc(env, 10);
    REQUIRE(memory != NULL);
    memory = fmq_realloc(env, memory, 100);
    REQUIRE(memory != NULL);
    memory[99] = 1;
    fmq_free(env, memory);
    fmq_free(env, NULL);
}

int main(void) {
    env = fmq_env_system();
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/fastmq-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir) == NULL) {
        perror("mkdtemp");
        return 1;
    }
    RUN(files_are_written_and_read);
    RUN(errors_are_negative_errno);
    RUN(names_are_changed_and_listed);
    RUN(clocks_run);
    RUN(memory_grows);
    rmdir(dir);
    return check_report();
}
