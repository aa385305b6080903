#define _GNU_SOURCE
#include "text.h"

#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PLACEHOLDER "@@@@@@"
#define PLACEHOLDER_BYTES 6
#define SCRIPT_BYTES_MAX (4u << 20)

static void read_script(const char *path, int connection, wire_buffer *out) {
    out->data = bench_alloc(SCRIPT_BYTES_MAX);
    out->capacity = SCRIPT_BYTES_MAX;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        bench_die(path);
    }
    out->size = fread(out->data, 1, SCRIPT_BYTES_MAX, file);
    fclose(file);
    if (out->size == 0 || out->size == SCRIPT_BYTES_MAX) {
        errno = 0;
        bench_die("a script is empty or too long");
    }
    out->capacity = out->size;
    out->data = realloc(out->data, out->size);
    char number[PLACEHOLDER_BYTES + 1];
    snprintf(number, sizeof number, "%06u", (unsigned)connection % 1000000u);
    uint8_t *end = out->data + out->size;
    for (uint8_t *at = out->data;
         (at = memmem(at, (size_t)(end - at), PLACEHOLDER, PLACEHOLDER_BYTES)) != NULL;) {
        memcpy(at, number, PLACEHOLDER_BYTES);
    }
}

void text_request(const text_script *script, int connection, wire_buffer *out) {
    read_script(script->request_path, connection, out);
}

void text_hello(const text_script *script, int connection, int fd) {
    if (*script->hello_path == 0) {
        return;
    }
    wire_buffer hello = {0};
    read_script(script->hello_path, connection, &hello);
    if (send(fd, hello.data, hello.size, MSG_NOSIGNAL) != (ssize_t)hello.size) {
        bench_die("send");
    }
    free(hello.data);
}

size_t text_answers(text_reader *reader, const uint8_t *data, size_t size) {
    size_t answers = 0;
    const uint8_t *end = data + size;
    for (const uint8_t *at = data; at < end;) {
        if (*at == '-' && reader->seen == 0 && reader->skip == 0) {
            fprintf(stderr, "the broker said: %.*s\n", (int)(end - at < 200 ? end - at : 200), at);
            errno = 0;
            bench_die("giving up");
        }
        const uint8_t *line = memchr(at, '\n', (size_t)(end - at));
        if (line == NULL) {
            break;
        }
        at = line + 1;
        if (reader->skip > 0) {
            reader->skip--;
        } else if (++reader->seen == reader->per_answer) {
            reader->seen = 0;
            answers++;
        }
    }
    return answers;
}
