/* repair.c - good batches of another replica in the place of damaged ones; see fastmq/repair.h. */
#include "fastmq/repair.h"

#include "fastmq/crc32c.h"
#include "log_impl.h"
#include "replicas.h"
#include "scan.h"

static int leave(fmq_partition *partition, int rc) {
    fmq_engine_wake(partition->engine);
    fmq_lock_give(&partition->engine->lock);
    return rc;
}

/* ---- damage that is known --------------------------------------------------------------------*/

int32_t fmq_partition_damage(fmq_partition *partition, fmq_damage *out, int32_t room) {
    int32_t count = 0;
    fmq_lock_take(&partition->engine->lock);
    for (const fmq_corrupt *at = partition->corrupt; at != NULL; at = at->next, count++) {
        if (count < room) {
            out[count] = (fmq_damage){at->begin, at->end};
        }
    }
    fmq_lock_give(&partition->engine->lock);
    return count;
}

/* An index that was made while its file was damaged ends there. */
static int complete_index(fmq_log *log, fmq_segment *segment) {
    fmq_index_end end;
    bool whole;
    if (!segment->sealed || segment->size == 0) {
        return FMQ_OK;
    }
    int result = fmq_segment_load_index(segment, log->config.index_interval_bytes, &whole);
    if (result != FMQ_OK) {
        return result;
    }
    fmq_index_get_end(&segment->index, &end);
    if (segment->size - end.position <= 2 * (int64_t)log->config.index_interval_bytes +
                                            2 * (int64_t)log->config.max_message_bytes) {
        return FMQ_OK;
    }
    return fmq_segment_rebuild(segment, log->config.index_interval_bytes, &whole);
}

int fmq_partition_repaired(fmq_partition *partition, int64_t begin, int64_t end) {
    fmq_lock_take(&partition->engine->lock);
    for (fmq_corrupt **at = &partition->corrupt; *at != NULL;) {
        fmq_corrupt *range = *at;
        if (range->begin >= begin && range->end <= end) {
            *at = range->next;
            fmq_free(partition->engine->env, range);
        } else {
            at = &range->next;
        }
    }
    int rc = fmq_partition_open(partition);
    if (rc == FMQ_OK) {
        fmq_log *log = partition->log;
        rc = complete_index(log, log->segments[fmq_log_find_segment(log, begin)]);
    }
    return leave(partition, rc);
}

/* ---- where to begin --------------------------------------------------------------------------*/

/* The base offset of the batch that seems to begin at `position`; -1: none does. */
static int64_t base_at(fmq_segment *segment, int64_t position) {
    uint8_t bytes[FMQ_BATCH_HEADER_SIZE];
    fmq_batch_header h;
    int fd = fmq_segment_pin(segment);
    if (fd < 0) {
        return -1;
    }
    int result = fmq_read_exact(segment->env, fd, bytes, sizeof bytes, position);
    fmq_segment_unpin(segment);
    return result == FMQ_OK && fmq_batch_parse(bytes, sizeof bytes, &h) == FMQ_OK ? h.base_offset
                                                                                  : -1;
}

static int begin_locked(fmq_partition *partition, int64_t offset, int64_t before, fmq_repair *out) {
    int rc = fmq_partition_open(partition);
    if (rc != FMQ_OK) {
        return rc;
    }
    fmq_log *log = partition->log;
    if (offset < fmq_log_start(log) || offset >= partition->high_watermark) {
        return FMQ_ERR_OFFSET_OUT_OF_RANGE;
    }
    fmq_segment *segment = log->segments[fmq_log_find_segment(log, offset)];
    *out = (fmq_repair){.segment_base = segment->base_offset, .offset = segment->base_offset};
    int64_t limit = offset < before ? offset : before;
    int64_t position = 0;
    if (limit > segment->base_offset + 1) {
        rc = fmq_segment_seek(segment, log->config.index_interval_bytes, limit - 1, &position);
    }
    int64_t base = rc == FMQ_OK && position > 0 ? base_at(segment, position) : -1;
    if (base > segment->base_offset && base < limit) {
        out->position = position;
        out->offset = base;
    } else {
        out->is_certain = true; /* a file begins with a batch */
        out->has_reached_end = segment->size == 0;
    }
    return rc;
}

int fmq_partition_repair_begin(fmq_partition *partition, int64_t offset, int64_t before,
                               fmq_repair *out) {
    *out = (fmq_repair){0};
    fmq_lock_take(&partition->engine->lock);
    return leave(partition, begin_locked(partition, offset, before, out));
}

