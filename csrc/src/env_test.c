/* env_test.c - see env_test.h. */
#include "fastmq/env_test.h"

#include <stdatomic.h>
#include <stdlib.h>

struct fmq_env_test {
    fmq_env env;
    _Atomic int64_t wall_offset_ms;
    _Atomic int write_error;
};

static int64_t test_pwrite(void *ctx, int fd, const void *buf, size_t size, int64_t position) {
    fmq_env_test *test = ctx;
    int error = atomic_load_explicit(&test->write_error, memory_order_relaxed);
    if (error != 0) {
        return -error;
    }
    return fmq_env_system()->pwrite(NULL, fd, buf, size, position);
}

static int test_preallocate(void *ctx, int fd, int64_t size) {
    fmq_env_test *test = ctx;
    int error = atomic_load_explicit(&test->write_error, memory_order_relaxed);
    return error != 0 ? -error : fmq_env_system()->preallocate(NULL, fd, size);
}

static int64_t test_wall_ms(void *ctx) {
    fmq_env_test *test = ctx;
    return fmq_env_system()->wall_ms(NULL) +
           atomic_load_explicit(&test->wall_offset_ms, memory_order_relaxed);
}

fmq_env_test *fmq_env_test_new(void) {
    fmq_env_test *test = malloc(sizeof *test);
    if (test == NULL) {
        return NULL;
    }
    test->env = *fmq_env_system(); /* its functions do not look at ctx */
    test->env.ctx = test;
    test->env.pwrite = test_pwrite;
    test->env.preallocate = test_preallocate;
    test->env.wall_ms = test_wall_ms;
    atomic_init(&test->wall_offset_ms, 0);
    atomic_init(&test->write_error, 0);
    return test;
}

void fmq_env_test_free(fmq_env_test *test) {
    free(test);
}

const fmq_env *fmq_env_test_env(const fmq_env_test *test) {
    return &test->env;
}

void fmq_env_test_set_wall_offset(fmq_env_test *test, int64_t offset_ms) {
    atomic_store_explicit(&test->wall_offset_ms, offset_ms, memory_order_relaxed);
}

void fmq_env_test_set_write_error(fmq_env_test *test, int error) {
    atomic_store_explicit(&test->write_error, error, memory_order_relaxed);
}
