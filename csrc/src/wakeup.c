/* Wake-up descriptors; see wakeup.h. */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/eventfd.h>
#endif
#include "wakeup.h"

#include <fcntl.h>
#include <unistd.h>

#if defined(__linux__)

int fmq_wakeup_open(fmq_wakeup *wakeup) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    *wakeup = (fmq_wakeup){fd, fd};
    return fd < 0 ? -errno : FMQ_OK;
}

void fmq_wakeup_poke(const fmq_wakeup *wakeup) {
    uint64_t one = 1;
    ssize_t ignored = write(wakeup->write_fd, &one, sizeof one); /* EAGAIN: it is readable */
    (void)ignored;
}

void fmq_wakeup_clear(const fmq_wakeup *wakeup) {
    uint64_t ignored;
    ssize_t got = read(wakeup->read_fd, &ignored, sizeof ignored);
    (void)got;
}

#else

int fmq_wakeup_open(fmq_wakeup *wakeup) {
    int fds[2];
    *wakeup = FMQ_WAKEUP_CLOSED;
    if (pipe(fds) < 0) {
        return -errno;
    }
    *wakeup = (fmq_wakeup){fds[0], fds[1]};
    for (int i = 0; i < 2; i++) {
        if (fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0 || fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0) {
            int rc = -errno;
            fmq_wakeup_close(wakeup);
            return rc;
        }
    }
    return FMQ_OK;
}

void fmq_wakeup_poke(const fmq_wakeup *wakeup) {
    ssize_t ignored = write(wakeup->write_fd, "", 1); /* EAGAIN: it is readable already */
    (void)ignored;
}

void fmq_wakeup_clear(const fmq_wakeup *wakeup) {
    char ignored[256];
    while (read(wakeup->read_fd, ignored, sizeof ignored) == (ssize_t)sizeof ignored) {
        /* more */
    }
}

#endif

void fmq_wakeup_close(fmq_wakeup *wakeup) {
    if (wakeup->write_fd >= 0 && wakeup->write_fd != wakeup->read_fd) {
        (void)close(wakeup->write_fd);
    }
    if (wakeup->read_fd >= 0) {
        (void)close(wakeup->read_fd);
    }
    *wakeup = FMQ_WAKEUP_CLOSED;
}
