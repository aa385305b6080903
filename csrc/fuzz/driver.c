/* fuzz/driver.c - runs LLVMFuzzerTestOneInput where there is no libFuzzer (gcc).
 *
 *   fuzz_x --corpus DIR [--runs N] [--seconds T] [--seed S] [--save FILE]   replay, then mutate
 *   fuzz_x FILE...                                              run these inputs and stop
 *
 * Every input is handed over in a heap block of its exact size, so that the address sanitizer sees
 * one byte too many.  The same seed gives the same inputs.  When a run dies, the input is written
 * to the --save file.  There is no coverage feedback: mutations start from the corpus each time, so
 * a target should get past checksums by itself (see fuzz_batch.c).
 *
 * With clang, the targets link with -fsanitize=fuzzer instead of this file.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INPUT_SIZE_MAX 65536
#define CORPUS_COUNT_MAX 256
#define MUTATIONS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static input corpus[CORPUS_COUNT_MAX];
static size_t corpus_count;
static uint64_t random_state;
static const char *save_path;
static const uint8_t *current_data; /* what the target is looking at */
static size_t current_size;

static uint64_t next_random(void) {
    uint64_t z = (random_state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* A number in [0, bound). */
static size_t below(size_t bound) {
    return (size_t)(next_random() % bound);
}

static _Noreturn void fail(const char *what, const char *name) {
    fprintf(stderr, "%s: %s\n", name, what);
    exit(2);
}

/* Async-signal safe: called while the process dies. */
static void save_current(void) {
    if (save_path == NULL || current_data == NULL) {
        return;
    }
    const int fd = open(save_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) {
        ssize_t written = write(fd, current_data, current_size);
        (void)written;
        close(fd);
    }
}

static void on_abort(int signal_number) {
    (void)signal_number;
    save_current();
    _exit(1);
}

static void run_one(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, data, size);
    current_data = copy;
    current_size = size;
    LLVMFuzzerTestOneInput(copy, size);
    current_data = NULL;
    free(copy);
}

static input read_input(const char *path) {
    FILE *file = fopen(path, "rb");
    input result = {malloc(INPUT_SIZE_MAX), 0};
    if (file == NULL || result.data == NULL) {
        fail("cannot read", path);
    }
    result.size = fread(result.data, 1, INPUT_SIZE_MAX, file);
    fclose(file);
    return result;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted by name, so that a seed means the same on every machine. */
static void read_corpus(const char *path) {
    char *names[CORPUS_COUNT_MAX];
    size_t count = 0;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        fail("no such corpus directory", path);
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL && count < CORPUS_COUNT_MAX) {
        if (entry->d_name[0] != '.') {
            names[count++] = strdup(entry->d_name);
        }
    }
    closedir(dir);
    if (count == 0) {
        fail("empty corpus directory", path);
    }
    qsort(names, count, sizeof names[0], compare_names);
    for (size_t i = 0; i < count; i++) {
        char file[PATH_MAX];
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        corpus[corpus_count++] = read_input(file);
        free(names[i]);
    }
}

/* Overwrite 1, 2, 4 or 8 bytes with a number at the edge of some type, in big endian. */
static void put_edge(uint8_t *data, size_t size) {
    static const uint64_t edges[] = {
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x7fffffffffffffff,
        (uint64_t)1 << 63,
        UINT64_MAX,
        61,
        49,
        12,
        0xfffffffffffffffe,
    };
    const size_t width = (size_t)1 << below(4);
    if (size < width) {
        return;
    }
    const uint64_t value = edges[below(sizeof edges / sizeof edges[0])];
    uint8_t *at = data + below(size - width + 1);
    for (size_t i = 0; i < width; i++) {
        at[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
}

static size_t insert_bytes(uint8_t *data, size_t size) {
    const size_t count = 1 + below(16);
    const size_t position = below(size + 1);
    if (size + count > INPUT_SIZE_MAX) {
        return size;
    }
    memmove(data + position + count, data + position, size - position);
    for (size_t i = 0; i < count; i++) {
        data[position + i] = (uint8_t)next_random();
    }
    return size + count;
}

static size_t remove_bytes(uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const size_t position = below(size);
    const size_t room = size - position;
    const size_t count = 1 + below(room < 16 ? room : 16);
    memmove(data + position, data + position + count, room - count);
    return size - count;
}

/* Put the tail of another corpus entry behind the head of this one. */
static size_t splice(uint8_t *data, size_t size) {
    const input *other = &corpus[below(corpus_count)];
    const size_t head = below(size + 1);
    const size_t from = below(other->size + 1);
    const size_t tail = other->size - from;
    if (head + tail > INPUT_SIZE_MAX) {
        return size;
    }
    memcpy(data + head, other->data + from, tail);
    return head + tail;
}

static size_t mutate(uint8_t *data, size_t size) {
    switch (below(7)) {
    case 0:
    case 1:
        if (size > 0) {
            data[below(size)] ^= (uint8_t)(1 << below(8));
        }
        return size;
    case 2:
        if (size > 0) {
            data[below(size)] = (uint8_t)next_random();
        }
        return size;
    case 3:
        put_edge(data, size);
        return size;
    case 4:
        return insert_bytes(data, size);
    case 5:
        return below(4) == 0 ? below(size + 1) : remove_bytes(data, size);
    default:
        return splice(data, size);
    }
}

/* Run at most `runs` mutations, and none after `deadline`; returns how many were run. */
static unsigned long long run_mutations(unsigned long long runs, time_t deadline) {
    static uint8_t scratch[INPUT_SIZE_MAX];
    for (unsigned long long run = 0; run < runs; run++) {
        if ((run & 255) == 0 && time(NULL) >= deadline) {
            return run;
        }
        const input *start = &corpus[below(corpus_count)];
        size_t size = start->size;
        memcpy(scratch, start->data, size);
        for (size_t count = 1 + below(MUTATIONS_MAX); count > 0; count--) {
            size = mutate(scratch, size);
        }
        run_one(scratch, size);
    }
    return runs;
}

int main(int argc, char **argv) {
    const char *corpus_path = NULL;
    unsigned long long runs = 0;
    unsigned long long seed = 1;
    time_t deadline = (time_t)INT_MAX;
    int files = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--corpus") == 0) {
            corpus_path = value;
        } else if (strcmp(argv[i], "--runs") == 0) {
            runs = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            deadline = time(NULL) + (time_t)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--save") == 0) {
            save_path = value;
        } else {
            const input one = read_input(argv[i]);
            run_one(one.data, one.size);
            free(one.data);
            files++;
            continue;
        }
        i++;
    }
    if (corpus_path == NULL) {
        printf("%d inputs, no failure\n", files);
        return files > 0 ? 0 : 2;
    }
    signal(SIGABRT, on_abort);
    __sanitizer_set_death_callback(save_current);
    random_state = seed;
    read_corpus(corpus_path);
    for (size_t i = 0; i < corpus_count; i++) {
        run_one(corpus[i].data, corpus[i].size);
    }
    runs = run_mutations(runs, deadline);
    printf("%zu inputs and %llu mutations from seed %llu, no failure\n", corpus_count, runs, seed);
    for (size_t i = 0; i < corpus_count; i++) {
        free(corpus[i].data);
    }
    return 0;
}
