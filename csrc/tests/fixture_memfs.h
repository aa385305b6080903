/* tests/fixture_memfs.h - a file system of one directory in memory, as an fmq_env.
 *
 * It can fail any one call (R11: the n-th I/O call returns an error, or a write is cut short) and
 * record every change, so that memfs_crash builds what a power cut may leave behind (R9): of the
 * changes not yet synced each may be there, in part there (writes, at 512 bytes), or not.
 * Any one allocation can fail as well.  Clocks are the system's.
 */
#ifndef FASTMQ_TESTS_FIXTURE_MEMFS_H
#define FASTMQ_TESTS_FIXTURE_MEMFS_H

#include <fcntl.h>

#include "check.h"
#include "fastmq/env.h"

#define MEMFS_NAMES 128
#define MEMFS_INODES 512
#define MEMFS_FDS 64
#define MEMFS_SECTOR 512

typedef struct memfs_inode {
    uint8_t *data;
    int64_t size;
    int64_t capacity;
} memfs_inode;

typedef struct memfs_name {
    char name[64]; /* empty: free */
    int inode;
} memfs_name;

typedef enum memfs_kind {
    MEMFS_CREATE,
    MEMFS_WRITE,
    MEMFS_TRUNCATE,
    MEMFS_SYNC,
    MEMFS_RENAME,
    MEMFS_UNLINK,
    MEMFS_SYNC_DIR,
} memfs_kind;

typedef struct memfs_op {
    memfs_kind kind;
    int inode;
    int64_t position; /* or the new size */
    int64_t size;
    uint8_t *data;
    char name[64];
    char to[64];
} memfs_op;

typedef struct memfs {
    fmq_env env;
    memfs_inode inodes[MEMFS_INODES];
    int inode_count;
    memfs_name names[MEMFS_NAMES];
    int fds[MEMFS_FDS]; /* inode + 1, 0: free */
    bool recording;
    memfs_op *ops;
    int op_count, op_capacity;
    int64_t calls;       /* I/O calls so far */
    int64_t fail_at;     /* this one fails (1 is the first); 0: none does */
    int fail_with;       /* -errno, or 0 for a short write */
    bool fired;          /* the failure happened */
    bool was_read;       /* and the call that failed would have changed nothing */
    int64_t io_count;    /* preads */
    int64_t allocations; /* so far */
    int64_t fail_alloc_at;
} memfs;

/* ---- the state ------------------------------------------------------------------------------ */

static inline const char *memfs_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static inline memfs_name *memfs_find(memfs *fs, const char *name) {
    for (int i = 0; i < MEMFS_NAMES; i++) {
        if (strcmp(fs->names[i].name, name) == 0) {
            return &fs->names[i];
        }
    }
    return NULL;
}

static inline int memfs_link(memfs *fs, const char *name, int inode) {
    memfs_name *entry = memfs_find(fs, name);
    entry = entry != NULL ? entry : memfs_find(fs, "");
    if (entry == NULL || strlen(name) >= sizeof entry->name) {
        abort();
    }
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->inode = inode;
    return inode;
}

static inline void memfs_resize(memfs_inode *inode, int64_t size) {
    if (size > inode->capacity) {
        inode->capacity = size * 2;
        inode->data = realloc(inode->data, (size_t)inode->capacity);
    }
    if (size > inode->size) {
        memset(inode->data + inode->size, 0, (size_t)(size - inode->size));
    }
    inode->size = size;
}

static inline void memfs_put(memfs_inode *inode, const void *data, int64_t size, int64_t position) {
    if (position + size > inode->size) {
        memfs_resize(inode, position + size);
    }
    if (size > 0) {
        memcpy(inode->data + position, data, (size_t)size);
    }
}

static inline int memfs_new_inode(memfs *fs) {
    if (fs->inode_count == MEMFS_INODES) {
        abort();
    }
    fs->inodes[fs->inode_count] = (memfs_inode){0};
    return fs->inode_count++;
}

/* ---- recording and failing ------------------------------------------------------------------ */

static inline void memfs_record(memfs *fs, memfs_op op, const void *data) {
    if (!fs->recording) {
        return;
    }
    if (fs->op_count == fs->op_capacity) {
        fs->op_capacity = fs->op_capacity * 2 + 64;
        fs->ops = realloc(fs->ops, (size_t)fs->op_capacity * sizeof *fs->ops);
    }
    if (data != NULL) {
        op.data = malloc((size_t)op.size + 1);
        memcpy(op.data, data, (size_t)op.size);
    }
    fs->ops[fs->op_count++] = op;
}

