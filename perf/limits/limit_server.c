/* perf/limits/limit_server.c - bare loops to compare the broker with.
 *
 * One thread, one epoll set, one receive buffer per connection.  It cuts frames by their length,
 * does per frame what `--mode` says, and answers with the frame's correlation id:
 *
 *   echo      a 60-byte answer, nothing else
 *   append    CRC32C of the body and one pwrite to `--file`, then the 60-byte answer
 *   pread     pread `--bytes` of `--file`, send them behind a small head
 *   sendfile  the same by sendfile
 *
 * So it does what a broker cannot avoid, and nothing of what makes it one: no parsing, no
 * validation, no topics, no waiting.  `--sndbuf` sets the send buffer of its sockets, as brokers
 * do; 0 leaves the system's default; so does `--congestion` for the algorithm that paces them.  The
 * file wraps at `--wrap` bytes; `--chunk` is the size of the writes that make it: of small ones the
 * page cache keeps small pieces, which cost more to look up and to send.  It prints its port, then
 * one JSON line when its input is closed or SIGTERM comes.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "fastmq/base.h"
#include "fastmq/crc32c.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define RECEIVE_BYTES (256u << 10)
#define FRAME_BYTES_MAX (128u << 20)
#define ANSWER_BYTES 60
#define FETCH_HEAD_BYTES 64

enum mode { MODE_ECHO, MODE_APPEND, MODE_PREAD, MODE_SENDFILE };

typedef struct connection {
    int fd;
    uint8_t *in;
    size_t in_size, in_capacity;
    uint8_t *out; /* answers not yet sent */
    size_t out_size, out_sent, out_capacity;
    size_t file_left; /* bytes of the file to send behind `out` (sendfile) */
    int64_t file_position;
} connection;

static struct {
    enum mode mode;
    int file, epoll;
    int64_t position, wrap;
    size_t fetch_bytes;
    int send_buffer;
    uint64_t frames, bytes_in, bytes_out;
    uint32_t crc;
} server;

static volatile sig_atomic_t ended;

static void on_signal(int number) {
    (void)number;
    ended = 1;
}

static void reserve(uint8_t **data, size_t *capacity, size_t wanted) {
    if (*capacity >= wanted) {
        return;
    }
    size_t grown = *capacity * 2 > wanted ? *capacity * 2 : wanted;
    *data = realloc(*data, grown);
    if (*data == NULL) {
        bench_die("out of memory");
    }
    *capacity = grown;
}

static int64_t next_position(size_t size) {
    if (server.position + (int64_t)size > server.wrap) {
        server.position = 0;
    }
    int64_t position = server.position;
    server.position += (int64_t)size;
    return position;
}

/* Starts an answer of `size` bytes behind the length; returns where its body begins. */
static uint8_t *begin_answer(connection *c, const uint8_t *frame, size_t size, size_t present) {
    reserve(&c->out, &c->out_capacity, c->out_size + 4 + present);
    uint8_t *answer = c->out + c->out_size;
    memset(answer, 0, 4 + (present < FETCH_HEAD_BYTES ? present : FETCH_HEAD_BYTES));
    fmq_store_be32(answer, (uint32_t)size);
    memcpy(answer + 4, frame + 4, 4); /* behind the API key and version */
    c->out_size += 4 + present;
    return answer + 4;
}

static void serve_frame(connection *c, const uint8_t *frame, size_t size) {
    server.frames++;
    if (server.mode == MODE_APPEND) {
        server.crc ^= fmq_crc32c(0, frame, size);
        if (pwrite(server.file, frame, size, next_position(size)) != (ssize_t)size) {
            bench_die("pwrite");
        }
    }
    if (server.mode == MODE_ECHO || server.mode == MODE_APPEND) {
        begin_answer(c, frame, ANSWER_BYTES, ANSWER_BYTES);
        return;
    }
    size_t total = FETCH_HEAD_BYTES + server.fetch_bytes;
    int64_t position = next_position(server.fetch_bytes);
    if (server.mode == MODE_SENDFILE) {
        begin_answer(c, frame, total, FETCH_HEAD_BYTES);
        c->file_left = server.fetch_bytes;
        c->file_position = position;
        return;
    }
    uint8_t *body = begin_answer(c, frame, total, total);
    if (pread(server.file, body + FETCH_HEAD_BYTES, server.fetch_bytes, position) !=
        (ssize_t)server.fetch_bytes) {
        bench_die("pread");
    }
}

static bool send_all(connection *c) {
    while (c->out_sent < c->out_size) {
        int more = c->file_left ? MSG_MORE : 0;
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_size - c->out_sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT | more);
        if (n < 0) {
            return errno == EAGAIN;
        }
        c->out_sent += (size_t)n;
        server.bytes_out += (uint64_t)n;
    }
    c->out_size = c->out_sent = 0;
    while (c->file_left) {
        ssize_t n = sendfile(c->fd, server.file, &c->file_position, c->file_left);
        if (n <= 0) {
            return n < 0 && errno == EAGAIN;
        }
        c->file_left -= (size_t)n;
        server.bytes_out += (uint64_t)n;
    }
    return true;
}

