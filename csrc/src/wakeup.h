/* wakeup.h - a descriptor that one thread makes readable and another waits on.
 *
 * An eventfd on Linux; elsewhere a pipe that holds at most what the kernel's buffer takes, which is
 * as good as one byte.
 */
#ifndef FMQ_WAKEUP_H
#define FMQ_WAKEUP_H

#include "fastmq/base.h"

typedef struct fmq_wakeup {
    int read_fd; /* to wait on; -1: closed */
    int write_fd;
} fmq_wakeup;

#define FMQ_WAKEUP_CLOSED ((fmq_wakeup){-1, -1})

int fmq_wakeup_open(fmq_wakeup *wakeup); /* FMQ_OK or -errno, and closed then */
void fmq_wakeup_close(fmq_wakeup *wakeup);
void fmq_wakeup_poke(const fmq_wakeup *wakeup);  /* readable from now on */
void fmq_wakeup_clear(const fmq_wakeup *wakeup); /* not readable any more */

#endif
