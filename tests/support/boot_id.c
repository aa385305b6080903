/* A machine that was started anew: whoever opens the kernel's boot id gets $FAKE_BOOT_ID_FILE. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *other(const char *path) {
    const char *file = getenv("FAKE_BOOT_ID_FILE");
    return file && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 ? file : path;
}

#define REPLACE(name)                                                                              \
    int name(const char *path, int flags, ...) {                                                   \
        int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        int mode = va_arg(list, int);                                                              \
        va_end(list);                                                                              \
        return real(other(path), flags, mode);                                                     \
    }

REPLACE(open)
REPLACE(open64)
