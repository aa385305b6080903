/* tests/check.h - a test file in fifty lines: functions, CHECK, a count at the end.
 *
 *   static void counts_up(void) { CHECK_EQ(1 + 1, 2); }
 *   int main(void) { RUN(counts_up); return check_report(); }
 *
 * CHECK and CHECK_EQ go on after a failure; REQUIRE leaves the test function.  Each RUN is one
 * passed or failed test.  Include in one C file per program.
 */
#ifndef FASTMQ_TESTS_CHECK_H
#define FASTMQ_TESTS_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_passed;
static int check_failed;
static bool check_current_failed;

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_fail(__FILE__, __LINE__, "false: " #condition))

#define CHECK_EQ(actual, expected)                                                                 \
    check_equal(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_fail(__FILE__, __LINE__, "false: " #condition);                                  \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        check_current_failed = false;                                                              \
        test();                                                                                    \
        check_count(#test);                                                                        \
    } while (0)

static inline void check_fail(const char *file, int line, const char *text) {
    check_current_failed = true;
    printf("%s:%d: %s\n", file, line, text);
}

static inline void check_equal(const char *file, int line, const char *text, long long actual,
                               long long expected) {
    if (actual != expected) {
        check_current_failed = true;
        printf("%s:%d: %s is %lld, expected %lld\n", file, line, text, actual, expected);
    }
}

static inline void check_count(const char *name) {
    if (check_current_failed) {
        check_failed++;
        printf("FAILED %s\n", name);
    } else {
        check_passed++;
    }
}

/* Print the closing line; returns the exit status. */
static inline int check_report(void) {
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed == 0 ? 0 : 1;
}

/* Small reproducible pseudo-random numbers (splitmix64); `state` is the seed. */
static inline uint64_t check_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* A copy in a heap block of exactly `size` bytes, so that the sanitizer sees a read beyond it. */
static inline uint8_t *check_copy(const void *data, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

#endif
