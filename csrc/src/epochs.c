#include "epochs.h"

#include <fcntl.h>

#include "fastmq/crc32c.h"
#include "paths.h"
#include "scan.h"

#define FILE_NAME "leader-epoch-checkpoint"
#define LINE_MAX_SIZE 40
/* A CRC-32C of the text follows the last line, where Kafka's readers see white space: a space or a
 * tab for each bit, the highest first.  Kafka's own files have none. */
#define CHECKSUM_SIZE 32
#define FILE_SIZE_MAX (64 << 20)

void fmq_epochs_free(const fmq_env *env, fmq_epochs *epochs) {
    fmq_free(env, epochs->entries);
    *epochs = (fmq_epochs){0};
}

int32_t fmq_epochs_last(const fmq_epochs *epochs) {
    return epochs->count == 0 ? -1 : epochs->entries[epochs->count - 1].epoch;
}

int fmq_epochs_reserve(const fmq_env *env, fmq_epochs *epochs) {
    if (epochs->count < epochs->capacity) {
        return FMQ_OK;
    }
    uint32_t capacity = epochs->capacity == 0 ? 2 : epochs->capacity * 2;
    void *entries = fmq_realloc(env, epochs->entries, capacity * sizeof(fmq_epoch));
    if (entries == NULL) {
        return -ENOMEM;
    }
    epochs->entries = entries;
    epochs->capacity = capacity;
    return FMQ_OK;
}

void fmq_epochs_assign(fmq_epochs *epochs, int32_t epoch, int64_t offset) {
    if (epoch <= fmq_epochs_last(epochs)) {
        return;
    }
    fmq_epochs_truncate_end(epochs, offset);
    assert(epochs->count < epochs->capacity);
    epochs->entries[epochs->count++] = (fmq_epoch){.epoch = epoch, .start_offset = offset};
    epochs->dirty = true;
}

void fmq_epochs_truncate_end(fmq_epochs *epochs, int64_t offset) {
    while (epochs->count > 0 && epochs->entries[epochs->count - 1].start_offset >= offset) {
        epochs->count--;
        epochs->dirty = true;
    }
}

void fmq_epochs_truncate_start(fmq_epochs *epochs, int64_t offset) {
    int32_t keep = fmq_epochs_floor_offset(epochs, offset);
    if (keep < 0 || (keep == 0 && epochs->entries[0].start_offset == offset)) {
        return;
    }
    memmove(epochs->entries, epochs->entries + keep,
            (epochs->count - (uint32_t)keep) * sizeof(fmq_epoch));
    epochs->count -= (uint32_t)keep;
    epochs->entries[0].start_offset = offset;
    epochs->dirty = true;
}

bool fmq_epochs_learn(const fmq_env *env, fmq_epochs *epochs, int32_t epoch, int64_t offset) {
    int32_t i = fmq_epochs_floor_offset(epochs, offset);
    /* A larger one before it was read from a damaged header: no CRC covers epochs. */
    for (; i >= 0 && epochs->entries[i].epoch > epoch; i--) {
        epochs->count--;
        memmove(&epochs->entries[i], &epochs->entries[i + 1],
                (epochs->count - (uint32_t)i) * sizeof(fmq_epoch));
        epochs->dirty = true;
    }
    int32_t before = i < 0 ? -1 : epochs->entries[i].epoch;
    fmq_epoch *next = i + 1 < (int32_t)epochs->count ? &epochs->entries[i + 1] : NULL;
    if (next != NULL && epoch > next->epoch) {
        return false;
    }
    if (epoch <= before) {
        return true;
    }
    if (i >= 0 && epochs->entries[i].start_offset == offset) {
        return false;
    }
    if (next != NULL && epoch == next->epoch) {
        next->start_offset = offset;
    } else if (fmq_epochs_reserve(env, epochs) == FMQ_OK) { /* without memory it is not known */
        memmove(&epochs->entries[i + 2], &epochs->entries[i + 1],
                (epochs->count - (uint32_t)(i + 1)) * sizeof(fmq_epoch));
        epochs->entries[i + 1] = (fmq_epoch){.epoch = epoch, .start_offset = offset};
        epochs->count++;
    }
    epochs->dirty = true;
    return true;
}

int32_t fmq_epochs_floor_epoch(const fmq_epochs *epochs, int32_t epoch) {
    int32_t i = (int32_t)epochs->count - 1;
    while (i >= 0 && epochs->entries[i].epoch > epoch) {
        i--;
    }
    return i;
}

int32_t fmq_epochs_floor_offset(const fmq_epochs *epochs, int64_t offset) {
    int32_t i = (int32_t)epochs->count - 1;
    while (i >= 0 && epochs->entries[i].start_offset > offset) {
        i--;
    }
    return i;
}

/* ---- the file --------------------------------------------------------------------------------*/

static int write_file(const fmq_env *env, const char *path, const char *text, size_t size) {
    int fd = env->open(env->ctx, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        return fd;
    }
    int64_t wrote = env->pwrite(env->ctx, fd, text, size, 0);
    int result = wrote == (int64_t)size ? FMQ_OK : wrote < 0 ? (int)wrote : -ENOSPC;
    int closed = env->close(env->ctx, fd);
    return result != FMQ_OK ? result : closed;
}

static void put_checksum(char *text, size_t *size) {
    uint32_t crc = fmq_crc32c(0, text, *size);
    char *at = text + *size - 1; /* before the end of the last line */
    for (int bit = CHECKSUM_SIZE - 1; bit >= 0; bit--) {
        *at++ = (crc >> bit) & 1 ? '\t' : ' ';
    }
    *at = '\n';
    *size += CHECKSUM_SIZE;
}

