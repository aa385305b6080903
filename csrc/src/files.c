/* The LRU of open segment files, and the life of a segment. */
#include <fcntl.h>

#include "paths.h"
#include "segment.h"

int fmq_files_create(const fmq_env *env, uint32_t max_open, fmq_files **out) {
    assert(max_open > 0);
    fmq_files *files = fmq_alloc(env, sizeof *files);
    if (files == NULL) {
        return -ENOMEM;
    }
    *files = (fmq_files){.env = env, .max_open = max_open};
    *out = files;
    return FMQ_OK;
}

void fmq_files_destroy(fmq_files *files) {
    if (files != NULL) {
        assert(files->open_count == 0);
        fmq_free(files->env, files);
    }
}

uint32_t fmq_files_open_count(const fmq_files *files) {
    return files->open_count;
}

static void lru_remove(fmq_segment *segment) {
    fmq_files *files = segment->files;
    if (!segment->in_lru) {
        return;
    }
    *(segment->newer != NULL ? &segment->newer->older : &files->newest) = segment->older;
    *(segment->older != NULL ? &segment->older->newer : &files->oldest) = segment->newer;
    segment->newer = segment->older = NULL;
    segment->in_lru = false;
}

static void lru_push(fmq_segment *segment) {
    fmq_files *files = segment->files;
    assert(!segment->in_lru && segment->fd >= 0);
    segment->older = files->newest;
    segment->newer = NULL;
    *(files->newest != NULL ? &files->newest->newer : &files->oldest) = segment;
    files->newest = segment;
    segment->in_lru = true;
}

static void close_file(fmq_segment *segment) {
    lru_remove(segment);
    if (segment->fd >= 0) {
        segment->env->close(segment->env->ctx, segment->fd);
        segment->fd = -1;
        segment->files->open_count--;
    }
}

/* Give back the descriptor used longest ago, and with it the index of a sealed segment; an active
 * one needs it for the next append. */
static bool evict_one(fmq_files *files) {
    fmq_segment *segment = files->oldest;
    if (segment == NULL) {
        return false;
    }
    close_file(segment);
    if (segment->sealed && segment->index.loaded && !segment->index.dirty) {
        fmq_index_free(segment->env, &segment->index);
    }
    return true;
}

void fmq_files_close_all(fmq_files *files) {
    while (files->oldest != NULL) {
        close_file(files->oldest);
    }
}

static int open_file(fmq_segment *segment, int flags) {
    const fmq_env *env = segment->env;
    fmq_files *files = segment->files;
    char path[FMQ_PATH_MAX];
    if (segment->dir == NULL) {
        return -ESTALE;
    }
    while (files->open_count >= files->max_open && evict_one(files)) {
    }
    fmq_path(path, segment->dir, segment->base_offset, FMQ_SUFFIX_LOG);
    int fd = env->open(env->ctx, path, O_RDWR | flags, 0644);
    if ((fd == -EMFILE || fd == -ENFILE) && evict_one(files)) {
        fd = env->open(env->ctx, path, O_RDWR | flags, 0644);
    }
    if (fd >= 0) {
        segment->fd = fd;
        files->open_count++;
    }
    return fd;
}

fmq_segment *fmq_segment_new(const fmq_env *env, fmq_files *files, const char *dir,
                             int64_t base_offset) {
    fmq_segment *segment = fmq_alloc(env, sizeof *segment);
    if (segment != NULL) {
        *segment = (fmq_segment){.env = env,
                                 .files = files,
                                 .dir = dir,
                                 .base_offset = base_offset,
                                 .end_offset = base_offset,
                                 .unwritten_from = INT64_MAX,
                                 .cut_position = INT64_MAX,
                                 .first_timestamp = FMQ_NO_TIMESTAMP,
                                 .max_timestamp = FMQ_NO_TIMESTAMP,
                                 .refs = 1,
                                 .fd = -1};
    }
    return segment;
}

void fmq_segment_ref(fmq_segment *segment) {
    assert(segment->refs > 0 && segment->refs < UINT32_MAX);
    segment->refs++;
}

