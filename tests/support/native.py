"""The C library for Python tests: a cffi module of all of csrc that is not part of the package.

Compiled at the first use into `build/native-tests/`, under a name that tells the sources, so that a
change of csrc means a new module and an unchanged one is built once. Function names, structs and
return codes are those of the headers, where the contracts stand.
"""

import hashlib
import importlib.util
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent.parent
CSRC = ROOT / "csrc"
BUILD = ROOT / "build" / "native-tests"

INCLUDES = """
#include "fastmq/batch.h"
#include "fastmq/crc32c.h"
#include "fastmq/env.h"
#include "fastmq/log.h"
#include "fastmq/record.h"
#include "fastmq/varint.h"
#include "index.h"
#include "producers.h"
"""

DECLARATIONS = """
uint32_t fmq_crc32c(uint32_t crc, const void *data, size_t size);
uint32_t fmq_crc32c_software(uint32_t crc, const void *data, size_t size);

int fmq_uvarint32_read(const uint8_t *at, const uint8_t *end, uint32_t *out);
int fmq_uvarint64_read(const uint8_t *at, const uint8_t *end, uint64_t *out);
int fmq_varint32_read(const uint8_t *at, const uint8_t *end, int32_t *out);
int fmq_varint64_read(const uint8_t *at, const uint8_t *end, int64_t *out);
int fmq_uvarint64_write(uint8_t *out, uint64_t value);
int fmq_varint64_write(uint8_t *out, int64_t value);
int fmq_varint32_write(uint8_t *out, int32_t value);
size_t fmq_uvarint_size(uint64_t value);
size_t fmq_varint_size(int64_t value);

typedef struct {
    int64_t base_offset; int32_t batch_length; int32_t leader_epoch; int8_t magic; uint32_t crc;
    int16_t attributes; int32_t last_offset_delta; int64_t base_timestamp; int64_t max_timestamp;
    int64_t producer_id; int16_t producer_epoch; int32_t base_sequence; int32_t record_count;
    uint32_t size;
} fmq_batch_header;
typedef struct {
    int32_t max_message_bytes; bool create_time; int64_t timestamp_before_max_ms;
    int64_t timestamp_after_max_ms;
} fmq_batch_limits;
int fmq_batch_parse(const uint8_t *data, size_t size, fmq_batch_header *out);
bool fmq_batch_crc_ok(const uint8_t *data, const fmq_batch_header *h);
int fmq_batch_validate(const uint8_t *data, size_t size, const fmq_batch_header *h,
                       const fmq_batch_limits *limits, int64_t now_ms, const char **reason);
void fmq_batch_set_base_offset(uint8_t *data, int64_t base_offset);
void fmq_batch_set_leader_epoch(uint8_t *data, int32_t leader_epoch);
void fmq_batch_set_log_append_time(uint8_t *data, size_t size, int64_t now_ms);
void fmq_batch_write_header(uint8_t *data, size_t size, fmq_batch_header *h);

typedef struct {
    int64_t timestamp_delta; int32_t offset_delta; const uint8_t *key; int32_t key_size;
    const uint8_t *value; int32_t value_size; const uint8_t *headers; size_t headers_size;
    int32_t header_count;
} fmq_record;
typedef struct { const uint8_t *at; const uint8_t *end; int32_t left; } fmq_record_iter;
void fmq_record_iter_init(fmq_record_iter *it, const uint8_t *records, size_t size, int32_t count);
int fmq_record_iter_next(fmq_record_iter *it, fmq_record *out);
int fmq_record_header_next(const uint8_t **at, const uint8_t *end, const uint8_t **key,
                           int32_t *key_size, const uint8_t **value, int32_t *value_size);
bool fmq_record_headers_ok(const fmq_record *record);
int fmq_batch_validate_records(const uint8_t *records, size_t size, int32_t record_count,
                               bool need_key, const char **reason);
size_t fmq_record_size(int64_t timestamp_delta, int32_t offset_delta, int32_t key_size,
                       int32_t value_size, size_t headers_size, int32_t header_count);
size_t fmq_record_write(uint8_t *out, const fmq_record *record);

typedef struct fmq_env fmq_env;
const fmq_env *fmq_env_system(void);

typedef struct { bool loaded; ...; } fmq_index;
typedef struct { uint32_t relative; uint32_t position; } fmq_index_entry;
typedef struct {
    uint32_t relative; uint32_t position; int64_t timestamp; uint32_t timestamp_relative;
} fmq_index_end;
void fmq_index_free(const fmq_env *env, fmq_index *index);
int fmq_index_reserve(const fmq_env *env, fmq_index *index);
void fmq_index_add_offset(fmq_index *index, uint32_t relative, uint32_t position);
void fmq_index_add_time(fmq_index *index, int64_t timestamp, uint32_t relative);
fmq_index_entry fmq_index_floor(const fmq_index *index, uint32_t relative);
fmq_index_entry fmq_index_boundary(const fmq_index *index, int64_t position_max,
                                   int64_t relative_limit);
uint32_t fmq_index_time_floor(const fmq_index *index, int64_t timestamp);
void fmq_index_truncate(fmq_index *index, uint32_t position, uint32_t relative);
int fmq_index_save(const fmq_env *env, fmq_index *index, const char *dir, int64_t base, bool sync);
void fmq_index_get_end(const fmq_index *index, fmq_index_end *out);
int fmq_index_read_end(const fmq_env *env, const char *dir, int64_t base, fmq_index_end *out);
int fmq_index_load(const fmq_env *env, fmq_index *index, const char *dir, int64_t base,
                   int64_t size);

typedef struct { ...; } fmq_producers;
typedef struct {
    bool duplicate; int64_t base_offset; int64_t last_offset; int64_t timestamp;
} fmq_producer_verdict;
typedef struct { bool is_marker; int32_t coordinator_epoch; } fmq_txn_marker;
void fmq_producers_free(const fmq_env *env, fmq_producers *producers);
int fmq_producers_check(const fmq_producers *producers, const fmq_batch_header *h,
                        fmq_producer_verdict *out, const char **reason);
int fmq_producers_reserve(const fmq_env *env, fmq_producers *producers);
void fmq_producers_update(fmq_producers *producers, const fmq_batch_header *h,
                          const fmq_txn_marker *marker);
int32_t fmq_producers_expire(fmq_producers *producers, int64_t now_ms, int64_t expiration_ms);
int fmq_producers_save(const fmq_env *env, const fmq_producers *producers, const char *dir,
                       int64_t offset);
int fmq_producers_load(const fmq_env *env, fmq_producers *producers, const char *dir,
                       int64_t offset);

typedef struct fmq_files fmq_files;
typedef struct fmq_log fmq_log;
typedef struct fmq_segment fmq_segment;
typedef struct { fmq_segment *segment; int64_t position; uint32_t size; int64_t base_offset;
                 int64_t next_offset; ...; } fmq_slice;
typedef struct {
    int64_t segment_bytes; int64_t segment_ms; int64_t retention_ms; int64_t retention_bytes;
    int64_t producer_id_expiration_ms; int32_t index_interval_bytes; int32_t segment_index_bytes;
    int32_t max_message_bytes; int64_t timestamp_before_max_ms; int64_t timestamp_after_max_ms;
    bool log_append_time; bool preallocate; bool cleanup_delete; ...;
} fmq_log_config;
typedef struct { bool recovered; int64_t bytes_truncated; int64_t truncated_at;
                 int32_t segments_deleted; const char *reason; ...; } fmq_recovery;
typedef struct { const char *dir; int64_t log_start; int64_t recovery_point; bool clean;
                 fmq_log_config config; ...; } fmq_log_open_options;
typedef struct { uint8_t *data; size_t size; int origin; int32_t leader_epoch; bool deferred;
                 int64_t now_ms; int64_t base_offset; int64_t last_offset;
                 int64_t log_append_time_ms; bool duplicate; const char *reason;
                 ...; } native_append;
typedef struct { int64_t producer_id; int16_t producer_epoch; int32_t last_sequence;
                 int64_t last_offset; ...; } fmq_producer_view;
int fmq_files_create(const fmq_env *env, uint32_t max_open, fmq_files **out);
void fmq_files_destroy(fmq_files *files);
uint32_t fmq_files_open_count(const fmq_files *files);
void fmq_segment_unref(fmq_segment *segment);
int fmq_log_open(const fmq_env *env, fmq_files *files, const fmq_log_open_options *options,
                 fmq_log **out, fmq_recovery *recovery);
int fmq_log_close(fmq_log *log, bool clean);
int native_log_append(fmq_log *log, native_append *append);
int fmq_log_read(fmq_log *log, int64_t offset, int64_t limit_offset, uint32_t max_bytes,
                 bool min_one, fmq_slice *out);
int64_t fmq_log_start(const fmq_log *log);
int64_t fmq_log_end(const fmq_log *log);
int64_t fmq_log_size(const fmq_log *log);
int32_t fmq_log_segment_count(const fmq_log *log);
int32_t fmq_log_last_epoch(const fmq_log *log);
int fmq_log_flush(fmq_log *log);
int fmq_log_truncate_to(fmq_log *log, int64_t offset);
int fmq_log_advance_start(fmq_log *log, int64_t offset);
void fmq_log_epoch_end(const fmq_log *log, int32_t epoch, int32_t *out_epoch, int64_t *out_offset);
int32_t fmq_log_epoch_of(const fmq_log *log, int64_t offset);
int fmq_log_find_timestamp(fmq_log *log, int64_t timestamp_ms, int64_t limit, fmq_slice *out);
int fmq_slice_read(const fmq_slice *slice, uint8_t *buf, bool verify);
int32_t fmq_log_producers(const fmq_log *log, fmq_producer_view *out, int32_t max);
"""

