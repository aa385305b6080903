#include "index.h"

#include <fcntl.h>

#include "paths.h"
#include "scan.h"

#define FIRST_CAPACITY 8

void fmq_index_free(const fmq_env *env, fmq_index *index) {
    fmq_free(env, index->offsets.data);
    fmq_free(env, index->times.data);
    *index = (fmq_index){0};
}

static int reserve(const fmq_env *env, fmq_entries *entries, uint32_t count, size_t entry_size) {
    if (entries->capacity - entries->count >= count) {
        return FMQ_OK;
    }
    uint32_t capacity = entries->capacity == 0 ? FIRST_CAPACITY : entries->capacity * 2;
    if (capacity - entries->count < count) {
        capacity = entries->count + count;
    }
    void *data = fmq_realloc(env, entries->data, capacity * entry_size);
    if (data == NULL) {
        return -ENOMEM;
    }
    entries->data = data;
    entries->capacity = capacity;
    return FMQ_OK;
}

int fmq_index_reserve(const fmq_env *env, fmq_index *index) {
    int result = reserve(env, &index->offsets, 1, FMQ_OFFSET_ENTRY_SIZE);
    return result != FMQ_OK ? result : reserve(env, &index->times, 1, FMQ_TIME_ENTRY_SIZE);
}

void fmq_index_add_offset(fmq_index *index, uint32_t relative, uint32_t position) {
    fmq_entries *entries = &index->offsets;
    assert(entries->count < entries->capacity);
    uint8_t *at = entries->data + (size_t)entries->count * FMQ_OFFSET_ENTRY_SIZE;
    fmq_store_be32(at, relative);
    fmq_store_be32(at + 4, position);
    entries->count++;
    index->dirty = true;
}

void fmq_index_offset_at(const fmq_index *index, uint32_t i, uint32_t *relative,
                         uint32_t *position) {
    assert(i < index->offsets.count);
    const uint8_t *at = index->offsets.data + (size_t)i * FMQ_OFFSET_ENTRY_SIZE;
    *relative = fmq_load_be32(at);
    *position = fmq_load_be32(at + 4);
}

void fmq_index_time_at(const fmq_index *index, uint32_t i, int64_t *timestamp, uint32_t *relative) {
    assert(i < index->times.count);
    const uint8_t *at = index->times.data + (size_t)i * FMQ_TIME_ENTRY_SIZE;
    *timestamp = (int64_t)fmq_load_be64(at);
    *relative = fmq_load_be32(at + 8);
}

void fmq_index_add_time(fmq_index *index, int64_t timestamp, uint32_t relative) {
    fmq_entries *entries = &index->times;
    if (timestamp < 0) {
        return;
    }
    if (entries->count > 0) {
        int64_t last;
        uint32_t last_relative;
        fmq_index_time_at(index, entries->count - 1, &last, &last_relative);
        if (timestamp <= last || relative < last_relative) {
            return;
        }
    }
    assert(entries->count < entries->capacity);
    uint8_t *at = entries->data + (size_t)entries->count * FMQ_TIME_ENTRY_SIZE;
    fmq_store_be64(at, (uint64_t)timestamp);
    fmq_store_be32(at + 8, relative);
    entries->count++;
    index->dirty = true;
}

fmq_index_entry fmq_index_boundary(const fmq_index *index, int64_t position_max,
                                   int64_t relative_limit) {
    uint32_t low = 0, high = index->offsets.count; /* entries below `low` are within the bounds */
    fmq_index_entry entry = {0, 0};
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        fmq_index_offset_at(index, middle, &entry.relative, &entry.position);
        if (entry.position <= position_max && entry.relative < relative_limit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return (fmq_index_entry){0, 0};
    }
    fmq_index_offset_at(index, low - 1, &entry.relative, &entry.position);
    return entry;
}

fmq_index_entry fmq_index_floor(const fmq_index *index, uint32_t relative) {
    return fmq_index_boundary(index, INT64_MAX, (int64_t)relative + 1);
}

uint32_t fmq_index_time_floor(const fmq_index *index, int64_t timestamp) {
    uint32_t low = 0, high = index->times.count; /* entries below `low` are < timestamp */
    int64_t key;
    uint32_t relative;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        fmq_index_time_at(index, middle, &key, &relative);
        if (key < timestamp) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return 0;
    }
    fmq_index_time_at(index, low - 1, &key, &relative);
    return relative;
}

