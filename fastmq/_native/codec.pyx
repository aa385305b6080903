# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The encoder and decoder of Kafka's messages: one of each, driven by field tables.

`fastmq.protocol._message` turns a class and a version into a `Table`; `encode` and `decode` walk
it. Values are read from and written to the slots of message objects by offset, so that a field
costs some nanoseconds.

Invariants. The reader never moves past `end`: each read is preceded by a check in the same
function. An array is allocated only after its announced length, times the least size of an
element, fits in the bytes that remain. Recursion follows tables, and a table can only name
tables that were built before it: depth is bounded by the schemas. Whatever the bytes are,
`decode` returns or raises ProtocolError.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.float cimport PyFloat_AsDouble, PyFloat_FromDouble
from cpython.list cimport PyList_New
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_FromLongLong
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport (
    INT16_MAX,
    INT16_MIN,
    INT32_MAX,
    INT32_MIN,
    INT64_MIN,
    UINT16_MAX,
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
from libc.string cimport memcpy, memmove

from fastmq.errors import ProtocolError


cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    PyTypeObject PyMemberDescr_Type


cdef extern from "Python.h":
    # As in C: NULL with an exception set, which the callers here turn into their own.
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(const char *, Py_ssize_t, const char *)
    const char *utf8_of "PyUnicode_AsUTF8AndSize"(object, Py_ssize_t *) except NULL
    void PyErr_Clear()
    # Steals the reference, which Cython's own declaration hides.
    void set_list_item "PyList_SET_ITEM"(PyObject *, Py_ssize_t, PyObject *)


cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "fastmq is written for little-endian machines"
    #endif
    static inline uint16_t fmq_swap16(uint16_t v) { return __builtin_bswap16(v); }
    static inline uint32_t fmq_swap32(uint32_t v) { return __builtin_bswap32(v); }
    static inline uint64_t fmq_swap64(uint64_t v) { return __builtin_bswap64(v); }
    """
    uint16_t swap16 "fmq_swap16"(uint16_t) noexcept
    uint32_t swap32 "fmq_swap32"(uint32_t) noexcept
    uint64_t swap64 "fmq_swap64"(uint64_t) noexcept


cdef enum Kind:
    K_BOOL
    K_INT8
    K_INT16
    K_INT32
    K_INT64
    K_UINT16
    K_UINT32
    K_FLOAT64
    K_VARINT
    K_VARLONG
    K_UUID
    K_STRING
    K_BYTES
    K_RECORDS
    K_STRUCT
    K_ARRAY

BOOL = K_BOOL
INT8 = K_INT8
INT16 = K_INT16
INT32 = K_INT32
INT64 = K_INT64
UINT16 = K_UINT16
UINT32 = K_UINT32
FLOAT64 = K_FLOAT64
VARINT = K_VARINT
VARLONG = K_VARLONG
UUID = K_UUID
STRING = K_STRING
BYTES = K_BYTES
RECORDS = K_RECORDS
STRUCT = K_STRUCT
ARRAY = K_ARRAY

cdef enum:
    # What a default means: the object itself, a new list, or a new struct of the class given.
    D_VALUE = 0
    D_LIST = 1
    D_STRUCT = 2

    # Elements of all arrays of one message, and unknown tags. A frame of 100 MiB could otherwise name 50 million
    # structs of two bytes, which as Python objects are several gigabytes.
    ELEMENTS_MAX = 4 << 20


# ---------------------------------------------------------------------------------------------
# Message objects


cdef Py_ssize_t slot_offset(object cls, str name) except -1:
    """The offset in instances of `cls` of the slot called `name`."""
    cdef object descriptor = getattr(cls, name)
    if (<PyObject *>descriptor).ob_type is not &PyMemberDescr_Type:
        raise TypeError(f"{cls.__name__}.{name} is not a slot")
    return (<PyMemberDescrObject *>descriptor).d_member.offset


cdef inline PyObject **slot(object message, Py_ssize_t offset) noexcept:
    return <PyObject **>(<char *><PyObject *>message + offset)


cdef inline void put(object message, Py_ssize_t offset, object value) noexcept:
    cdef PyObject **where = slot(message, offset)
    cdef PyObject *old = where[0]
    Py_INCREF(value)
    where[0] = <PyObject *>value
    Py_XDECREF(old)


cdef inline object fresh(int how, object default):
    if how == D_LIST:
        return []
    if how == D_STRUCT:
        return default()
    return default


cdef bint is_default(object value, int how, object default) except -1:
    if value is default:
        return how == D_VALUE
    if how == D_LIST:
        return value is not None and len(value) == 0
    if how == D_STRUCT:
        return value == default()
    return value == default


@cython.final
cdef class Layout:
    """Where the fields of a message class lie, and their defaults.

    Args:
        cls: the class; each name is one of its slots.
        fields: (name, how, default) in declaration order; `how` is 0 for the value itself, 1 for
            a new list, 2 for a new instance of the class `default`.
    """

    cdef Py_ssize_t count
    cdef Py_ssize_t *offsets
    cdef int *hows
    cdef list defaults
    cdef tuple names
    cdef dict index

    def __cinit__(self, cls, fields):
        cdef Py_ssize_t i
        self.count = len(fields)
        self.offsets = <Py_ssize_t *>PyMem_Calloc(self.count + 1, sizeof(Py_ssize_t))
        self.hows = <int *>PyMem_Calloc(self.count + 1, sizeof(int))
        if self.offsets is NULL or self.hows is NULL:
            raise MemoryError
        self.defaults = []
        self.index = {}
        self.names = tuple([name for name, _, _ in fields])
        for i, (name, how, default) in enumerate(fields):
            self.offsets[i] = slot_offset(cls, name)
            self.hows[i] = how
            self.defaults.append(default)
            self.index[name] = self.offsets[i]

    def __dealloc__(self):
        PyMem_Free(self.offsets)
        PyMem_Free(self.hows)


@cython.auto_pickle(False)
cdef class MessageBase:
    """What message classes inherit: constructor, equality and representation.

    A subclass has `__layout__`, and slots for its fields.
    """

    def __init__(self, **values):
        cdef Layout layout = <Layout?>type(self).__layout__
        cdef Py_ssize_t i
        cdef PyObject *offset
        for i in range(layout.count):
            put(self, layout.offsets[i], fresh(layout.hows[i], layout.defaults[i]))
        for name, value in values.items():
            offset = PyDict_GetItem(layout.index, name)
            if offset is NULL:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            put(self, <object>offset, value)

    def __eq__(self, other):
        cdef Layout layout
        if type(self) is not type(other):
            return NotImplemented
        layout = <Layout?>type(self).__layout__
        for name in layout.names:
            if getattr(self, name) != getattr(other, name):
                return False
        return True

    __hash__ = None

    def __repr__(self):
        cdef Layout layout = <Layout?>type(self).__layout__
        cdef Py_ssize_t i
        shown = []
        for i in range(layout.count):
            value = getattr(self, layout.names[i])
            if not is_default(value, layout.hows[i], layout.defaults[i]):
                shown.append(f"{layout.names[i]}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


# ---------------------------------------------------------------------------------------------
# Tables

cdef struct Op:
    int kind
    int element  # kind of the elements, for arrays
    bint nullable
    int how
    uint32_t tag
    Py_ssize_t offset
    # Borrowed; the table's `keep` owns them.
    PyObject *table  # of the struct, or of the struct elements
    PyObject *default
    PyObject *name


@cython.final
cdef class Table:
    """The fields of one message class in one version, ready for the codec.

    Args:
        cls: the class; it derives from MessageBase.
        flexible: whether lengths are compact and each struct ends with tagged fields.
        fields: (name, kind, element, table, nullable, how, default) in wire order.
        tagged: the same with the tag in front, ascending by tag.
        absent: (name, how, default, ignorable) of the fields that this version lacks.
    """

    cdef readonly object cls
    cdef readonly bint flexible
    # The least size of an encoded value of this table, in bytes.
    cdef readonly Py_ssize_t size_min
    cdef Op *ops
    cdef Op *tags
    cdef Op *holes
    cdef Py_ssize_t op_count
    cdef Py_ssize_t tag_count
    cdef Py_ssize_t hole_count
    cdef Py_ssize_t unknown_offset
    cdef list keep

    def __cinit__(self, cls, bint flexible, fields, tagged, absent):
        cdef Op *op
        if not issubclass(cls, MessageBase):
            raise TypeError(f"{cls!r} is not a message class")
        self.cls = cls
        self.flexible = flexible
        self.keep = [fields, tagged, absent]
        self.unknown_offset = slot_offset(cls, "unknown_tags")
        self.size_min = 1 if flexible else 0
        self.ops = <Op *>PyMem_Calloc(len(fields) + 1, sizeof(Op))
        self.tags = <Op *>PyMem_Calloc(len(tagged) + 1, sizeof(Op))
        self.holes = <Op *>PyMem_Calloc(len(absent) + 1, sizeof(Op))
        if self.ops is NULL or self.tags is NULL or self.holes is NULL:
            raise MemoryError
        for field in fields:
            op = &self.ops[self.op_count]
            self.fill(op, field)
            self.size_min += least_size(op, flexible)
            self.op_count += 1
        for tag, *field in tagged:
            self.fill(&self.tags[self.tag_count], field)
            self.tags[self.tag_count].tag = tag
            self.tag_count += 1
        for name, how, default, ignorable in absent:
            op = &self.holes[self.hole_count]
            self.fill(op, (name, K_BOOL, 0, None, ignorable, how, default))
            self.hole_count += 1

    cdef int fill(self, Op *op, field) except -1:
        name, kind, element, table, nullable, how, default = field
        self.keep.append((name, table, default))
        op.kind = kind
        op.element = element
        op.nullable = nullable
        op.how = how
        op.offset = slot_offset(self.cls, name)
        op.name = <PyObject *>name
        op.default = <PyObject *>default
        op.table = NULL
        if table is not None:
            op.table = <PyObject *><Table?>table
        elif kind == K_STRUCT or kind == K_ARRAY and element == K_STRUCT:
            raise TypeError(f"{name} needs a table")
        return 0

    def __dealloc__(self):
        PyMem_Free(self.ops)
        PyMem_Free(self.tags)
        PyMem_Free(self.holes)


cdef Py_ssize_t scalar_size(int kind, bint flexible) noexcept:
    """The least size of a value that is neither struct nor array."""
    if kind == K_INT16 or kind == K_UINT16:
        return 2
    if kind == K_INT32 or kind == K_UINT32:
        return 4
    if kind == K_INT64 or kind == K_FLOAT64:
        return 8
    if kind == K_UUID:
        return 16
    if kind == K_STRING:
        return 1 if flexible else 2
    if kind == K_BYTES or kind == K_RECORDS:
        return 1 if flexible else 4
    return 1


cdef Py_ssize_t least_size(Op *op, bint flexible) noexcept:
    if op.kind == K_ARRAY:
        return 1 if flexible else 4
    if op.kind == K_STRUCT:
        return 1 if op.nullable else (<Table>op.table).size_min
    return scalar_size(op.kind, flexible)


# ---------------------------------------------------------------------------------------------
# Decoding

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


# ---------------------------------------------------------------------------------------------
# Encoding

cdef struct Writer:
    char *buffer
    Py_ssize_t size
    Py_ssize_t capacity
    bint flexible


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
    if kind == K_BYTES or kind == K_RECORDS:
        return write_bytes(w, value)
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
    cdef Writer w
    w.size = 0
    w.capacity = 1024 + PyBytes_GET_SIZE(prefix)
    w.flexible = table.flexible
    w.buffer = <char *>PyMem_Malloc(w.capacity)
    if w.buffer is NULL:
        raise MemoryError
    try:
        give_raw(&w, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        write_struct(&w, table, message)
        return PyBytes_FromStringAndSize(w.buffer, w.size)
    finally:
        PyMem_Free(w.buffer)
