# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The decoder of Kafka's messages: one for all, driven by tables (`fastmq._native.schema`).

Invariants. The reader never moves past `end`: each read is preceded by a check in the same
function. An array is allocated only after its announced length, times the least size of an
element, fits in the bytes that remain. Recursion follows tables, whose depth is bounded. Whatever
the bytes are, `decode` returns or raises ProtocolError.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_FromDouble
from cpython.list cimport PyList_New
from cpython.long cimport PyLong_FromLongLong
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport (
    INT32_MAX,
    UINT32_MAX,
    int8_t,
    int16_t,
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
)
from libc.string cimport memcpy

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
    MessageBase,
    Op,
    Table,
    fresh,
    put,
    scalar_size,
    swap16,
    swap32,
    swap64,
)

from fastmq.errors import ProtocolError


cdef extern from "Python.h":
    # As in C: NULL with an exception set, which the caller turns into its own.
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(const char *, Py_ssize_t, const char *)
    void PyErr_Clear()
    # Steals the reference, which Cython's own declaration hides.
    void set_list_item "PyList_SET_ITEM"(PyObject *, Py_ssize_t, PyObject *)


cdef enum:
    # Elements of all arrays of one message, and unknown tags. A frame of 100 MiB could otherwise
    # name 50 million structs of two bytes, which as Python objects are several gigabytes.
    ELEMENTS_MAX = 4 << 20


cdef struct Reader:
    const uint8_t *start
    const uint8_t *pos
    const uint8_t *end
    Py_ssize_t elements
    bint flexible
    PyObject *view  # borrowed memoryview of the whole input


cdef int refuse(Reader *r, str reason) except -1:
    raise ProtocolError(f"{reason} at byte {r.pos - r.start}")


cdef inline int need(Reader *r, Py_ssize_t size) except -1:
    if r.end - r.pos < size:
        return refuse(r, "message ends too early")
    return 0


cdef inline int take8(Reader *r) except -1:
    need(r, 1)
    r.pos += 1
    return (r.pos - 1)[0]


cdef inline uint16_t take16(Reader *r) noexcept:
    cdef uint16_t value
    memcpy(&value, r.pos, 2)
    r.pos += 2
    return swap16(value)


cdef inline uint32_t take32(Reader *r) noexcept:
    cdef uint32_t value
    memcpy(&value, r.pos, 4)
    r.pos += 4
    return swap32(value)


cdef inline uint64_t take64(Reader *r) noexcept:
    cdef uint64_t value
    memcpy(&value, r.pos, 8)
    r.pos += 8
    return swap64(value)


cdef int read_uvarint(Reader *r, uint64_t *value, int bytes_max) except -1:
    """Read a base-128 integer of at most `bytes_max` bytes (5: 32 bits, 10: 64 bits)."""
    cdef uint64_t result = 0
    cdef uint8_t byte
    cdef int shift = 0
    cdef int _i
    for _i in range(bytes_max):
        byte = <uint8_t>take8(r)
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            if bytes_max == 5 and result > UINT32_MAX or shift == 63 and byte > 1:
                return refuse(r, "varint has too many bits")
            value[0] = result
            return 0
        shift += 7
    return refuse(r, "varint has too many bytes")


cdef Py_ssize_t read_length(Reader *r, int legacy_bytes) except -2:
    """Read a length or count; -1 is null."""
    cdef uint64_t compact
    cdef Py_ssize_t length
    if r.flexible:
        read_uvarint(r, &compact, 5)
        length = <Py_ssize_t>compact - 1
        if length > INT32_MAX:
            refuse(r, "length is too large")
    elif legacy_bytes == 2:
        need(r, 2)
        length = <int16_t>take16(r)
    else:
        need(r, 4)
        length = <int32_t>take32(r)
    if length < -1:
        refuse(r, "length is negative")
    return length


cdef object read_string(Reader *r, bint nullable):
    cdef Py_ssize_t length = read_length(r, 2)
    cdef PyObject *text
    if length < 0:
        if not nullable:
            refuse(r, "string is null")
        return None
    need(r, length)
    text = decode_utf8(<const char *>r.pos, length, NULL)
    if text is NULL:
        PyErr_Clear()
        refuse(r, "string is not UTF-8")
    r.pos += length
    result = <object>text
    Py_XDECREF(text)
    return result


cdef object read_bytes(Reader *r, bint nullable, bint borrow):
    cdef Py_ssize_t length = read_length(r, 4)
    cdef Py_ssize_t at
    if length < 0:
        if not nullable:
            refuse(r, "bytes are null")
        return None
    need(r, length)
    at = r.pos - r.start
    r.pos += length
    if borrow:
        return (<object>r.view)[at : at + length]
    return PyBytes_FromStringAndSize(<const char *>r.pos - length, length)


cdef object read_scalar(Reader *r, int kind, bint nullable):
    cdef uint64_t bits
    cdef double number
    if kind == K_INT32:
        need(r, 4)
        return PyLong_FromLongLong(<int32_t>take32(r))
    if kind == K_STRING:
        return read_string(r, nullable)
    if kind == K_INT16:
        need(r, 2)
        return PyLong_FromLongLong(<int16_t>take16(r))
    if kind == K_INT64:
        need(r, 8)
        return PyLong_FromLongLong(<int64_t>take64(r))
    if kind == K_BOOL:
        return take8(r) != 0
    if kind == K_INT8:
        return PyLong_FromLongLong(<int8_t>take8(r))
    if kind == K_UUID:
        need(r, 16)
        r.pos += 16
        return PyBytes_FromStringAndSize(<const char *>r.pos - 16, 16)
    if kind == K_BYTES or kind == K_RECORDS:
        return read_bytes(r, nullable, kind == K_RECORDS)
    if kind == K_UINT16:
        need(r, 2)
        return PyLong_FromLongLong(take16(r))
    if kind == K_UINT32:
        need(r, 4)
        return PyLong_FromLongLong(take32(r))
    if kind == K_FLOAT64:
        need(r, 8)
        bits = take64(r)
        memcpy(&number, &bits, 8)
        return PyFloat_FromDouble(number)
    read_uvarint(r, &bits, 5 if kind == K_VARINT else 10)
    return PyLong_FromLongLong(<int64_t>(bits >> 1) ^ -<int64_t>(bits & 1))


