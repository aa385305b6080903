/* What lies in a partition directory. */
#include <stdlib.h>

#include "log_impl.h"
#include "paths.h"

typedef struct fmq_names {
    const fmq_env *env;
    int64_t *values;
    int32_t count;
    int32_t capacity;
} fmq_names;

typedef struct fmq_listing {
    const fmq_env *env;
    fmq_names bases, snapshots, indexes;
    char *leftovers; /* names to unlink, each with its NUL */
    size_t leftover_size;
} fmq_listing;

static int add_value(fmq_names *names, const fmq_env *env, int64_t value) {
    if (names->count == names->capacity) {
        int32_t capacity = names->capacity == 0 ? 4 : names->capacity * 2;
        void *values = fmq_realloc(env, names->values, (size_t)capacity * sizeof *names->values);
        if (values == NULL) {
            return -ENOMEM;
        }
        names->values = values;
        names->capacity = capacity;
    }
    names->values[names->count++] = value;
    return FMQ_OK;
}

static int add_leftover(fmq_listing *listing, const char *name) {
    size_t size = strlen(name) + 1;
    char *grown = fmq_realloc(listing->env, listing->leftovers, listing->leftover_size + size);
    if (grown == NULL) {
        return -ENOMEM;
    }
    memcpy(grown + listing->leftover_size, name, size);
    listing->leftovers = grown;
    listing->leftover_size += size;
    return FMQ_OK;
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t size = strlen(name), suffix_size = strlen(suffix);
    return size > suffix_size && strcmp(name + size - suffix_size, suffix) == 0;
}

/* A name of 20 digits and a suffix.  Where the digits end, or NULL. */
static const char *parse_offset(const char *name, int64_t *out) {
    int64_t value = 0;
    for (int i = 0; i < FMQ_OFFSET_DIGITS; i++) {
        int digit = name[i] - '0';
        if (digit < 0 || digit > 9 || value > (INT64_MAX - digit) / 10) {
            return NULL;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return name + FMQ_OFFSET_DIGITS;
}

static int visit(void *arg, const char *name) {
    fmq_listing *listing = arg;
    int64_t offset;
    if (has_suffix(name, FMQ_SUFFIX_DELETED) || has_suffix(name, FMQ_SUFFIX_TMP)) {
        return add_leftover(listing, name);
    }
    const char *suffix = parse_offset(name, &offset);
    if (suffix == NULL) {
        return FMQ_OK;
    }
    const struct {
        const char *suffix;
        fmq_names *names;
    } kinds[] = {{FMQ_SUFFIX_LOG, &listing->bases},
                 {FMQ_SUFFIX_SNAPSHOT, &listing->snapshots},
                 {FMQ_SUFFIX_INDEX, &listing->indexes},
                 {FMQ_SUFFIX_TIMEINDEX, &listing->indexes}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(suffix, kinds[i].suffix) == 0) {
            return add_value(kinds[i].names, listing->env, offset);
        }
    }
    return FMQ_OK;
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void sort_values(fmq_names *names) {
    if (names->count > 1) {
        qsort(names->values, (size_t)names->count, sizeof *names->values, compare);
    }
}

bool fmq_dir_list_has(const int64_t *values, int32_t count, int64_t value) {
    return count > 0 && bsearch(&value, values, (size_t)count, sizeof *values, compare) != NULL;
}

/* Index files whose log file is gone. */
static int unlink_orphans(const fmq_listing *listing, const char *dir) {
    static const char *const suffixes[] = {FMQ_SUFFIX_INDEX, FMQ_SUFFIX_TIMEINDEX};
    const fmq_env *env = listing->env;
    char path[FMQ_PATH_MAX];
    for (int32_t i = 0; i < listing->indexes.count; i++) {
        int64_t base = listing->indexes.values[i];
        if (fmq_dir_list_has(listing->bases.values, listing->bases.count, base)) {
            continue;
        }
        for (size_t j = 0; j < sizeof suffixes / sizeof suffixes[0]; j++) {
            fmq_path(path, dir, base, suffixes[j]);
            int result = env->unlink(env->ctx, path);
            if (result != FMQ_OK && result != -ENOENT) {
                return result;
            }
        }
    }
    return FMQ_OK;
}

static int unlink_leftovers(const fmq_listing *listing, const char *dir) {
    char path[FMQ_PATH_MAX];
    for (size_t at = 0; at < listing->leftover_size; at += strlen(listing->leftovers + at) + 1) {
        if (strlen(dir) + strlen(listing->leftovers + at) + 2 > sizeof path) {
            continue;
        }
        fmq_path_name(path, dir, listing->leftovers + at, "");
        int result = listing->env->unlink(listing->env->ctx, path);
        if (result != FMQ_OK && result != -ENOENT) {
            return result;
        }
    }
    return FMQ_OK;
}

void fmq_dir_list_free(const fmq_env *env, fmq_dir_list *list) {
    fmq_free(env, list->bases);
    fmq_free(env, list->snapshots);
    fmq_free(env, list->indexes);
    *list = (fmq_dir_list){0};
}

int fmq_dir_list_read(const fmq_env *env, const char *dir, bool clean_up, fmq_dir_list *out) {
    fmq_listing listing = {.env = env};
    int result = env->list_dir(env->ctx, dir, visit, &listing);
    sort_values(&listing.bases);
    sort_values(&listing.snapshots);
    sort_values(&listing.indexes);
    if (result == FMQ_OK && clean_up) {
        result = unlink_leftovers(&listing, dir);
        result = result == FMQ_OK ? unlink_orphans(&listing, dir) : result;
    }
    *out = (fmq_dir_list){.bases = listing.bases.values,
                          .base_count = listing.bases.count,
                          .snapshots = listing.snapshots.values,
                          .snapshot_count = listing.snapshots.count,
                          .indexes = listing.indexes.values,
                          .index_count = listing.indexes.count};
    fmq_free(env, listing.leftovers);
    if (result != FMQ_OK) {
        fmq_dir_list_free(env, out);
    }
    return result;
}

static int visit_deleted(void *arg, const char *name) {
    return has_suffix(name, FMQ_SUFFIX_DELETED) ? add_leftover(arg, name) : FMQ_OK;
}

int fmq_log_sweep(const fmq_env *env, const char *dir) {
    fmq_listing listing = {.env = env};
    int result = env->list_dir(env->ctx, dir, visit_deleted, &listing);
    if (result == FMQ_OK) {
        result = unlink_leftovers(&listing, dir);
    }
    fmq_free(env, listing.leftovers);
    return result;
}

int fmq_drop_snapshots(const fmq_env *env, const char *dir, fmq_dir_list *list, int64_t below,
                       int64_t above) {
    char path[FMQ_PATH_MAX];
    int32_t kept = 0;
    for (int32_t i = 0; i < list->snapshot_count; i++) {
        int64_t offset = list->snapshots[i];
        if (offset >= below && offset <= above) {
            list->snapshots[kept++] = offset;
            continue;
        }
        fmq_path(path, dir, offset, FMQ_SUFFIX_SNAPSHOT);
        int result = env->unlink(env->ctx, path);
        if (result != FMQ_OK && result != -ENOENT) {
            return result;
        }
    }
    list->snapshot_count = kept;
    return FMQ_OK;
}
