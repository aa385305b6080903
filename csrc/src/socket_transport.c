/* socket_transport.c - bytes and file ranges to and from a non-blocking socket.
 *
 * What differs between systems stays in this file: MSG_MORE is Linux's alone, macOS has no
 * MSG_NOSIGNAL (Python ignores SIGPIPE, and so must another program that embeds the engine), and
 * every system has a sendfile of its own, or none.
 */
#if defined(__linux__)
#define _GNU_SOURCE
#include <sys/sendfile.h>
#endif
#include "socket_transport.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef MSG_MORE
#define MSG_MORE 0
#endif

#if defined(__linux__)
typedef size_t msg_count; /* of msg_iovlen */
#else
typedef int msg_count;
#endif

static int64_t socket_recv(int fd, void *buf, size_t size) {
    ssize_t got;
    do {
        got = recv(fd, buf, size, 0);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int64_t socket_sendv(int fd, const struct iovec *parts, int count, bool more) {
    int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    ssize_t sent;
    do {
        if (count == 1) {
            sent = send(fd, parts->iov_base, parts->iov_len, flags);
        } else {
            struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                                     .msg_iovlen = (msg_count)count};
            sent = sendmsg(fd, &message, flags);
        }
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

#if defined(__linux__)

/* Linux has no MSG_MORE for sendfile; the bytes that follow leave in the next segment anyway. */
static ssize_t send_range(int fd, int file_fd, off_t position, size_t size) {
    return sendfile(fd, file_fd, &position, size);
}

#elif defined(__APPLE__)

/* The length says what was sent, also when the call ends with EAGAIN or EINTR. */
static ssize_t send_range(int fd, int file_fd, off_t position, size_t size) {
    off_t length = (off_t)size;
    int rc = sendfile(file_fd, fd, position, &length, NULL, 0);
    return rc < 0 && length == 0 ? -1 : (ssize_t)length;
}

#else

#define COPY_BYTES 65536

static ssize_t send_range(int fd, int file_fd, off_t position, size_t size) {
    char copy[COPY_BYTES];
    ssize_t got = pread(file_fd, copy, size < sizeof copy ? size : sizeof copy, position);
    return got > 0 ? send(fd, copy, (size_t)got, MSG_NOSIGNAL) : got;
}

#endif

static int64_t socket_sendfile(int fd, int file_fd, int64_t position, size_t size, bool more) {
    (void)more;
    ssize_t sent;
    do {
        sent = send_range(fd, file_fd, (off_t)position, size);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

const fmq_transport *fmq_socket_transport(void) {
    static const fmq_transport transport = {socket_recv, socket_sendv, socket_sendfile};
    return &transport;
}
