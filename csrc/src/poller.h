/* poller.h - which sockets have something to do: epoll, kqueue or poll, chosen when compiled.
 *
 * The interface is edge-triggered for both directions, because that is what needs no system call
 * per request: a socket is added once, and each time it becomes readable or writable is reported
 * once.  After that the caller works until the socket has no more, and says with fmq_poller_arm
 * that it waits again; only poll has to be told.
 *
 *   poller_epoll.c    Linux
 *   poller_kqueue.c   macOS, the BSDs
 *   poller_poll.c     any POSIX system, or wherever FMQ_USE_POLL is defined.  It looks at every
 *                     socket in every turn, and has no descriptor that another loop could wait on,
 *                     so only the thread driver runs on it.
 *
 * A turn is fmq_poller_prepare, fmq_poller_wait, and fmq_poller_next until it has no more.  All but
 * fmq_poller_wait are called under the engine's lock; others may add, arm and remove while it
 * waits.
 */
#ifndef FMQ_POLLER_H
#define FMQ_POLLER_H

#include "fastmq/env.h"

#if defined(FMQ_USE_POLL)
#define FMQ_POLLER_POLL 1
#elif defined(__linux__)
#define FMQ_POLLER_EPOLL 1
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || \
    defined(__DragonFly__)
#define FMQ_POLLER_KQUEUE 1
#else
#define FMQ_POLLER_POLL 1
#endif

/* What fmq_poller_add and fmq_poller_arm change reaches a wait that has begun only by a wake-up. */
#if defined(FMQ_POLLER_POLL)
#define FMQ_POLLER_NEEDS_WAKE true
#else
#define FMQ_POLLER_NEEDS_WAKE false
#endif

enum {
    FMQ_READY_READ = 1,
    FMQ_READY_WRITE = 2,
    FMQ_READY_GONE = 4, /* the peer has ended the stream, or it broke; it may still be read */
};

typedef struct fmq_ready {
    uint64_t key;  /* as given */
    uint32_t what; /* FMQ_READY_* */
} fmq_ready;

typedef struct fmq_poller fmq_poller;

/* FMQ_OK or -errno. */
int fmq_poller_create(const fmq_env *env, fmq_poller **out);
void fmq_poller_destroy(fmq_poller *poller); /* NULL is fine */
/* Report this socket from now on; what it is ready for already is reported, too. */
int fmq_poller_add(fmq_poller *poller, int fd, uint64_t key);
/* Forget it; the caller closes the descriptor right after. */
void fmq_poller_remove(fmq_poller *poller, int fd);
/* The socket had nothing more in these directions (FMQ_READY_READ, FMQ_READY_WRITE). */
void fmq_poller_arm(fmq_poller *poller, int fd, uint32_t what);
/* Fix what the wait will look at.  FMQ_OK or -ENOMEM. */
int fmq_poller_prepare(fmq_poller *poller);
/* Wait up to `timeout_ms` (0: only look).  FMQ_OK, also when interrupted, or -errno. */
int fmq_poller_wait(fmq_poller *poller, int timeout_ms);
/* What the wait has found, one by one; false: that was all.  A socket may be reported twice, or
 * after it was removed. */
bool fmq_poller_next(fmq_poller *poller, fmq_ready *out);
/* A descriptor that is readable when fmq_poller_wait has something; -1: there is none. */
int fmq_poller_fd(const fmq_poller *poller);
const char *fmq_poller_name(void);

#endif
