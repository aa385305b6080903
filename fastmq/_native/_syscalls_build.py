"""Builds `fastmq._native._syscalls`: cold system calls that the standard library lacks.

Run by setup.py (`cffi_modules`), never imported by the package. API mode: the C compiler checks
every declaration against the system's headers. cffi releases the GIL around each call.
"""

from cffi import FFI

ffibuilder = FFI()

# Each function returns 0 or a positive number, or -errno.
ffibuilder.cdef(
    """
    int fmq_sync_filesystem(int fd);
    long long fmq_filesystem_magic(int fd);
    int fmq_trim_memory(void);
    """
)

ffibuilder.set_source(
    "fastmq._native._syscalls",
    """
    #include <errno.h>
    #include <unistd.h>
    #if defined(__linux__)
    #include <sys/vfs.h>
    #endif
    #if defined(__GLIBC__)
    #include <malloc.h>
    #endif

    static int fmq_sync_filesystem(int fd) {
    #if defined(__linux__)
        return syncfs(fd) == 0 ? 0 : -errno;
    #else
        /* No call for one file system: sync them all. It reports no errors. */
        (void)fd;
        sync();
        return 0;
    #endif
    }

    static long long fmq_filesystem_magic(int fd) {
    #if defined(__linux__)
        struct statfs found;
        if (fstatfs(fd, &found) != 0) {
            return -errno;
        }
        /* Some systems declare f_type as a signed int: the magic numbers are 32 bits. */
        return (long long)(unsigned int)found.f_type;
    #else
        (void)fd;
        return 0;
    #endif
    }

    static int fmq_trim_memory(void) {
    #if defined(__GLIBC__)
        return malloc_trim(0);
    #else
        return 0;
    #endif
    }
    """,
    define_macros=[("_GNU_SOURCE", None)],
)
