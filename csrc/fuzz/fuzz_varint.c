/* Any bytes as a varint: what is read is within the bytes and comes back when written again. */
#include "expect.h"
#include "fastmq/varint.h"

static void check_unsigned(const uint8_t *data, size_t size) {
    uint8_t out[10];
    uint64_t value64;
    int used = fmq_uvarint64_read(data, data + size, &value64);
    EXPECT(used >= -1 && used <= 10 && used <= (int64_t)size);
    if (used > 0) {
        EXPECT(fmq_uvarint64_write(out, value64) <= used);
        EXPECT(fmq_uvarint_size(value64) <= (size_t)used);
    }
    uint32_t value32;
    const int used32 = fmq_uvarint32_read(data, data + size, &value32);
    EXPECT(used32 >= -1 && used32 <= 5 && used32 <= (int64_t)size);
    EXPECT(used32 <= 0 || (used32 == used && value32 == value64));
}

static void check_signed(const uint8_t *data, size_t size) {
    uint8_t out[10];
    int64_t value64;
    int64_t again;
    int used = fmq_varint64_read(data, data + size, &value64);
    if (used > 0) {
        const int written = fmq_varint64_write(out, value64);
        EXPECT(written <= used && (size_t)written == fmq_varint_size(value64));
        EXPECT(fmq_varint64_read(out, out + written, &again) == written && again == value64);
    }
    int32_t value32;
    const int used32 = fmq_varint32_read(data, data + size, &value32);
    EXPECT(used32 <= 0 || (used32 == used && value32 == value64));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_unsigned(data, size);
    check_signed(data, size);
    return 0;
}
