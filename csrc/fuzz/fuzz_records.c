/* Any bytes as a records block: the first byte is the record count, the rest the block.
 *
 * Iteration stays inside, headers stay inside their record, the full check accepts nothing that
 * iteration refuses, and what it accepts survives being written again.
 */
#include "expect.h"
#include "fastmq/batch.h"

static int32_t walk_headers(const fmq_record *record) {
    const uint8_t *at = record->headers;
    const uint8_t *end = at + record->headers_size;
    const uint8_t *key;
    const uint8_t *value;
    int32_t key_size;
    int32_t value_size;
    int32_t count = 0;
    int result;
    while ((result = fmq_record_header_next(&at, end, &key, &key_size, &value, &value_size)) == 1) {
        EXPECT(key_size >= 0 && key + key_size <= end);
        EXPECT(value_size >= -1 && (value == NULL) == (value_size == -1));
        EXPECT(value == NULL || value + value_size <= end);
        count++;
    }
    return result == 0 ? count : -1;
}

static void check_rewrite(const fmq_record *record) {
    const size_t size =
        fmq_record_size(record->timestamp_delta, record->offset_delta, record->key_size,
                        record->value_size, record->headers_size, record->header_count);
    uint8_t *bytes = malloc(size);
    EXPECT(bytes != NULL);
    EXPECT(fmq_record_write(bytes, record) == size);
    fmq_record_iter it;
    fmq_record back;
    fmq_record_iter_init(&it, bytes, size, 1);
    EXPECT(fmq_record_iter_next(&it, &back) == 1);
    EXPECT(back.timestamp_delta == record->timestamp_delta);
    EXPECT(back.offset_delta == record->offset_delta);
    EXPECT(back.key_size == record->key_size && back.value_size == record->value_size);
    EXPECT(back.headers_size == record->headers_size);
    EXPECT(fmq_record_iter_next(&it, &back) == 0);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const int32_t count = (int8_t)data[0];
    const uint8_t *end = data + size;
    const char *reason;
    const int valid = fmq_batch_validate_records(data + 1, size - 1, count, false, &reason);
    EXPECT(valid == FMQ_OK || (valid == FMQ_ERR_INVALID_RECORD && reason != NULL));

    fmq_record_iter it;
    fmq_record record;
    int32_t seen = 0;
    int result;
    fmq_record_iter_init(&it, data + 1, size - 1, count);
    while ((result = fmq_record_iter_next(&it, &record)) == 1) {
        EXPECT(record.key == NULL || record.key + record.key_size <= end);
        EXPECT(record.value == NULL || record.value + record.value_size <= end);
        EXPECT(record.headers + record.headers_size <= end);
        const int32_t headers = walk_headers(&record);
        EXPECT(valid != FMQ_OK || headers == record.header_count);
        if (seen == 0) {
            check_rewrite(&record);
        }
        seen++;
    }
    EXPECT(valid != FMQ_OK || (result == 0 && seen == count));
    return 0;
}
