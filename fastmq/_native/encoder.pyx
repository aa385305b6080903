# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The encoder of Kafka's messages: one for all, driven by tables (`fastmq._native.schema`).

It writes into a growing buffer that is copied once, into the result. Every write is preceded by a
`reserve` in the same function. `encode_parts` leaves record batches where they are and returns the
pieces around them, for a gathering write.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AsDouble
from cpython.list cimport PyList_Append
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport (
    INT16_MAX,
    INT16_MIN,
    INT32_MAX,
    INT32_MIN,
    INT64_MIN,
    UINT16_MAX,
    UINT32_MAX,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)
from libc.string cimport memcpy, memmove

from fastmq._native.schema cimport (
    K_ARRAY,
    K_BOOL,
    K_BYTES,
    K_FLOAT64,
    K_INT8,
    K_INT16,
    K_INT32,
    K_INT64,
    K_RECORDS,
    K_STRING,
    K_STRUCT,
    K_UINT16,
    K_UINT32,
    K_UUID,
    K_VARINT,
    Op,
    Table,
    is_default,
    slot,
    swap16,
    swap32,
    swap64,
)


cdef extern from "Python.h":
    const char *utf8_of "PyUnicode_AsUTF8AndSize"(object, Py_ssize_t *) except NULL


cdef enum:
    APART_MIN = 4096  # records below this are cheaper to copy than to keep apart


cdef struct Writer:
    char *buffer
    Py_ssize_t size
    Py_ssize_t capacity
    bint flexible
    PyObject *apart  # list of (position, records) that are left out, or NULL


cdef int grow(Writer *w, Py_ssize_t more) except -1:
    cdef Py_ssize_t capacity = max(w.capacity * 2, w.size + more + 256)
    cdef char *buffer = <char *>PyMem_Realloc(w.buffer, capacity)
    if buffer is NULL:
        raise MemoryError
    w.buffer = buffer
    w.capacity = capacity
    return 0


cdef inline int reserve(Writer *w, Py_ssize_t more) except -1:
    if w.capacity - w.size < more:
        return grow(w, more)
    return 0


cdef inline int give8(Writer *w, uint8_t value) except -1:
    reserve(w, 1)
    w.buffer[w.size] = <char>value
    w.size += 1
    return 0


cdef inline int give16(Writer *w, uint16_t value) except -1:
    reserve(w, 2)
    value = swap16(value)
    memcpy(w.buffer + w.size, &value, 2)
    w.size += 2
    return 0


cdef inline int give32(Writer *w, uint32_t value) except -1:
    reserve(w, 4)
    value = swap32(value)
    memcpy(w.buffer + w.size, &value, 4)
    w.size += 4
    return 0


cdef inline int give64(Writer *w, uint64_t value) except -1:
    reserve(w, 8)
    value = swap64(value)
    memcpy(w.buffer + w.size, &value, 8)
    w.size += 8
    return 0


cdef inline int give_raw(Writer *w, const char *data, Py_ssize_t size) except -1:
    reserve(w, size)
    memcpy(w.buffer + w.size, data, size)
    w.size += size
    return 0


cdef int give_uvarint(Writer *w, uint64_t value) except -1:
    reserve(w, 10)
    while value >= 0x80:
        w.buffer[w.size] = <char>(value & 0x7F | 0x80)
        w.size += 1
        value >>= 7
    w.buffer[w.size] = <char>value
    w.size += 1
    return 0


cdef int give_length(Writer *w, Py_ssize_t length, int legacy_bytes) except -1:
    """Write a length or count; -1 is null."""
    if length > INT32_MAX or (legacy_bytes == 2 and not w.flexible and length > INT16_MAX):
        raise ValueError(f"length {length} is more than the format can say")
    if w.flexible:
        return give_uvarint(w, <uint64_t>(length + 1))
    if legacy_bytes == 2:
        return give16(w, <uint16_t>length)
    return give32(w, <uint32_t>length)


cdef int64_t integer(object value, int64_t low, int64_t high) except? -1:
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow != 0 or number < low or number > high:
        raise ValueError(f"{value} is not between {low} and {high}")
    return number


cdef int write_bytes(Writer *w, object value) except -1:
    cdef Py_buffer buffer
    if type(value) is bytes:
        give_length(w, PyBytes_GET_SIZE(value), 4)
        return give_raw(w, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE)
    try:
        give_length(w, buffer.len, 4)
        return give_raw(w, <const char *>buffer.buf, buffer.len)
    finally:
        PyBuffer_Release(&buffer)


