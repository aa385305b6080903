/* fastmq/crc32c.h - CRC-32C (Castagnoli), as RFC 3720 and Kafka use it.
 *
 * The implementation is chosen once at run time: SSE4.2 (three interleaved streams) on x86-64, the
 * CRC extension on aarch64, slicing-by-8 tables elsewhere.  Thread safe.
 */
#ifndef FASTMQ_CRC32C_H
#define FASTMQ_CRC32C_H

#include "fastmq/base.h"

/* CRC of `size` bytes, continuing from `crc` (0 to start).  fmq_crc32c(0, "123456789", 9) is
 * 0xe3069283. */
uint32_t fmq_crc32c(uint32_t crc, const void *data, size_t size);

/* The table-driven version, always available: for tests of the fast ones. */
uint32_t fmq_crc32c_software(uint32_t crc, const void *data, size_t size);

#endif