/* Counts a call; true when this one is to fail. */
static inline bool memfs_fails(memfs *fs, bool is_read) {
    fs->calls++;
    if (fs->calls == fs->fail_at) {
        fs->fired = true;
        fs->was_read = is_read;
        return true;
    }
    return false;
}

static inline int memfs_error(const memfs *fs) {
    return fs->fail_with != 0 ? fs->fail_with : -EIO;
}

/* ---- the calls ------------------------------------------------------------------------------ */

static inline int memfs_open(void *ctx, const char *path, int flags, int mode) {
    memfs *fs = ctx;
    (void)mode;
    if (memfs_fails(fs, (flags & (O_CREAT | O_TRUNC)) == 0)) {
        return memfs_error(fs);
    }
    memfs_name *entry = memfs_find(fs, memfs_base(path));
    if (entry == NULL && (flags & O_CREAT) == 0) {
        return -ENOENT;
    }
    int inode = entry != NULL ? entry->inode : -1;
    if (inode < 0) {
        inode = memfs_link(fs, memfs_base(path), memfs_new_inode(fs));
        memfs_op op = {.kind = MEMFS_CREATE, .inode = inode};
        snprintf(op.name, sizeof op.name, "%s", memfs_base(path));
        memfs_record(fs, op, NULL);
    } else if ((flags & O_TRUNC) != 0 && fs->inodes[inode].size > 0) {
        fs->inodes[inode].size = 0;
        memfs_record(fs, (memfs_op){.kind = MEMFS_TRUNCATE, .inode = inode}, NULL);
    }
    for (int fd = 0; fd < MEMFS_FDS; fd++) {
        if (fs->fds[fd] == 0) {
            fs->fds[fd] = inode + 1;
            return fd;
        }
    }
    return -EMFILE;
}

static inline memfs_inode *memfs_at(memfs *fs, int fd) {
    if (fd < 0 || fd >= MEMFS_FDS || fs->fds[fd] == 0) {
        abort(); /* a descriptor used after close */
    }
    return &fs->inodes[fs->fds[fd] - 1];
}

static inline int memfs_close(void *ctx, int fd) {
    memfs *fs = ctx;
    memfs_at(fs, fd);
    fs->fds[fd] = 0;
    return 0;
}

static inline int64_t memfs_pread(void *ctx, int fd, void *buf, size_t size, int64_t position) {
    memfs *fs = ctx;
    memfs_inode *inode = memfs_at(fs, fd);
    fs->io_count++;
    if (memfs_fails(fs, true)) {
        return memfs_error(fs);
    }
    if (position >= inode->size) {
        return 0;
    }
    int64_t left = inode->size - position;
    size = (int64_t)size < left ? size : (size_t)left;
    memcpy(buf, inode->data + position, size);
    return (int64_t)size;
}

static inline int64_t memfs_pwrite(void *ctx, int fd, const void *buf, size_t size,
                                   int64_t position) {
    memfs *fs = ctx;
    memfs_inode *inode = memfs_at(fs, fd);
    if (memfs_fails(fs, false)) {
        if (fs->fail_with != 0) {
            return fs->fail_with;
        }
        size /= 2;
    }
    memfs_put(inode, buf, (int64_t)size, position);
    memfs_record(fs,
                 (memfs_op){.kind = MEMFS_WRITE,
                            .inode = fs->fds[fd] - 1,
                            .position = position,
                            .size = (int64_t)size},
                 buf);
    return (int64_t)size;
}

static inline int memfs_fdatasync(void *ctx, int fd) {
    memfs *fs = ctx;
    memfs_at(fs, fd);
    if (memfs_fails(fs, false)) {
        return memfs_error(fs);
    }
    memfs_record(fs, (memfs_op){.kind = MEMFS_SYNC, .inode = fs->fds[fd] - 1}, NULL);
    return 0;
}

static inline int memfs_ftruncate(void *ctx, int fd, int64_t size) {
    memfs *fs = ctx;
    memfs_inode *inode = memfs_at(fs, fd);
    if (memfs_fails(fs, false)) {
        return memfs_error(fs);
    }
    memfs_resize(inode, size);
    memfs_record(fs, (memfs_op){.kind = MEMFS_TRUNCATE, .inode = fs->fds[fd] - 1, .position = size},
                 NULL);
    return 0;
}

static inline int64_t memfs_file_size(void *ctx, int fd) {
    memfs *fs = ctx;
    memfs_inode *inode = memfs_at(fs, fd);
    return memfs_fails(fs, true) ? memfs_error(fs) : inode->size;
}