cdef int spend(Reader *r, Py_ssize_t count) except -1:
    r.elements += count
    if r.elements > ELEMENTS_MAX:
        return refuse(r, "message has too many elements")
    return 0


cdef object read_array(Reader *r, Op *op):
    cdef Py_ssize_t count = read_length(r, 4)
    cdef Py_ssize_t element_min, i
    cdef list result
    cdef object value
    if count < 0:
        if not op.nullable:
            refuse(r, "array is null")
        return None
    if op.element == K_STRUCT:
        element_min = (<Table>op.table).size_min
    else:
        element_min = scalar_size(op.element, r.flexible)
    if count > (r.end - r.pos) // max(element_min, 1):
        refuse(r, "array is longer than the message")
    spend(r, count)
    result = PyList_New(count)
    for i in range(count):
        if op.element == K_STRUCT:
            value = read_struct(r, <Table>op.table)
        else:
            value = read_scalar(r, op.element, False)
        Py_INCREF(value)
        set_list_item(<PyObject *>result, i, <PyObject *>value)
    return result


cdef inline object read_value(Reader *r, Op *op):
    cdef int mark
    if op.kind == K_ARRAY:
        return read_array(r, op)
    if op.kind == K_STRUCT:
        if op.nullable:
            mark = take8(r)
            if mark == 0xFF:
                return None
            if mark != 1:
                refuse(r, "mark of a nullable struct is neither -1 nor 1")
        return read_struct(r, <Table>op.table)
    return read_scalar(r, op.kind, op.nullable)


cdef int read_tags(Reader *r, Table table, object message) except -1:
    cdef uint64_t count, tag, size
    cdef int64_t last = -1
    cdef Py_ssize_t known = 0
    cdef const uint8_t *outer_end = r.end
    cdef dict unknown = None
    read_uvarint(r, &count, 5)
    while count > 0:
        count -= 1
        read_uvarint(r, &tag, 5)
        if <int64_t>tag <= last:
            return refuse(r, "tags do not ascend")
        last = <int64_t>tag
        read_uvarint(r, &size, 5)
        need(r, <Py_ssize_t>size)
        while known < table.tag_count and table.tags[known].tag < tag:
            known += 1
        if known < table.tag_count and table.tags[known].tag == tag:
            r.end = r.pos + size
            put(message, table.tags[known].offset, read_value(r, &table.tags[known]))
            if r.pos != r.end:
                return refuse(r, "tagged field is shorter than announced")
            r.end = outer_end
            continue
        spend(r, 1)
        if unknown is None:
            unknown = {}
        unknown[tag] = PyBytes_FromStringAndSize(<const char *>r.pos, <Py_ssize_t>size)
        r.pos += size
    if unknown is not None:
        put(message, table.unknown_offset, unknown)
    return 0


cdef object read_struct(Reader *r, Table table):
    cdef object message = MessageBase.__new__(table.cls)
    cdef Py_ssize_t i
    cdef Op *op
    for i in range(table.op_count):
        op = &table.ops[i]
        put(message, op.offset, read_value(r, op))
    for i in range(table.hole_count):
        op = &table.holes[i]
        put(message, op.offset, fresh(op.how, <object>op.default))
    put(message, table.unknown_offset, None)
    if table.flexible:
        for i in range(table.tag_count):
            op = &table.tags[i]
            put(message, op.offset, fresh(op.how, <object>op.default))
        if r.end > r.pos and r.pos[0] == 0:
            r.pos += 1
        else:
            read_tags(r, table, message)
    return message


def decode(Table table not None, data, Py_ssize_t offset=0):
    """Decode one message.

    Args:
        table: of the class and version that the bytes are.
        data: a C-contiguous buffer of bytes; `records` of the result borrow from it.
        offset: where the message begins, 0 <= offset <= len(data).

    Returns:
        The message, and the position after it.

    Raises:
        ProtocolError: the bytes are no such message.
    """
    cdef Reader r
    cdef Py_buffer buffer
    cdef object view = memoryview(data)
    if view.itemsize != 1 or view.ndim != 1:
        raise TypeError("data is not a flat buffer of bytes")
    PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE)
    try:
        if not 0 <= offset <= buffer.len:
            raise ValueError(f"offset {offset} lies outside of {buffer.len} bytes")
        r.start = <const uint8_t *>buffer.buf
        r.pos = r.start + offset
        r.end = r.start + buffer.len
        r.elements = 0
        r.flexible = table.flexible
        r.view = <PyObject *>view
        message = read_struct(&r, table)
        return message, r.pos - r.start
    finally:
        PyBuffer_Release(&buffer)


def decode_uvarint(data, Py_ssize_t offset):
    """Decode an unsigned varint of at most 32 bits; return it and the position after it."""
    cdef Reader r
    cdef Py_buffer buffer
    cdef uint64_t value
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        if not 0 <= offset <= buffer.len:
            raise ValueError(f"offset {offset} lies outside of {buffer.len} bytes")
        r.start = <const uint8_t *>buffer.buf
        r.pos = r.start + offset
        r.end = r.start + buffer.len
        read_uvarint(&r, &value, 5)
        return value, r.pos - r.start
    finally:
        PyBuffer_Release(&buffer)
