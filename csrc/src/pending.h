/* pending.h - batches that are in the log but not yet in its file.
 *
 * Where an answer waits for a sync anyway, the thread that syncs also writes: the appending thread
 * only copies, so a disk that hangs does not hang it, and many small batches become one pwrite.
 * Nothing past the synced offset is read from the file, so nobody sees the difference.
 */
#ifndef FMQ_PENDING_H
#define FMQ_PENDING_H

#include "segment.h"

/* A run of bytes for one place of one segment, which it pins. */
typedef struct fmq_pending {
    struct fmq_pending *next;
    fmq_segment *segment;
    int64_t position;
    size_t size;
    size_t capacity;
    uint8_t data[];
} fmq_pending;

typedef struct fmq_pending_list {
    fmq_pending *head;
    fmq_pending *tail;
    int64_t bytes;
} fmq_pending_list;

/* Copy `size` bytes that belong at the end of `segment`.  FMQ_OK, -ENOMEM, or -errno of opening. */
int fmq_pending_add(const fmq_env *env, fmq_pending_list *list, fmq_segment *segment,
                    const uint8_t *data, size_t size);
/* Write every run; any thread, no lock.  FMQ_OK or -errno (-ENOSPC for a short write). */
int fmq_pending_write(const fmq_env *env, const fmq_pending *head);
/* The runs of `written` are in the file, those of `list` are not: tell the segments. */
void fmq_pending_note_written(const fmq_pending *written, const fmq_pending_list *list);
/* Put `front` back before the others: it could not be written. */
void fmq_pending_put_back(fmq_pending_list *list, const fmq_pending_list *front);
/* Forget what was cut away: runs of segments that left the log, bytes behind a segment's end. */
void fmq_pending_trim(const fmq_env *env, fmq_pending_list *list);
void fmq_pending_free(const fmq_env *env, fmq_pending_list *list);

#endif