static inline int memfs_preallocate(void *ctx, int fd, int64_t size) {
    memfs *fs = ctx;
    (void)size;
    memfs_at(fs, fd);
    return memfs_fails(fs, false) ? memfs_error(fs) : 0;
}

static inline int memfs_mkdir(void *ctx, const char *path, int mode) {
    (void)ctx, (void)path, (void)mode;
    return 0;
}

static inline int memfs_rename_names(memfs *fs, const char *from, const char *to) {
    memfs_name *entry = memfs_find(fs, from);
    if (entry == NULL) {
        return -ENOENT;
    }
    int inode = entry->inode;
    entry->name[0] = '\0';
    memfs_link(fs, to, inode);
    return 0;
}

static inline int memfs_rename(void *ctx, const char *from, const char *to) {
    memfs *fs = ctx;
    if (memfs_fails(fs, false)) {
        return memfs_error(fs);
    }
    int result = memfs_rename_names(fs, memfs_base(from), memfs_base(to));
    if (result == 0) {
        memfs_op op = {.kind = MEMFS_RENAME};
        snprintf(op.name, sizeof op.name, "%s", memfs_base(from));
        snprintf(op.to, sizeof op.to, "%s", memfs_base(to));
        memfs_record(fs, op, NULL);
    }
    return result;
}

static inline int memfs_unlink(void *ctx, const char *path) {
    memfs *fs = ctx;
    memfs_name *entry = memfs_find(fs, memfs_base(path));
    if (memfs_fails(fs, false)) {
        return memfs_error(fs);
    }
    if (entry == NULL) {
        return -ENOENT;
    }
    memfs_op op = {.kind = MEMFS_UNLINK};
    snprintf(op.name, sizeof op.name, "%s", entry->name);
    memfs_record(fs, op, NULL);
    entry->name[0] = '\0';
    return 0;
}

static inline int memfs_sync_dir(void *ctx, const char *path) {
    memfs *fs = ctx;
    (void)path;
    if (memfs_fails(fs, false)) {
        return memfs_error(fs);
    }
    memfs_record(fs, (memfs_op){.kind = MEMFS_SYNC_DIR}, NULL);
    return 0;
}

static inline int memfs_list_dir(void *ctx, const char *path,
                                 int (*visit)(void *arg, const char *name), void *arg) {
    memfs *fs = ctx;
    (void)path;
    if (memfs_fails(fs, true)) {
        return memfs_error(fs);
    }
    int result = 0;
    for (int i = 0; i < MEMFS_NAMES && result == 0; i++) {
        if (fs->names[i].name[0] != '\0') {
            result = visit(arg, fs->names[i].name);
        }
    }
    return result;
}

static inline void *memfs_realloc(void *ctx, void *memory, size_t size) {
    memfs *fs = ctx;
    fs->allocations++;
    if (fs->allocations == fs->fail_alloc_at) {
        fs->fired = true;
        return NULL;
    }
    return realloc(memory, size);
}

static inline void *memfs_alloc(void *ctx, size_t size) {
    return memfs_realloc(ctx, NULL, size);
}

static inline void memfs_release(void *ctx, void *memory) {
    (void)ctx;
    free(memory);
}

/* ---- life ----------------------------------------------------------------------------------- */

static inline void memfs_init(memfs *fs) {
    memset(fs, 0, sizeof *fs);
    fs->env = *fmq_env_system();
    fs->env.ctx = fs;
    fs->env.open = memfs_open;
    fs->env.close = memfs_close;
    fs->env.pread = memfs_pread;
    fs->env.pwrite = memfs_pwrite;
    fs->env.fdatasync = memfs_fdatasync;
    fs->env.ftruncate = memfs_ftruncate;
    fs->env.file_size = memfs_file_size;
    fs->env.preallocate = memfs_preallocate;
    fs->env.mkdir = memfs_mkdir;
    fs->env.rename = memfs_rename;
    fs->env.unlink = memfs_unlink;
    fs->env.sync_dir = memfs_sync_dir;
    fs->env.list_dir = memfs_list_dir;
    fs->env.alloc = memfs_alloc;
    fs->env.realloc = memfs_realloc;
    fs->env.free = memfs_release;
}

static inline void memfs_free(memfs *fs) {
    for (int i = 0; i < fs->inode_count; i++) {
        free(fs->inodes[i].data);
    }
    for (int i = 0; i < fs->op_count; i++) {
        free(fs->ops[i].data);
    }
    free(fs->ops);
    memset(fs, 0, sizeof *fs);
}

