/* socket_transport.c - bytes and file ranges to and from a non-blocking socket. */
#define _GNU_SOURCE
#include "socket_transport.h"

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

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
                                     .msg_iovlen = (size_t)count};
            sent = sendmsg(fd, &message, flags);
        }
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* Linux has no MSG_MORE for sendfile; the bytes that follow leave in the next segment anyway. */
static int64_t socket_sendfile(int fd, int file_fd, int64_t position, size_t size, bool more) {
    (void)more;
    off_t offset = (off_t)position;
    ssize_t sent;
    do {
        sent = sendfile(fd, file_fd, &offset, size);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

const fmq_transport *fmq_socket_transport(void) {
    static const fmq_transport transport = {socket_recv, socket_sendv, socket_sendfile};
    return &transport;
}
