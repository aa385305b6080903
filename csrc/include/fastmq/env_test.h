/* fastmq/env_test.h - the real world with a clock that can be moved and a disk that can be full.
 *
 * For brokers in test mode (`fastmq.testing`).  Files, memory and the monotonic clock are those of
 * `fmq_env_system`: sockets and waiting stay real.  Only wall time moves, which is what timestamps
 * are checked against and LogAppendTime is taken from; and writes may be made to fail.
 */
#ifndef FASTMQ_ENV_TEST_H
#define FASTMQ_ENV_TEST_H

#include "fastmq/env.h"

typedef struct fmq_env_test fmq_env_test;

/* NULL when memory is exhausted.  Outlives whatever uses its env. */
fmq_env_test *fmq_env_test_new(void);
void fmq_env_test_free(fmq_env_test *test);
const fmq_env *fmq_env_test_env(const fmq_env_test *test);

/* Both may be called from any thread and hold from the next call on.
 * `offset_ms` is what wall time is ahead of the real one. */
void fmq_env_test_set_wall_offset(fmq_env_test *test, int64_t offset_ms);
/* Writes fail with this errno (ENOSPC, EIO), 0: they work. */
void fmq_env_test_set_write_error(fmq_env_test *test, int error);

#endif