/* Put a file there, as if it had always been. */
static inline void memfs_write_file(memfs *fs, const char *name, const void *data, int64_t size) {
    memfs_name *entry = memfs_find(fs, name);
    int inode = entry != NULL ? entry->inode : memfs_link(fs, name, memfs_new_inode(fs));
    fs->inodes[inode].size = 0;
    memfs_put(&fs->inodes[inode], data, size, 0);
}

static inline memfs_inode *memfs_read_file(memfs *fs, const char *name) {
    memfs_name *entry = memfs_find(fs, name);
    return entry != NULL ? &fs->inodes[entry->inode] : NULL;
}

/* True when both hold the same names with the same bytes. */
static inline bool memfs_equal(memfs *a, memfs *b) {
    for (int round = 0; round < 2; round++) {
        memfs *x = round == 0 ? a : b, *y = round == 0 ? b : a;
        for (int i = 0; i < MEMFS_NAMES; i++) {
            const char *name = x->names[i].name;
            if (name[0] == '\0') {
                continue;
            }
            memfs_inode *p = memfs_read_file(x, name), *q = memfs_read_file(y, name);
            if (q == NULL || p->size != q->size ||
                (p->size > 0 && memcmp(p->data, q->data, (size_t)p->size) != 0)) {
                return false;
            }
        }
    }
    return true;
}

static inline void memfs_copy(memfs *to, memfs *from) {
    memfs_init(to);
    for (int i = 0; i < MEMFS_NAMES; i++) {
        if (from->names[i].name[0] != '\0') {
            memfs_inode *inode = &from->inodes[from->names[i].inode];
            memfs_write_file(to, from->names[i].name, inode->data, inode->size);
        }
    }
}

/* ---- power cuts ----------------------------------------------------------------------------- */

/* Is `i` made durable by a sync among the ops before `end`? */
static inline bool memfs_is_durable(const memfs *fs, int i, int end) {
    const memfs_op *op = &fs->ops[i];
    bool is_name = op->kind == MEMFS_CREATE || op->kind == MEMFS_RENAME || op->kind == MEMFS_UNLINK;
    for (int j = i + 1; j < end; j++) {
        if (is_name ? fs->ops[j].kind == MEMFS_SYNC_DIR
                    : fs->ops[j].kind == MEMFS_SYNC && fs->ops[j].inode == op->inode) {
            return true;
        }
    }
    return false;
}

static inline void memfs_apply(memfs *out, const memfs_op *op, int64_t size) {
    memfs_name *entry;
    switch (op->kind) {
    case MEMFS_CREATE:
        memfs_link(out, op->name, op->inode);
        break;
    case MEMFS_WRITE:
        memfs_put(&out->inodes[op->inode], op->data, size, op->position);
        break;
    case MEMFS_TRUNCATE:
        memfs_resize(&out->inodes[op->inode], op->position);
        break;
    case MEMFS_RENAME:
        memfs_rename_names(out, op->name, op->to);
        break;
    case MEMFS_UNLINK:
        entry = memfs_find(out, op->name);
        if (entry != NULL) {
            entry->name[0] = '\0';
        }
        break;
    case MEMFS_SYNC:
    case MEMFS_SYNC_DIR:
        break;
    }
}

/* Build in `out` what may be found after a power cut behind op `end - 1`.  `mode` 0: everything
 * arrived; 1: nothing that was not synced; 2: a random choice; 3: a random choice, names in order.
 */
static inline void memfs_crash(const memfs *fs, int end, int mode, uint64_t *seed, memfs *out) {
    memfs_init(out);
    while (out->inode_count < fs->inode_count) {
        memfs_new_inode(out);
    }
    bool names_lost = false;
    for (int i = 0; i < end; i++) {
        const memfs_op *op = &fs->ops[i];
        int64_t size = op->size;
        if (mode != 0 && !memfs_is_durable(fs, i, end)) {
            uint64_t draw = check_random(seed);
            bool is_name = op->kind != MEMFS_WRITE && op->kind != MEMFS_TRUNCATE;
            if (mode == 1 || draw % 3 == 0 || (mode == 3 && is_name && names_lost)) {
                names_lost = names_lost || is_name;
                continue;
            }
            if (op->kind == MEMFS_WRITE && draw % 3 == 1) {
                int64_t sectors = size / MEMFS_SECTOR + 1;
                size = (int64_t)(check_random(seed) % (uint64_t)sectors) * MEMFS_SECTOR;
            }
        }
        memfs_apply(out, op, size);
    }
}

#endif
