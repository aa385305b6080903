# cython: language_level=3, boundscheck=False, wraparound=False
"""Sends and receives on sockets that do not block; the manual is `sockets.pyi`."""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen

    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)
    Py_ssize_t recv(int fd, void *data, size_t size, int flags)
    const int MSG_NOSIGNAL


cdef enum:
    PARTS_MAX = 64


def new_buffer(Py_ssize_t size):
    """A bytearray whose bytes are whatever the memory held."""
    return PyByteArray_FromStringAndSize(NULL, size)


def send_parts(int fd, parts):
    """Send the first of the buffers in one call."""
    cdef iovec pieces[PARTS_MAX]
    cdef Py_buffer views[PARTS_MAX]
    cdef msghdr message
    cdef size_t count = 0
    cdef size_t i
    cdef Py_ssize_t sent = -1
    try:
        for part in parts:
            if count == PARTS_MAX:
                break
            PyObject_GetBuffer(part, &views[count], PyBUF_SIMPLE)
            pieces[count].iov_base = views[count].buf
            pieces[count].iov_len = <size_t>views[count].len
            count += 1
        memset(&message, 0, sizeof(message))
        message.msg_iov = pieces
        message.msg_iovlen = count
        while True:
            sent = sendmsg(fd, &message, MSG_NOSIGNAL)
            if sent >= 0:
                return sent
            if errno == EAGAIN:
                return -1
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
    finally:
        for i in range(count):
            PyBuffer_Release(&views[i])


def receive_into(int fd, buffer):
    """Receive what is there, up to the size of the buffer."""
    cdef Py_buffer view
    cdef Py_ssize_t count
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        while True:
            count = recv(fd, view.buf, <size_t>view.len, 0)
            if count >= 0:
                return count
            if errno == EAGAIN:
                return -1
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
    finally:
        PyBuffer_Release(&view)