# cffi does not know enum members of the library, hence an int in place of the origin.
GLUE = """
typedef struct { uint8_t *data; size_t size; int origin; int32_t leader_epoch; bool deferred;
                 int64_t now_ms; int64_t base_offset; int64_t last_offset;
                 int64_t log_append_time_ms; bool duplicate; const char *reason; } native_append;
static int native_log_append(fmq_log *log, native_append *a) {
    fmq_append own = {.data = a->data, .size = a->size, .origin = (fmq_origin)a->origin,
                      .leader_epoch = a->leader_epoch, .deferred = a->deferred,
                      .now_ms = a->now_ms};
    int result = fmq_log_append(log, &own);
    a->base_offset = own.base_offset;
    a->last_offset = own.last_offset;
    a->log_append_time_ms = own.log_append_time_ms;
    a->duplicate = own.duplicate;
    a->reason = own.reason;
    return result;
}
"""


@cache
def native() -> Any:
    """The module: `ffi` and `lib`."""
    name = f"fastmq_csrc_{_fingerprint()}"
    target = BUILD / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not target.exists():
        _compile(name, target)
    return _load(name, target)


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{sys.version}{DECLARATIONS}{GLUE}".encode())
    for path in sorted(CSRC.glob("src/*.[ch]")) + sorted(CSRC.glob("include/fastmq/*.h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(name: str, target: Path) -> None:
    builder = FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source(
        name,
        INCLUDES + GLUE,
        sources=[str(path) for path in sorted(CSRC.glob("src/*.c"))],
        include_dirs=[str(CSRC / "include"), str(CSRC / "src")],
        extra_compile_args=["-std=gnu11", "-O1", "-UNDEBUG", "-fno-strict-aliasing", "-w"],
        libraries=["pthread"],
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        # In place in one step: several test runs may build at once.
        Path(builder.compile(tmpdir=scratch)).replace(target)


def _load(name: str, target: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
