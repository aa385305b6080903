/* poller_kqueue.c - macOS and the BSDs: two filters per socket, both reported once per edge. */
#include "poller.h"

#if defined(FMQ_POLLER_KQUEUE)

#include <fcntl.h>
#include <sys/event.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define BATCH_MAX 256

struct fmq_poller {
    const fmq_env *env;
    int fd;
    int count; /* found by the last wait */
    int next;
    struct kevent found[BATCH_MAX];
};

int fmq_poller_create(const fmq_env *env, fmq_poller **out) {
    fmq_poller *poller = fmq_alloc(env, sizeof *poller);
    if (poller == NULL) {
        return -ENOMEM;
    }
    poller->env = env;
    poller->count = poller->next = 0;
    poller->fd = kqueue();
    if (poller->fd < 0) {
        int rc = -errno;
        fmq_free(env, poller);
        return rc;
    }
    (void)fcntl(poller->fd, F_SETFD, FD_CLOEXEC); /* a child never inherits a kqueue anyway */
    *out = poller;
    return FMQ_OK;
}

void fmq_poller_destroy(fmq_poller *poller) {
    if (poller != NULL) {
        (void)close(poller->fd);
        fmq_free(poller->env, poller);
    }
}

int fmq_poller_add(fmq_poller *poller, int fd, uint64_t key) {
    struct kevent changes[2];
    void *udata = (void *)(uintptr_t)key; /* 64-bit systems only, as base.h demands */
    EV_SET(&changes[0], (uintptr_t)fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, udata);
    EV_SET(&changes[1], (uintptr_t)fd, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, udata);
    if (kevent(poller->fd, changes, 1, NULL, 0, NULL) < 0) {
        return -errno;
    }
    /* The reading end of a pipe, the wake-up, has no such filter. */
    if (key != 0 && kevent(poller->fd, &changes[1], 1, NULL, 0, NULL) < 0) {
        return -errno;
    }
    return FMQ_OK;
}

void fmq_poller_remove(fmq_poller *poller, int fd) {
    (void)poller; /* closing does it */
    (void)fd;
}

void fmq_poller_arm(fmq_poller *poller, int fd, uint32_t what) {
    (void)poller;
    (void)fd;
    (void)what;
}

int fmq_poller_prepare(fmq_poller *poller) {
    (void)poller;
    return FMQ_OK;
}

int fmq_poller_wait(fmq_poller *poller, int timeout_ms) {
    struct timespec wait = {.tv_sec = timeout_ms / 1000,
                            .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    int count = kevent(poller->fd, NULL, 0, poller->found, BATCH_MAX, &wait);
    poller->count = count > 0 ? count : 0;
    poller->next = 0;
    return count < 0 && errno != EINTR ? -errno : FMQ_OK;
}

bool fmq_poller_next(fmq_poller *poller, fmq_ready *out) {
    if (poller->next == poller->count) {
        return false;
    }
    const struct kevent *event = &poller->found[poller->next++];
    bool gone = (event->flags & (EV_EOF | EV_ERROR)) != 0;
    out->key = (uint64_t)(uintptr_t)event->udata;
    out->what =
        (event->filter == EVFILT_WRITE ? (uint32_t)FMQ_READY_WRITE : (uint32_t)FMQ_READY_READ) |
        (gone ? (uint32_t)FMQ_READY_GONE : 0u);
    return true;
}

int fmq_poller_fd(const fmq_poller *poller) {
    return poller->fd;
}

const char *fmq_poller_name(void) {
    return "kqueue";
}

#endif