cdef int write_records(Writer *w, object value) except -1:
    """Write the length, and the records themselves only when nobody sends them from their place."""
    cdef Py_ssize_t size
    if w.apart is NULL:
        return write_bytes(w, value)
    view = memoryview(value)
    size = view.nbytes
    if size < APART_MIN:
        return write_bytes(w, value)
    give_length(w, size, 4)
    PyList_Append(<object>w.apart, (w.size, view))
    return 0


cdef int write_null(Writer *w, int kind, bint nullable) except -1:
    if not nullable:
        raise ValueError("None is not allowed here in this version")
    if kind == K_STRUCT:
        return give8(w, 0xFF)
    return give_length(w, -1, 2 if kind == K_STRING else 4)


cdef int write_scalar(Writer *w, int kind, object value) except -1:
    cdef Py_ssize_t length = 0
    cdef const char *text
    cdef double real
    cdef uint64_t bits = 0
    cdef int64_t number
    if kind == K_INT32:
        return give32(w, <uint32_t>integer(value, INT32_MIN, INT32_MAX))
    if kind == K_STRING:
        text = utf8_of(value, &length)
        give_length(w, length, 2)
        return give_raw(w, text, length)
    if kind == K_INT16:
        return give16(w, <uint16_t>integer(value, INT16_MIN, INT16_MAX))
    if kind == K_INT64:
        return give64(w, <uint64_t>integer(value, INT64_MIN, (-1) ^ INT64_MIN))
    if kind == K_BOOL:
        return give8(w, 1 if value else 0)
    if kind == K_INT8:
        return give8(w, <uint8_t>integer(value, -128, 127))
    if kind == K_UUID:
        if type(value) is not bytes or PyBytes_GET_SIZE(value) != 16:
            raise ValueError("a uuid is 16 bytes")
        return give_raw(w, PyBytes_AS_STRING(value), 16)
    if kind == K_BYTES:
        return write_bytes(w, value)
    if kind == K_RECORDS:
        return write_records(w, value)
    if kind == K_UINT16:
        return give16(w, <uint16_t>integer(value, 0, UINT16_MAX))
    if kind == K_UINT32:
        return give32(w, <uint32_t>integer(value, 0, UINT32_MAX))
    if kind == K_FLOAT64:
        real = PyFloat_AsDouble(value)
        memcpy(&bits, &real, 8)
        return give64(w, bits)
    if kind == K_VARINT:
        number = integer(value, INT32_MIN, INT32_MAX)
    else:
        number = integer(value, INT64_MIN, (-1) ^ INT64_MIN)
    return give_uvarint(w, <uint64_t>number << 1 ^ <uint64_t>(number >> 63))


cdef int write_array(Writer *w, Op *op, object value) except -1:
    cdef Py_ssize_t i, count
    cdef list items
    if type(value) is list:
        items = <list>value
    elif type(value) is tuple:
        items = list(value)
    else:
        raise TypeError(f"an array is a list or a tuple, not {type(value).__name__}")
    count = len(items)
    give_length(w, count, 4)
    for i in range(count):
        # A buffer's exporter is foreign code; the list may have changed under it.
        if len(items) != count:
            raise RuntimeError("list changed while it was encoded")
        item = items[i]
        if op.element == K_STRUCT:
            write_struct(w, <Table>op.table, item)
        elif item is None:
            raise ValueError("None is not allowed in an array")
        else:
            write_scalar(w, op.element, item)
    return 0


cdef inline int write_value(Writer *w, Op *op, object value) except -1:
    if value is None:
        return write_null(w, op.kind, op.nullable)
    if op.kind == K_ARRAY:
        return write_array(w, op, value)
    if op.kind == K_STRUCT:
        if op.nullable:
            give8(w, 1)
        return write_struct(w, <Table>op.table, value)
    return write_scalar(w, op.kind, value)