/* Keep the first `count` entries. */
static void keep_entries(fmq_index *index, fmq_entries *entries, uint32_t count) {
    if (count < entries->count) {
        entries->count = count;
        entries->saved = entries->saved < count ? entries->saved : count;
        index->dirty = true;
    }
}

void fmq_index_truncate(fmq_index *index, uint32_t position, uint32_t relative) {
    uint32_t key, at;
    int64_t timestamp;
    uint32_t count = index->offsets.count;
    for (; count > 0; count--) {
        fmq_index_offset_at(index, count - 1, &key, &at);
        if (at < position && key < relative) {
            break;
        }
    }
    keep_entries(index, &index->offsets, count);
    for (count = index->times.count; count > 0; count--) {
        fmq_index_time_at(index, count - 1, &timestamp, &key);
        if (key < relative) {
            break;
        }
    }
    keep_entries(index, &index->times, count);
}

/* Write entries [saved, count) behind those already there and cut what may follow. */
static int save_entries(const fmq_env *env, fmq_entries *entries, size_t entry_size,
                        const char *path, bool sync) {
    uint32_t from = entries->saved < entries->count ? entries->saved : entries->count;
    int fd = env->open(env->ctx, path, O_RDWR | O_CREAT, 0644);
    if (fd < 0) {
        return fd;
    }
    int64_t position = (int64_t)(from * entry_size);
    size_t size = (entries->count - from) * entry_size;
    int result = FMQ_OK;
    if (size > 0) {
        int64_t wrote = env->pwrite(env->ctx, fd, entries->data + (size_t)position, size, position);
        if (wrote != (int64_t)size) {
            result = wrote < 0 ? (int)wrote : -ENOSPC;
        }
    }
    if (result == FMQ_OK) {
        int64_t file_size = env->file_size(env->ctx, fd);
        int64_t want = (int64_t)(entries->count * entry_size);
        if (file_size < 0) {
            result = (int)file_size;
        } else if (file_size != want) {
            result = env->ftruncate(env->ctx, fd, want);
        }
    }
    if (result == FMQ_OK && sync) {
        result = env->fdatasync(env->ctx, fd);
    }
    int closed = env->close(env->ctx, fd);
    result = result != FMQ_OK ? result : closed;
    if (result == FMQ_OK) {
        entries->saved = entries->count;
    } else if (entries->saved > from) {
        entries->saved = from;
    }
    return result;
}

int fmq_index_save(const fmq_env *env, fmq_index *index, const char *dir, int64_t base, bool sync) {
    assert(index->loaded);
    char path[FMQ_PATH_MAX];
    fmq_path(path, dir, base, FMQ_SUFFIX_INDEX);
    int result = save_entries(env, &index->offsets, FMQ_OFFSET_ENTRY_SIZE, path, sync);
    if (result != FMQ_OK) {
        return result;
    }
    fmq_path(path, dir, base, FMQ_SUFFIX_TIMEINDEX);
    result = save_entries(env, &index->times, FMQ_TIME_ENTRY_SIZE, path, sync);
    if (result == FMQ_OK) {
        index->dirty = false;
    }
    return result;
}

static int load_entries(const fmq_env *env, fmq_entries *entries, size_t entry_size,
                        const char *path) {
    int fd = env->open(env->ctx, path, O_RDONLY, 0);
    if (fd < 0) {
        return fd == -ENOENT ? FMQ_ERR_CORRUPT_MESSAGE : fd;
    }
    int result = FMQ_OK;
    int64_t size = env->file_size(env->ctx, fd);
    if (size < 0) {
        result = (int)size;
    } else if (size % (int64_t)entry_size != 0 || size > INT32_MAX) {
        result = FMQ_ERR_CORRUPT_MESSAGE;
    } else if (size > 0) {
        result = reserve(env, entries, (uint32_t)((uint64_t)size / entry_size), entry_size);
        if (result == FMQ_OK) {
            result = fmq_read_exact(env, fd, entries->data, (size_t)size, 0);
        }
        if (result == FMQ_OK) {
            entries->count = (uint32_t)((uint64_t)size / entry_size);
            entries->saved = entries->count;
        }
    }
    env->close(env->ctx, fd);
    return result;
}

