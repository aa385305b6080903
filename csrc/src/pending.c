/* Bytes on their way to the file; see pending.h. */
#include "pending.h"

#define RUN_MIN_BYTES 4096u
#define RUN_MAX_BYTES (256u << 10) /* larger batches get a run of their own */

static fmq_pending *new_run(const fmq_env *env, fmq_pending_list *list, fmq_segment *segment,
                            size_t size) {
    /* Runs double while appends outpace the syncs, so that an idle log asks for little. */
    size_t capacity = list->tail != NULL ? 2 * list->tail->capacity : RUN_MIN_BYTES;
    capacity = capacity < RUN_MAX_BYTES ? capacity : RUN_MAX_BYTES;
    capacity = capacity > size ? capacity : size;
    fmq_pending *run = fmq_alloc(env, sizeof *run + capacity);
    if (run != NULL) {
        *run = (fmq_pending){.segment = segment, .position = segment->size, .capacity = capacity};
    }
    return run;
}

int fmq_pending_add(const fmq_env *env, fmq_pending_list *list, fmq_segment *segment,
                    const uint8_t *data, size_t size) {
    fmq_pending *run = list->tail;
    if (run == NULL || run->segment != segment || run->capacity - run->size < size ||
        run->position + (int64_t)run->size != segment->size) {
        run = new_run(env, list, segment, size);
        if (run == NULL) {
            return -ENOMEM;
        }
        int fd = fmq_segment_pin(segment);
        if (fd < 0) {
            fmq_free(env, run);
            return fd;
        }
        fmq_segment_ref(segment);
        if (list->tail == NULL) {
            list->head = run;
        } else {
            list->tail->next = run;
        }
        list->tail = run;
    }
    if (segment->unwritten_from == INT64_MAX) {
        segment->unwritten_from = segment->size;
    }
    memcpy(run->data + run->size, data, size);
    run->size += size;
    list->bytes += (int64_t)size;
    return FMQ_OK;
}

int fmq_pending_write(const fmq_env *env, const fmq_pending *head) {
    for (const fmq_pending *run = head; run != NULL; run = run->next) {
        int64_t wrote =
            env->pwrite(env->ctx, run->segment->fd, run->data, run->size, run->position);
        if (wrote != (int64_t)run->size) {
            return wrote < 0 ? (int)wrote : -ENOSPC;
        }
    }
    return FMQ_OK;
}

void fmq_pending_note_written(const fmq_pending *written, const fmq_pending_list *list) {
    for (const fmq_pending *run = written; run != NULL; run = run->next) {
        run->segment->unwritten_from = INT64_MAX;
    }
    for (const fmq_pending *run = list->head; run != NULL; run = run->next) {
        if (run->position < run->segment->unwritten_from) {
            run->segment->unwritten_from = run->position;
        }
    }
}

void fmq_pending_put_back(fmq_pending_list *list, const fmq_pending_list *front) {
    if (front->head == NULL) {
        return;
    }
    front->tail->next = list->head;
    list->head = front->head;
    list->tail = list->tail != NULL ? list->tail : front->tail;
    list->bytes += front->bytes;
}

static void free_run(const fmq_env *env, fmq_pending *run) {
    fmq_segment_unpin(run->segment);
    fmq_segment_unref(run->segment);
    fmq_free(env, run);
}

void fmq_pending_trim(const fmq_env *env, fmq_pending_list *list) {
    fmq_pending *run = list->head;
    *list = (fmq_pending_list){0};
    while (run != NULL) {
        fmq_pending *next = run->next;
        int64_t left = run->segment->size - run->position;
        if (run->segment->dir == NULL || left <= 0) {
            free_run(env, run);
        } else {
            run->size = (int64_t)run->size < left ? run->size : (size_t)left;
            run->next = NULL;
            fmq_pending_list one = {run, run, (int64_t)run->size};
            if (list->tail == NULL) {
                *list = one;
            } else {
                list->tail->next = run;
                list->tail = run;
                list->bytes += one.bytes;
            }
        }
        run = next;
    }
}

void fmq_pending_free(const fmq_env *env, fmq_pending_list *list) {
    for (fmq_pending *run = list->head; run != NULL;) {
        fmq_pending *next = run->next;
        free_run(env, run);
        run = next;
    }
    *list = (fmq_pending_list){0};
}