void fmq_segment_unref(fmq_segment *segment) {
    assert(segment->refs > 0);
    if (--segment->refs == 0) {
        assert(segment->pins == 0);
        close_file(segment);
        fmq_index_free(segment->env, &segment->index);
        fmq_trust_free(segment->env, &segment->trust);
        fmq_free(segment->env, segment);
    }
}

int fmq_segment_pin(fmq_segment *segment) {
    if (segment->fd < 0) {
        int fd = open_file(segment, 0);
        if (fd < 0) {
            return fd;
        }
    } else if (segment->pins == 0) {
        lru_remove(segment);
    }
    segment->pins++;
    return segment->fd;
}

void fmq_segment_unpin(fmq_segment *segment) {
    assert(segment->pins > 0);
    if (--segment->pins > 0 || segment->dir == NULL) {
        return; /* without a name it could not be opened again */
    }
    lru_push(segment);
    if (segment->files->open_count > segment->files->max_open) {
        evict_one(segment->files);
    }
}

bool fmq_segment_truncated_below(const fmq_segment *segment, int64_t position_end) {
    return position_end > segment->cut_position;
}

void fmq_segment_detach(fmq_segment *segment, int64_t cut_position) {
    if (segment->refs > 1 && segment->fd < 0 && segment->file_exists) {
        open_file(segment, 0); /* failing, later pins say so */
    }
    lru_remove(segment);
    segment->dir = NULL;
    if (cut_position < segment->cut_position) {
        segment->cut_position = cut_position;
    }
    fmq_segment_unref(segment);
}

int fmq_segment_create_file(fmq_segment *segment, int64_t preallocate) {
    const fmq_env *env = segment->env;
    assert(!segment->file_exists && segment->fd < 0);
    int fd = open_file(segment, O_CREAT);
    if (fd < 0) {
        return fd;
    }
    int64_t size = env->file_size(env->ctx, fd);
    int result = size < 0 ? (int)size : size > 0 ? -EEXIST : FMQ_OK;
    if (result == FMQ_OK && preallocate > 0) {
        result = env->preallocate(env->ctx, fd, preallocate);
        result = result == -EOPNOTSUPP ? FMQ_OK : result;
    }
    if (result == FMQ_OK) {
        segment->file_exists = true;
        lru_push(segment);
        return FMQ_OK;
    }
    close_file(segment);
    if (result != -EEXIST) {
        char path[FMQ_PATH_MAX];
        fmq_path(path, segment->dir, segment->base_offset, FMQ_SUFFIX_LOG);
        env->unlink(env->ctx, path);
    }
    return result;
}

/* An open without O_CREAT asks nothing of the disk when the name was made a moment ago. */
int fmq_segment_take_file(fmq_segment *segment) {
    assert(!segment->file_exists && segment->fd < 0);
    int fd = open_file(segment, 0);
    if (fd < 0) {
        return fd;
    }
    segment->file_exists = true;
    lru_push(segment);
    return FMQ_OK;
}

int fmq_segment_delete_files(fmq_segment *segment, bool strict) {
    static const char *const suffixes[] = {FMQ_SUFFIX_LOG, FMQ_SUFFIX_INDEX, FMQ_SUFFIX_TIMEINDEX};
    const fmq_env *env = segment->env;
    char path[FMQ_PATH_MAX], deleted[FMQ_PATH_MAX];
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        fmq_path(path, segment->dir, segment->base_offset, suffixes[i]);
        int size = snprintf(deleted, sizeof deleted, "%s%s", path, FMQ_SUFFIX_DELETED);
        assert(size > 0 && (size_t)size < sizeof deleted);
        (void)size;
        int result = env->rename(env->ctx, path, deleted);
        bool may_stay = i > 0 && !strict && fmq_is_passing_error(result);
        if (result != FMQ_OK && result != -ENOENT && !may_stay) {
            return result;
        }
    }
    return FMQ_OK;
}