/* ---- comparing -------------------------------------------------------------------------------*/

typedef struct step {
    fmq_partition *partition;
    fmq_repair *repair;
    fmq_segment *segment;
    const uint8_t *good;  /* of the other replica */
    const uint8_t *local; /* of the file, at the repair's position */
    size_t good_size;
    size_t local_size; /* what there is of it, at most as much */
    size_t passed;     /* bytes that were compared */
    int64_t expected;  /* offset that the next batch begins at, or after */
    bool is_same;      /* the last batch compared */
    int32_t bad_count;
} step;

static int refuse(step *s, const char *reason) {
    s->repair->reason = reason;
    return FMQ_ERR_INVALID_RECORD;
}

/* Whether the file holds a valid batch there that is another one.  Offset and epoch lie outside of
 * the CRC: a batch that differs only in them is damaged. */
static bool holds_another(const step *s, const fmq_batch_header *h) {
    const uint8_t *local = s->local + s->passed;
    size_t left = s->local_size - s->passed;
    fmq_batch_header own;
    if (fmq_batch_parse(local, left, &own) != FMQ_OK || own.size > left ||
        !fmq_batch_crc_ok(local, &own)) {
        return false;
    }
    return own.size != h->size ||
           memcmp(local + FMQ_BATCH_CRC_START, s->good + s->passed + FMQ_BATCH_CRC_START,
                  own.size - FMQ_BATCH_CRC_START) != 0;
}

/* The next batch: 1 it was passed, 0 it is not for this file or not yet, or an error. */
static int compare_one(step *s) {
    fmq_log *log = s->partition->log;
    const uint8_t *good = s->good + s->passed;
    size_t left = s->good_size - s->passed;
    fmq_batch_header h;
    if (left < FMQ_BATCH_HEADER_SIZE) {
        return 0;
    }
    if (fmq_batch_parse(good, left, &h) != FMQ_OK) {
        return refuse(s, "the other replica gives no batch");
    }
    if (h.size > left || fmq_batch_last_offset(&h) >= s->partition->high_watermark) {
        return 0;
    }
    if (!fmq_batch_crc_ok(good, &h)) {
        return refuse(s, "the other replica gives a damaged batch");
    }
    if (h.base_offset >= s->segment->end_offset) {
        return 0;
    }
    bool is_certain = s->repair->is_certain || s->passed > 0;
    if (h.base_offset < s->expected || fmq_batch_last_offset(&h) >= s->segment->end_offset ||
        s->passed + h.size > s->local_size) {
        return is_certain ? refuse(s, "the batches of the other replica do not fit into this file")
                          : FMQ_ERR_CORRUPT_MESSAGE;
    }
    s->is_same = memcmp(good, s->local + s->passed, h.size) == 0;
    if (!s->is_same && !is_certain) {
        return FMQ_ERR_CORRUPT_MESSAGE;
    }
    /* What is damaged may have been the only batch that told of its epoch. */
    if (!fmq_epochs_learn(log->env, &log->epochs, h.leader_epoch, h.base_offset)) {
        return refuse(s, "this replica knows of other leader epochs than the other one");
    }
    if (!s->is_same && holds_another(s, &h)) {
        return refuse(s, "this replica holds other records than the other one");
    }
    s->bad_count += !s->is_same;
    s->passed += h.size;
    s->expected = fmq_batch_last_offset(&h) + 1;
    return 1;
}

static int compare_all(step *s, bool *has_reached_end) {
    int rc;
    while ((rc = compare_one(s)) == 1) {
    }
    int64_t position = s->repair->position + (int64_t)s->passed;
    *has_reached_end = position == s->segment->size;
    if (rc == FMQ_OK && s->bad_count > 0 && s->expected >= s->segment->end_offset &&
        !*has_reached_end) {
        return refuse(s, "the batches of the other replica end before this file does");
    }
    /* Where cleaning may have made replicas differ, the bytes behind must agree again. */
    if (rc == FMQ_OK && s->bad_count > 0 && !s->is_same && !*has_reached_end &&
        (s->partition->config->flags & FMQ_COMPACTED) != 0) {
        s->passed = 0;
        s->bad_count = 0;
    }
    return rc;
}

/* ---- writing ---------------------------------------------------------------------------------*/

