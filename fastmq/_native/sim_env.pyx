# cython: language_level=3
"""The world of a simulated broker's C code; the interface and its meaning are in sim_env.pyi.

Files that are read stay the system's; whatever changes a file, and the clocks, are asked of Python,
which keeps account of what a power cut may take away. Nothing here is fast, and nothing has to be.
"""

import errno

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t


cdef extern from *:
    ctypedef bint cbool "_Bool"


cdef extern from "fastmq/env.h" nogil:
    ctypedef struct fmq_env:
        void *ctx
        int (*open)(void *ctx, const char *path, int flags, int mode)
        int (*close)(void *ctx, int fd)
        int64_t (*pread)(void *ctx, int fd, void *buf, size_t size, int64_t position)
        int64_t (*pwrite)(void *ctx, int fd, const void *buf, size_t size, int64_t position)
        cbool (*is_cached)(void *ctx, int fd, int64_t position)
        int (*fdatasync)(void *ctx, int fd)
        int (*ftruncate)(void *ctx, int fd, int64_t size)
        int (*preallocate)(void *ctx, int fd, int64_t size)
        int (*mkdir)(void *ctx, const char *path, int mode)
        int (*rename)(void *ctx, const char *source, const char *to)
        int (*unlink)(void *ctx, const char *path)
        int (*sync_dir)(void *ctx, const char *path)
        int64_t (*wall_ms)(void *ctx)
        int64_t (*mono_ns)(void *ctx)
        int64_t (*boot_ns)(void *ctx)


# Engines still close their files through it when the garbage collector finds all of them at once.
@cython.no_gc_clear
cdef class SimEnv:
    cdef fmq_env env
    cdef object host

    def __init__(self, host, system):
        self.env = (<fmq_env *>PyCapsule_GetPointer(system, "fmq_env"))[0]
        self.host = host
        self.env.ctx = <void *>self
        self.env.open = sim_open
        self.env.pwrite = sim_pwrite
        self.env.is_cached = sim_is_cached
        self.env.fdatasync = sim_fdatasync
        self.env.ftruncate = sim_ftruncate
        self.env.preallocate = sim_preallocate
        self.env.mkdir = sim_mkdir
        self.env.rename = sim_rename
        self.env.unlink = sim_unlink
        self.env.sync_dir = sim_sync_dir
        self.env.wall_ms = sim_wall_ms
        self.env.mono_ns = sim_mono_ns
        self.env.boot_ns = sim_mono_ns

    def capsule(self):
        return PyCapsule_New(<void *>&self.env, "fmq_env", NULL)


cdef int64_t asked(void *ctx, str call, tuple arguments) noexcept:
    """Call a method of the host; a result below 0 is -errno."""
    try:
        return getattr((<SimEnv>ctx).host, call)(*arguments)
    except OSError as error:
        return -(error.errno or errno.EIO)
    except Exception as error:
        (<SimEnv>ctx).host.broken(error)
        return -errno.EIO


cdef int sim_open(void *ctx, const char *path, int flags, int mode) noexcept with gil:
    return <int>asked(ctx, "open_file", ((<bytes>path).decode(), flags, mode))


cdef int64_t sim_pwrite(void *ctx, int fd, const void *buf, size_t size,
                        int64_t position) noexcept with gil:
    return asked(ctx, "write_at", (fd, (<const char *>buf)[:size], position))


cdef cbool sim_is_cached(void *ctx, int fd, int64_t position) noexcept nogil:
    return True


cdef int sim_fdatasync(void *ctx, int fd) noexcept with gil:
    return <int>asked(ctx, "sync_file", (fd,))


cdef int sim_ftruncate(void *ctx, int fd, int64_t size) noexcept with gil:
    return <int>asked(ctx, "truncate_file", (fd, size))


cdef int sim_preallocate(void *ctx, int fd, int64_t size) noexcept nogil:
    return 0


cdef int sim_mkdir(void *ctx, const char *path, int mode) noexcept with gil:
    return <int>asked(ctx, "make_name", ((<bytes>path).decode(), mode))


cdef int sim_rename(void *ctx, const char *source, const char *to) noexcept with gil:
    return <int>asked(ctx, "rename_name", ((<bytes>source).decode(), (<bytes>to).decode()))


cdef int sim_unlink(void *ctx, const char *path) noexcept with gil:
    return <int>asked(ctx, "unlink_name", ((<bytes>path).decode(),))


cdef int sim_sync_dir(void *ctx, const char *path) noexcept with gil:
    return <int>asked(ctx, "sync_names", ((<bytes>path).decode(),))


cdef int64_t sim_wall_ms(void *ctx) noexcept with gil:
    return asked(ctx, "wall_ms", ())


cdef int64_t sim_mono_ns(void *ctx) noexcept with gil:
    return asked(ctx, "mono_ns", ())