void fmq_index_get_end(const fmq_index *index, fmq_index_end *out) {
    *out = (fmq_index_end){.timestamp = -1};
    if (index->offsets.count > 0) {
        fmq_index_offset_at(index, index->offsets.count - 1, &out->relative, &out->position);
    }
    if (index->times.count > 0) {
        fmq_index_time_at(index, index->times.count - 1, &out->timestamp, &out->timestamp_relative);
    }
}

/* The last `entry_size` bytes of a file into `out`; 1, 0 when it is empty. */
static int read_last(const fmq_env *env, const char *path, size_t entry_size, uint8_t *out) {
    int fd = env->open(env->ctx, path, O_RDONLY, 0);
    if (fd < 0) {
        return fd == -ENOENT ? FMQ_ERR_CORRUPT_MESSAGE : fd;
    }
    int64_t size = env->file_size(env->ctx, fd);
    int result = size < 0                          ? (int)size
                 : size % (int64_t)entry_size != 0 ? FMQ_ERR_CORRUPT_MESSAGE
                                                   : FMQ_OK;
    if (result == FMQ_OK && size > 0) {
        result = fmq_read_exact(env, fd, out, entry_size, size - (int64_t)entry_size);
        result = result == FMQ_OK ? 1 : result;
    }
    env->close(env->ctx, fd);
    return result;
}

int fmq_index_read_end(const fmq_env *env, const char *dir, int64_t base, fmq_index_end *out) {
    char path[FMQ_PATH_MAX];
    uint8_t entry[FMQ_TIME_ENTRY_SIZE];
    *out = (fmq_index_end){.timestamp = -1};
    fmq_path(path, dir, base, FMQ_SUFFIX_INDEX);
    int result = read_last(env, path, FMQ_OFFSET_ENTRY_SIZE, entry);
    if (result == 1) {
        out->relative = fmq_load_be32(entry);
        out->position = fmq_load_be32(entry + 4);
    } else if (result != FMQ_OK) {
        return result;
    }
    fmq_path(path, dir, base, FMQ_SUFFIX_TIMEINDEX);
    result = read_last(env, path, FMQ_TIME_ENTRY_SIZE, entry);
    if (result == 1) {
        out->timestamp = (int64_t)fmq_load_be64(entry);
        out->timestamp_relative = fmq_load_be32(entry + 8);
        result = FMQ_OK;
    }
    return result;
}

static bool is_increasing(const fmq_index *index, int64_t size) {
    uint32_t relative, position, last_relative = 0, last_position = 0;
    for (uint32_t i = 0; i < index->offsets.count; i++) {
        fmq_index_offset_at(index, i, &relative, &position);
        if (i > 0 && (relative <= last_relative || position <= last_position)) {
            return false;
        }
        last_relative = relative;
        last_position = position;
    }
    int64_t timestamp, last_timestamp = -1;
    uint32_t last = 0;
    for (uint32_t i = 0; i < index->times.count; i++) {
        fmq_index_time_at(index, i, &timestamp, &relative);
        if (timestamp <= last_timestamp || relative < last) {
            return false;
        }
        last_timestamp = timestamp;
        last = relative;
    }
    return index->offsets.count == 0 || (int64_t)last_position < size;
}

int fmq_index_load(const fmq_env *env, fmq_index *index, const char *dir, int64_t base,
                   int64_t size) {
    assert(!index->loaded);
    char path[FMQ_PATH_MAX];
    fmq_path(path, dir, base, FMQ_SUFFIX_INDEX);
    int result = load_entries(env, &index->offsets, FMQ_OFFSET_ENTRY_SIZE, path);
    if (result == FMQ_OK) {
        fmq_path(path, dir, base, FMQ_SUFFIX_TIMEINDEX);
        result = load_entries(env, &index->times, FMQ_TIME_ENTRY_SIZE, path);
    }
    if (result == FMQ_OK && !is_increasing(index, size)) {
        result = FMQ_ERR_CORRUPT_MESSAGE;
    }
    if (result != FMQ_OK) {
        fmq_index_free(env, index);
        return result;
    }
    index->loaded = true;
    return FMQ_OK;
}
