/* list.h - a doubly linked list whose links live inside the elements. */
#ifndef FMQ_LIST_H
#define FMQ_LIST_H

#include "fastmq/base.h"

typedef struct fmq_list {
    struct fmq_list *next;
    struct fmq_list *prev;
} fmq_list;

#define FMQ_ENTRY(link, type, member) ((type *)((char *)(link) - offsetof(type, member)))

/* An empty list, or a link that is in no list. */
static inline void fmq_list_init(fmq_list *list) {
    list->next = list->prev = list;
}

static inline bool fmq_list_empty(const fmq_list *list) {
    return list->next == list;
}

static inline void fmq_list_push(fmq_list *list, fmq_list *link) {
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static inline void fmq_list_remove(fmq_list *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    fmq_list_init(link);
}

#endif
