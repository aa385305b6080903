/* poller_poll.c - poll(2), made edge-triggered by not asking again for what was reported.
 *
 * `entries` is a table by descriptor: what each waits for.  fmq_poller_prepare makes of it the
 * array that poll looks at while others change the table.  What is reported is crossed out in the
 * table.
 */
#if defined(__linux__)
#define _GNU_SOURCE /* POLLRDHUP */
#endif
#include "poller.h"

#if defined(FMQ_POLLER_POLL)

#include <poll.h>
#include <string.h>

#ifndef POLLRDHUP
#define POLLRDHUP 0 /* then the end of a stream shows when it is read */
#endif

typedef struct entry {
    uint64_t key;
    uint32_t armed; /* FMQ_READY_* that are to be reported */
    bool used;
} entry;

struct fmq_poller {
    const fmq_env *env;
    entry *entries; /* by descriptor */
    int capacity;
    int top; /* no descriptor in use is as large */
    struct pollfd *looked_at;
    int looked_capacity;
    int looked_count;
    int next; /* of `looked_at`, to be reported */
};

int fmq_poller_create(const fmq_env *env, fmq_poller **out) {
    fmq_poller *poller = fmq_alloc(env, sizeof *poller);
    if (poller == NULL) {
        return -ENOMEM;
    }
    memset(poller, 0, sizeof *poller);
    poller->env = env;
    *out = poller;
    return FMQ_OK;
}

void fmq_poller_destroy(fmq_poller *poller) {
    if (poller != NULL) {
        fmq_free(poller->env, poller->entries);
        fmq_free(poller->env, poller->looked_at);
        fmq_free(poller->env, poller);
    }
}

int fmq_poller_add(fmq_poller *poller, int fd, uint64_t key) {
    if (fd >= poller->capacity) {
        int capacity = poller->capacity > 0 ? poller->capacity : 64;
        while (capacity <= fd) {
            capacity *= 2;
        }
        entry *entries =
            fmq_realloc(poller->env, poller->entries, (size_t)capacity * sizeof *entries);
        if (entries == NULL) {
            return -ENOMEM;
        }
        memset(entries + poller->capacity, 0,
               (size_t)(capacity - poller->capacity) * sizeof *entries);
        poller->entries = entries;
        poller->capacity = capacity;
    }
    poller->entries[fd] = (entry){
        .key = key, .armed = FMQ_READY_READ | FMQ_READY_WRITE | FMQ_READY_GONE, .used = true};
    poller->top = fd >= poller->top ? fd + 1 : poller->top;
    return FMQ_OK;
}

void fmq_poller_remove(fmq_poller *poller, int fd) {
    poller->entries[fd] = (entry){0};
    while (poller->top > 0 && !poller->entries[poller->top - 1].used) {
        poller->top--;
    }
}

void fmq_poller_arm(fmq_poller *poller, int fd, uint32_t what) {
    poller->entries[fd].armed |= what;
}

static uint32_t ready_of(short events) {
    return (events & POLLIN ? (uint32_t)FMQ_READY_READ : 0u) |
           (events & POLLOUT ? (uint32_t)FMQ_READY_WRITE : 0u) |
           (events & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL) ? (uint32_t)FMQ_READY_GONE : 0u);
}

int fmq_poller_prepare(fmq_poller *poller) {
    if (poller->top > poller->looked_capacity) {
        struct pollfd *at =
            fmq_realloc(poller->env, poller->looked_at, (size_t)poller->capacity * sizeof *at);
        if (at == NULL) {
            return -ENOMEM;
        }
        poller->looked_at = at;
        poller->looked_capacity = poller->capacity;
    }
    poller->looked_count = 0;
    for (int fd = 0; fd < poller->top; fd++) {
        const entry *wanted = &poller->entries[fd];
        if (!wanted->used || wanted->armed == 0) {
            continue; /* POLLHUP could not be kept away otherwise */
        }
        short events = (short)((wanted->armed & FMQ_READY_READ ? POLLIN : 0) |
                               (wanted->armed & FMQ_READY_WRITE ? POLLOUT : 0) |
                               (wanted->armed & FMQ_READY_GONE ? POLLRDHUP : 0));
        poller->looked_at[poller->looked_count++] = (struct pollfd){.fd = fd, .events = events};
    }
    return FMQ_OK;
}

int fmq_poller_wait(fmq_poller *poller, int timeout_ms) {
    poller->next = 0;
    int count = poll(poller->looked_at, (nfds_t)poller->looked_count, timeout_ms);
    if (count <= 0) {
        poller->looked_count = 0;
    }
    return count < 0 && errno != EINTR && errno != EAGAIN ? -errno : FMQ_OK;
}

bool fmq_poller_next(fmq_poller *poller, fmq_ready *out) {
    while (poller->next < poller->looked_count) {
        const struct pollfd *found = &poller->looked_at[poller->next++];
        entry *wanted = &poller->entries[found->fd];
        uint32_t what = ready_of(found->revents);
        if (what != 0 && wanted->used) {
            /* A descriptor that was closed and given out anew meanwhile is reported in vain. */
            wanted->armed &= ~what;
            *out = (fmq_ready){.key = wanted->key, .what = what};
            return true;
        }
    }
    return false;
}

int fmq_poller_fd(const fmq_poller *poller) {
    (void)poller;
    return -1;
}

const char *fmq_poller_name(void) {
    return "poll";
}

#endif