cdef int write_tag(Writer *w, uint32_t tag, Op *op, object value) except -1:
    """Write one tagged field: the value goes in first, then moves to let its size in."""
    cdef Py_ssize_t start, size, prefix
    cdef uint64_t rest
    give_uvarint(w, tag)
    start = w.size
    if op is NULL:
        if type(value) is not bytes:
            raise TypeError("the value of an unknown tag is bytes")
        give_raw(w, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    else:
        write_value(w, op, value)
    size = w.size - start
    if size > INT32_MAX:
        raise ValueError("tagged field is too large")
    prefix = 1
    rest = <uint64_t>size >> 7
    while rest:
        prefix += 1
        rest >>= 7
    reserve(w, prefix)
    memmove(w.buffer + start + prefix, w.buffer + start, size)
    w.size = start
    give_uvarint(w, <uint64_t>size)
    w.size = start + prefix + size
    return 0


cdef object slot_value(object message, Op *op):
    cdef PyObject *value = slot(message, op.offset)[0]
    if value is NULL:
        raise AttributeError(f"{type(message).__name__}.{<object>op.name} is not set")
    return <object>value


cdef bint tag_is_sent(object message, Op *op) except -1:
    """Whether a tagged field differs from what the peer assumes when it is left out."""
    value = slot_value(message, op)
    if op.kind == K_STRUCT and not op.nullable:
        return value is not None and value != (<Table>op.table).cls()
    return not is_default(value, op.how, <object>op.default)


cdef int write_tags(Writer *w, Table table, object message) except -1:
    cdef PyObject *stored = slot(message, table.unknown_offset)[0]
    cdef Py_ssize_t i, known = 0
    cdef uint32_t number
    cdef list unknown = []
    cdef list sent = []
    if stored is not NULL and <object>stored is not None:
        unknown = sorted((<dict?>stored).items())
    for i in range(table.tag_count):
        if tag_is_sent(message, &table.tags[i]):
            sent.append(i)
    give_uvarint(w, <uint64_t>(len(unknown) + len(sent)))
    for tag, data in unknown:
        number = <uint32_t>integer(tag, 0, UINT32_MAX)
        while known < len(sent) and table.tags[<Py_ssize_t>sent[known]].tag < number:
            write_known_tag(w, message, &table.tags[<Py_ssize_t>sent[known]])
            known += 1
        if known < len(sent) and table.tags[<Py_ssize_t>sent[known]].tag == number:
            raise ValueError(f"tag {tag} is both a known and an unknown one")
        write_tag(w, number, NULL, data)
    for i in range(known, len(sent)):
        write_known_tag(w, message, &table.tags[<Py_ssize_t>sent[i]])
    return 0


cdef int write_known_tag(Writer *w, object message, Op *op) except -1:
    return write_tag(w, op.tag, op, slot_value(message, op))


cdef int check_holes(Table table, object message) except -1:
    """Refuse to lose a value: the version has no such field."""
    cdef Py_ssize_t i
    cdef Op *op
    for i in range(table.hole_count):
        op = &table.holes[i]
        if not op.nullable and not is_default(
            slot_value(message, op), op.how, <object>op.default
        ):
            raise ValueError(
                f"{table.cls.__name__}.{<object>op.name} is set, but this version lacks it"
            )
    return 0


cdef int write_struct(Writer *w, Table table, object message) except -1:
    cdef Py_ssize_t i
    cdef Op *op = NULL
    cdef PyObject *stored
    if type(message) is not table.cls:
        raise TypeError(f"{table.cls.__name__} expected, got {type(message).__name__}")
    try:
        for i in range(table.op_count):
            op = &table.ops[i]
            write_value(w, op, slot_value(message, op))
    except (TypeError, ValueError, BufferError) as error:
        error.add_note(f"in {table.cls.__name__}.{<object>op.name}")
        raise
    check_holes(table, message)
    if not table.flexible:
        return 0
    stored = slot(message, table.unknown_offset)[0]
    if table.tag_count == 0 and (stored is NULL or <object>stored is None):
        return give8(w, 0)
    return write_tags(w, table, message)


cdef list write_message(Table table, object message, bytes prefix, list apart):
    """The bytes of a message, cut where the records in `apart` belong."""
    cdef Writer w
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t position
    cdef list parts = []
    w.size = 0
    w.capacity = 1024 + PyBytes_GET_SIZE(prefix)
    w.flexible = table.flexible
    w.apart = NULL if apart is None else <PyObject *>apart
    w.buffer = <char *>PyMem_Malloc(w.capacity)
    if w.buffer is NULL:
        raise MemoryError
    try:
        give_raw(&w, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        write_struct(&w, table, message)
        if apart is not None:
            for position, records in apart:
                parts.append(PyBytes_FromStringAndSize(w.buffer + start, position - start))
                parts.append(records)
                start = position
        if start < w.size or not parts:
            parts.append(PyBytes_FromStringAndSize(w.buffer + start, w.size - start))
        return parts
    finally:
        PyMem_Free(w.buffer)


def encode(Table table not None, message, bytes prefix not None=b""):
    """Encode one message.

    Args:
        table: of the message's class and of the version wanted.
        message: an instance of exactly that class.
        prefix: bytes that go in front (the header of the frame).

    Returns:
        prefix and message.

    Raises:
        ValueError, TypeError: a value does not fit its field, or is set in a field that this
            version lacks and that may not be dropped.
    """
    return write_message(table, message, prefix, None)[0]


def encode_parts(Table table not None, message, bytes prefix not None=b""):
    """Encode one message as pieces to be sent one after the other.

    Large `records` are not copied: their piece is a memoryview of what the message holds, which
    must stay as it is until it is sent. Args and errors as `encode`.
    """
    return write_message(table, message, prefix, [])