static int write_bad(const step *s, int fd) {
    const fmq_env *env = s->segment->env;
    for (size_t at = 0; at < s->passed;) {
        fmq_batch_header h;
        int result = fmq_batch_parse(s->good + at, s->passed - at, &h);
        if (result != FMQ_OK) {
            return FMQ_ERR_INVALID_RECORD; /* it was compared: cannot be */
        }
        if (memcmp(s->good + at, s->local + at, h.size) != 0) {
            int64_t wrote =
                env->pwrite(env->ctx, fd, s->good + at, h.size, s->repair->position + (int64_t)at);
            if (wrote != (int64_t)h.size) {
                return wrote < 0 ? (int)wrote : -ENOSPC;
            }
            s->repair->replaced++;
            s->repair->replaced_bytes += h.size;
        }
        at += h.size;
    }
    return FMQ_OK;
}

static int may_repair(fmq_partition *partition, int32_t leader_epoch) {
    int rc = fmq_partition_open(partition);
    if (rc != FMQ_OK) {
        return rc;
    }
    if (leader_epoch != partition->leader_epoch || partition->role == FMQ_ROLE_OFFLINE) {
        return FMQ_ERR_FENCED_LEADER_EPOCH;
    }
    return fmq_dir_is_slow(partition->dir) || !fmq_log_is_usable(partition->log) ? -EAGAIN : FMQ_OK;
}

/* The segment as long as the log has it. */
static fmq_segment *find_segment(const fmq_partition *partition, int64_t base) {
    fmq_log *log = partition->log;
    fmq_segment *segment = log->segments[fmq_log_find_segment(log, base)];
    return segment->base_offset == base ? segment : NULL;
}

/* With the lock, which is given up while the disk is read and synced; the segment is pinned. */
static int repair_pinned(step *s, int fd, int32_t leader_epoch, uint8_t *local) {
    fmq_partition *partition = s->partition;
    fmq_engine *engine = partition->engine;
    fmq_repair *repair = s->repair;
    fmq_lock_give(&engine->lock);
    int rc = fmq_read_exact(engine->env, fd, local, s->local_size, repair->position);
    fmq_lock_take(&engine->lock);
    if (rc == FMQ_OK) {
        rc = may_repair(partition, leader_epoch);
    }
    if (rc == FMQ_OK && find_segment(partition, repair->segment_base) != s->segment) {
        rc = -EAGAIN;
    }
    bool has_reached_end = false;
    if (rc == FMQ_OK) {
        rc = compare_all(s, &has_reached_end);
    }
    if (rc == FMQ_OK && s->bad_count > 0) {
        rc = write_bad(s, fd);
        fmq_lock_give(&engine->lock);
        if (rc == FMQ_OK) {
            rc = engine->env->fdatasync(engine->env->ctx, fd);
        }
        fmq_lock_take(&engine->lock);
        fmq_partition_note_failure(partition, rc);
    }
    if (rc == FMQ_OK && s->passed > 0) {
        repair->position += (int64_t)s->passed;
        repair->offset = s->expected;
        repair->is_certain = true;
        repair->ends_in_good = s->is_same;
        repair->has_reached_end = has_reached_end;
    }
    return rc;
}

static int repair_locked(fmq_partition *partition, int32_t leader_epoch, fmq_repair *repair,
                         const uint8_t *data, size_t size) {
    int rc = may_repair(partition, leader_epoch);
    if (rc != FMQ_OK) {
        return rc;
    }
    fmq_segment *segment = find_segment(partition, repair->segment_base);
    int64_t left = segment == NULL ? -1 : fmq_segment_readable(segment) - repair->position;
    if (left <= 0) {
        return -EAGAIN;
    }
    step s = {.partition = partition,
              .repair = repair,
              .segment = segment,
              .good = data,
              .good_size = size,
              .local_size = (int64_t)size < left ? size : (size_t)left,
              .expected = repair->offset};
    uint8_t *local = fmq_alloc(segment->env, s.local_size + 1);
    int fd = local == NULL ? -ENOMEM : fmq_segment_pin(segment);
    if (fd < 0) {
        fmq_free(segment->env, local);
        return fd;
    }
    s.local = local;
    fmq_segment_ref(segment);
    rc = repair_pinned(&s, fd, leader_epoch, local);
    fmq_segment_unpin(segment);
    fmq_segment_unref(segment);
    fmq_free(partition->engine->env, local);
    return rc;
}

int fmq_partition_repair(fmq_partition *partition, int32_t leader_epoch, fmq_repair *repair,
                         const uint8_t *data, size_t size) {
    repair->replaced = 0;
    repair->replaced_bytes = 0;
    repair->reason = NULL;
    fmq_lock_take(&partition->engine->lock);
    return leave(partition, repair_locked(partition, leader_epoch, repair, data, size));
}
