/* counter_sem.h - a counting semaphore between the threads of this process.
 *
 * POSIX's own where it works; macOS has only the names of unnamed ones, so there it is a mutex and
 * a condition.
 */
#ifndef FMQ_COUNTER_SEM_H
#define FMQ_COUNTER_SEM_H

#if defined(__APPLE__)

#include <pthread.h>

typedef struct fmq_sem {
    pthread_mutex_t mutex;
    pthread_cond_t some;
    long count;
} fmq_sem;

static inline void fmq_sem_init(fmq_sem *sem) {
    (void)pthread_mutex_init(&sem->mutex, NULL);
    (void)pthread_cond_init(&sem->some, NULL);
    sem->count = 0;
}

static inline void fmq_sem_destroy(fmq_sem *sem) {
    (void)pthread_cond_destroy(&sem->some);
    (void)pthread_mutex_destroy(&sem->mutex);
}

static inline void fmq_sem_post(fmq_sem *sem) {
    (void)pthread_mutex_lock(&sem->mutex);
    sem->count++;
    (void)pthread_cond_signal(&sem->some);
    (void)pthread_mutex_unlock(&sem->mutex);
}

static inline void fmq_sem_wait(fmq_sem *sem) {
    (void)pthread_mutex_lock(&sem->mutex);
    while (sem->count == 0) {
        (void)pthread_cond_wait(&sem->some, &sem->mutex);
    }
    sem->count--;
    (void)pthread_mutex_unlock(&sem->mutex);
}

#else

#include <semaphore.h>

typedef sem_t fmq_sem;

static inline void fmq_sem_init(fmq_sem *sem) {
    (void)sem_init(sem, 0, 0);
}

static inline void fmq_sem_destroy(fmq_sem *sem) {
    (void)sem_destroy(sem);
}

static inline void fmq_sem_post(fmq_sem *sem) {
    (void)sem_post(sem);
}

static inline void fmq_sem_wait(fmq_sem *sem) {
    while (sem_wait(sem) != 0) {
        /* EINTR */
    }
}

#endif
#endif
