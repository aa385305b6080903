/* The environment of brokers in test mode: time that moves, writes that fail, the rest as it is. */
#include "check.h"
#include "fastmq/env_test.h"

#include <errno.h>
#include <stdlib.h>

static void wall_time_moves_and_the_monotonic_clock_does_not(void) {
    fmq_env_test *test = fmq_env_test_new();
    REQUIRE(test != NULL);
    const fmq_env *env = fmq_env_test_env(test);
    const fmq_env *real = fmq_env_system();
    int64_t mono = env->mono_ns(env->ctx);
    int64_t ahead = env->wall_ms(env->ctx) - real->wall_ms(real->ctx);
    CHECK(ahead <= 0 && ahead > -10000);
    fmq_env_test_set_wall_offset(test, 7200000);
    ahead = env->wall_ms(env->ctx) - real->wall_ms(real->ctx);
    CHECK(ahead <= 7200000 && ahead > 7190000);
    CHECK(env->mono_ns(env->ctx) - mono < 3600000000000ll);
    fmq_env_test_free(test);
}

static void writes_fail_while_they_are_told_to(void) {
    fmq_env_test *test = fmq_env_test_new();
    REQUIRE(test != NULL);
    const fmq_env *env = fmq_env_test_env(test);
    char path[] = "/tmp/fmq-env-test-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    char byte = 0;
    CHECK_EQ(env->pwrite(env->ctx, fd, "a", 1, 0), 1);
    fmq_env_test_set_write_error(test, ENOSPC);
    CHECK_EQ(env->pwrite(env->ctx, fd, "b", 1, 0), -ENOSPC);
    CHECK_EQ(env->preallocate(env->ctx, fd, 4096), -ENOSPC);
    CHECK_EQ(env->pread(env->ctx, fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'a');
    fmq_env_test_set_write_error(test, 0);
    CHECK_EQ(env->pwrite(env->ctx, fd, "c", 1, 0), 1);
    CHECK_EQ(env->close(env->ctx, fd), FMQ_OK);
    CHECK_EQ(env->unlink(env->ctx, path), FMQ_OK);
    fmq_env_test_free(test);
}

int main(void) {
    RUN(wall_time_moves_and_the_monotonic_clock_does_not);
    RUN(writes_fail_while_they_are_told_to);
    return check_report();
}
