/* perf/load/text.h - requests from a file, answers that are lines: NATS, Redis.
 *
 * The file holds one request as it goes over the wire; "@@@@@@" in it is replaced by the number of
 * the connection, six digits.  An answer is `answer_lines` line ends.
 */
#ifndef FASTMQ_PERF_TEXT_H
#define FASTMQ_PERF_TEXT_H

#include "wire.h"

typedef struct {
    const char *request_path;
    const char *hello_path; /* sent once per connection; "": nothing */
    int hello_lines;        /* what the broker says before its first answer */
    int answer_lines;
    size_t record_bytes;
} text_script;

typedef struct {
    int skip;       /* lines that are still to be ignored */
    int per_answer; /* lines */
    int seen;       /* of the answer that is arriving */
} text_reader;

void text_request(const text_script *script, int connection, wire_buffer *out);
void text_hello(const text_script *script, int connection, int fd);

/* How many answers end in these bytes.  An answer that begins with '-' ends the program. */
size_t text_answers(text_reader *reader, const uint8_t *data, size_t size);

#endif
