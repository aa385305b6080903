/* poller_epoll.c - Linux: one system call per socket in its life, and one per turn. */
#include "poller.h"

#if defined(FMQ_POLLER_EPOLL)

#include <sys/epoll.h>
#include <unistd.h>

#define BATCH_MAX 256

struct fmq_poller {
    const fmq_env *env;
    int fd;
    int count; /* found by the last wait */
    int next;
    struct epoll_event found[BATCH_MAX];
};

int fmq_poller_create(const fmq_env *env, fmq_poller **out) {
    fmq_poller *poller = fmq_alloc(env, sizeof *poller);
    if (poller == NULL) {
        return -ENOMEM;
    }
    poller->env = env;
    poller->count = poller->next = 0;
    poller->fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->fd < 0) {
        int rc = -errno;
        fmq_free(env, poller);
        return rc;
    }
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
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.u64 = key,
    };
    return epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : FMQ_OK;
}

void fmq_poller_remove(fmq_poller *poller, int fd) {
    (void)poller; /* closing does it: nobody else has the descriptor */
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
    int count = epoll_wait(poller->fd, poller->found, BATCH_MAX, timeout_ms);
    poller->count = count > 0 ? count : 0;
    poller->next = 0;
    return count < 0 && errno != EINTR ? -errno : FMQ_OK;
}

bool fmq_poller_next(fmq_poller *poller, fmq_ready *out) {
    if (poller->next == poller->count) {
        return false;
    }
    const struct epoll_event *event = &poller->found[poller->next++];
    uint32_t is = event->events;
    out->key = event->data.u64;
    out->what = (is & EPOLLIN ? (uint32_t)FMQ_READY_READ : 0u) |
                (is & EPOLLOUT ? (uint32_t)FMQ_READY_WRITE : 0u) |
                (is & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? (uint32_t)FMQ_READY_GONE : 0u);
    return true;
}

int fmq_poller_fd(const fmq_poller *poller) {
    return poller->fd;
}

const char *fmq_poller_name(void) {
    return "epoll";
}

#endif