/* Take the checksum away; false when it does not fit.  A text without one stays as it is. */
static bool take_checksum(char *text, size_t *size) {
    if (*size < CHECKSUM_SIZE + 2 || text[*size - 1] != '\n') {
        return true;
    }
    char *at = text + *size - 1 - CHECKSUM_SIZE;
    uint32_t crc = 0;
    for (int i = 0; i < CHECKSUM_SIZE; i++) {
        if (at[i] != ' ' && at[i] != '\t') {
            return true; /* if it is a part of one, it will not pass for a number */
        }
        crc = crc << 1 | (at[i] == '\t');
    }
    *at = '\n';
    *size -= CHECKSUM_SIZE;
    return crc == fmq_crc32c(0, text, *size);
}

int fmq_epochs_write(const fmq_env *env, fmq_epochs *epochs, const char *dir, const char *suffix) {
    size_t room = ((size_t)epochs->count + 2) * LINE_MAX_SIZE + CHECKSUM_SIZE;
    char *text = fmq_alloc(env, room);
    if (text == NULL) {
        return -ENOMEM;
    }
    size_t size = (size_t)snprintf(text, room, "0\n%" PRIu32 "\n", epochs->count);
    for (uint32_t i = 0; i < epochs->count; i++) {
        size += (size_t)snprintf(text + size, room - size, "%" PRId32 " %" PRId64 "\n",
                                 epochs->entries[i].epoch, epochs->entries[i].start_offset);
    }
    if (epochs->count > 0) {
        put_checksum(text, &size);
    }
    char path[FMQ_PATH_MAX];
    fmq_path_name(path, dir, FILE_NAME, suffix);
    int result = write_file(env, path, text, size);
    fmq_free(env, text);
    if (result == FMQ_OK) {
        epochs->dirty = false;
    } else {
        env->unlink(env->ctx, path);
    }
    return result;
}

int fmq_epochs_install(const fmq_env *env, const char *dir, const char *suffix) {
    char path[FMQ_PATH_MAX], written[FMQ_PATH_MAX];
    fmq_path_name(path, dir, FILE_NAME, "");
    fmq_path_name(written, dir, FILE_NAME, suffix);
    int fd = env->open(env->ctx, written, O_RDWR, 0);
    if (fd < 0) {
        return fd;
    }
    int result = env->fdatasync(env->ctx, fd);
    env->close(env->ctx, fd);
    return result == FMQ_OK ? env->rename(env->ctx, written, path) : result;
}

int fmq_epochs_save(const fmq_env *env, fmq_epochs *epochs, const char *dir) {
    epochs->saves++;
    int result = fmq_epochs_write(env, epochs, dir, FMQ_SUFFIX_TMP);
    return result == FMQ_OK ? fmq_epochs_install(env, dir, FMQ_SUFFIX_TMP) : result;
}

/* A decimal number and the one character that must follow it. */
static bool parse_number(const char **at, const char *end, char follow, int64_t max, int64_t *out) {
    int64_t value = 0;
    const char *p = *at;
    if (p >= end || *p < '0' || *p > '9') {
        return false;
    }
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        int digit = *p - '0';
        if (value > (max - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (p >= end || *p != follow) {
        return false;
    }
    *at = p + 1;
    *out = value;
    return true;
}

static int parse_file(const fmq_env *env, fmq_epochs *epochs, const char *at, const char *end) {
    int64_t version, count, epoch, offset;
    if (!parse_number(&at, end, '\n', 0, &version) ||
        !parse_number(&at, end, '\n', INT32_MAX, &count)) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    for (int64_t i = 0; i < count; i++) {
        if (!parse_number(&at, end, ' ', INT32_MAX, &epoch) ||
            !parse_number(&at, end, '\n', INT64_MAX, &offset)) {
            return FMQ_ERR_CORRUPT_MESSAGE;
        }
        if (epochs->count > 0 && (epoch <= fmq_epochs_last(epochs) ||
                                  offset <= epochs->entries[epochs->count - 1].start_offset)) {
            return FMQ_ERR_CORRUPT_MESSAGE;
        }
        int result = fmq_epochs_reserve(env, epochs);
        if (result != FMQ_OK) {
            return result;
        }
        epochs->entries[epochs->count++] =
            (fmq_epoch){.epoch = (int32_t)epoch, .start_offset = offset};
    }
    return at == end ? FMQ_OK : FMQ_ERR_CORRUPT_MESSAGE;
}

int fmq_epochs_load(const fmq_env *env, fmq_epochs *epochs, const char *dir) {
    char path[FMQ_PATH_MAX];
    fmq_path_name(path, dir, FILE_NAME, "");
    int fd = env->open(env->ctx, path, O_RDONLY, 0);
    if (fd < 0) {
        return fd == -ENOENT ? FMQ_ERR_CORRUPT_MESSAGE : fd;
    }
    char *text = NULL;
    int64_t size = env->file_size(env->ctx, fd);
    int result = size < 0 ? (int)size : FMQ_OK;
    if (result == FMQ_OK && (size == 0 || size > FILE_SIZE_MAX)) {
        result = FMQ_ERR_CORRUPT_MESSAGE;
    }
    if (result == FMQ_OK) {
        text = fmq_alloc(env, (size_t)size);
        result = text == NULL ? -ENOMEM : fmq_read_exact(env, fd, text, (size_t)size, 0);
    }
    env->close(env->ctx, fd);
    if (result == FMQ_OK) {
        size_t length = (size_t)size;
        result = take_checksum(text, &length) ? parse_file(env, epochs, text, text + length)
                                              : FMQ_ERR_CORRUPT_MESSAGE;
    }
    fmq_free(env, text);
    if (result != FMQ_OK) {
        fmq_epochs_free(env, epochs);
    }
    return result;
}