static bool blocked(const connection *c) {
    return c->out_sent < c->out_size || c->file_left;
}

/* Serves every whole frame in the buffer; stops at one whose answer has not left. */
static bool serve_buffer(connection *c) {
    size_t at = 0;
    while (c->in_size - at >= 4 && c->file_left == 0) {
        size_t size = fmq_load_be32(c->in + at);
        if (size > FRAME_BYTES_MAX) {
            return false;
        }
        if (c->in_size - at - 4 < size) {
            reserve(&c->in, &c->in_capacity, size + 4 + RECEIVE_BYTES);
            break;
        }
        serve_frame(c, c->in + at + 4, size);
        at += 4 + size;
        if (c->file_left && !send_all(c)) {
            return false;
        }
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
    return send_all(c);
}

static bool on_readable(connection *c) {
    reserve(&c->in, &c->in_capacity, c->in_size + RECEIVE_BYTES);
    ssize_t n = recv(c->fd, c->in + c->in_size, c->in_capacity - c->in_size, MSG_DONTWAIT);
    if (n <= 0) {
        return n < 0 && errno == EAGAIN;
    }
    c->in_size += (size_t)n;
    server.bytes_in += (uint64_t)n;
    return serve_buffer(c);
}

static void drop(connection *c) {
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(connection *c, int operation) {
    struct epoll_event event = {.events = blocked(c) ? EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(server.epoll, operation, c->fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
}

static void on_accept(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (server.send_buffer > 0) {
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &server.send_buffer, sizeof server.send_buffer);
        }
        connection *c = bench_alloc(sizeof *c);
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD);
    }
}

static void on_event(connection *c) {
    bool was_blocked = blocked(c);
    bool alive = was_blocked ? send_all(c) && (blocked(c) || serve_buffer(c)) : on_readable(c);
    if (!alive) {
        drop(c);
    } else if (blocked(c) != was_blocked) {
        watch(c, EPOLL_CTL_MOD);
    }
}

static enum mode parse_mode(const char *text) {
    static const char *const names[] = {"echo", "append", "pread", "sendfile"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum mode)i;
        }
    }
    bench_die("--mode echo | append | pread | sendfile");
}

static void prepare_file(const char *path, size_t chunk) {
    if (server.mode == MODE_ECHO) {
        return;
    }
    server.file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (server.file < 0) {
        bench_die(path);
    }
    if (server.mode == MODE_APPEND) {
        return;
    }
    uint8_t *data = bench_alloc(chunk);
    bench_fill_random(data, chunk, 1);
    for (int64_t at = 0; at < server.wrap; at += (int64_t)chunk) {
        if (pwrite(server.file, data, chunk, at) != (ssize_t)chunk) {
            bench_die("pwrite");
        }
    }
    free(data);
}

int main(int argc, char **argv) {
    bench_option options[] = {{"mode", "echo"},     {"file", "limit.dat"}, {"wrap", "1073741824"},
                              {"bytes", "1048576"}, {"cpu", "-1"},         {"port", "0"},
                              {"sndbuf", "0"},      {"chunk", "1048576"},  {"congestion", ""}};
    size_t count = sizeof options / sizeof *options;
    bench_options(argc, argv, options, count);
    server.mode = parse_mode(bench_text(options, count, "mode"));
    server.wrap = bench_number(options, count, "wrap");
    server.fetch_bytes = (size_t)bench_number(options, count, "bytes");
    server.send_buffer = (int)bench_number(options, count, "sndbuf");
    bench_pin((int)bench_number(options, count, "cpu"));
    prepare_file(bench_text(options, count, "file"), (size_t)bench_number(options, count, "chunk"));

    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    uint16_t port = (uint16_t)bench_number(options, count, "port");
    int listener = bench_listen(&port);
    const char *congestion = bench_text(options, count, "congestion");
    if (*congestion && setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, congestion,
                                  (socklen_t)strlen(congestion)) != 0) {
        bench_die("--congestion");
    }
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (server.epoll < 0 || epoll_ctl(server.epoll, EPOLL_CTL_ADD, listener, &event) != 0) {
        bench_die("epoll");
    }
    printf("%u\n", (unsigned)port);
    fflush(stdout);

    struct epoll_event events[EVENTS];
    while (!ended) {
        int ready = epoll_wait(server.epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL) {
                on_accept(listener);
            } else {
                on_event(events[i].data.ptr);
            }
        }
    }
    printf("{\"frames\": %llu, \"bytes_in\": %llu, \"bytes_out\": %llu, \"cpu_s\": %.3f, "
           "\"crc\": %u}\n",
           (unsigned long long)server.frames, (unsigned long long)server.bytes_in,
           (unsigned long long)server.bytes_out, bench_cpu_seconds(), server.crc);
    return 0;
}
