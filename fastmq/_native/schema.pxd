"""What the decoder and the encoder share: tables of fields, and access to the slots of messages."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint16_t, uint32_t, uint64_t


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


cdef enum:
    # What a default means: the object itself, a new list, or a new struct of the class given.
    D_VALUE = 0
    D_LIST = 1
    D_STRUCT = 2


cdef class MessageBase:
    pass


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


cdef class Table:
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
    cdef int fill(self, Op *op, field) except -1


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


cdef bint is_default(object value, int how, object default) except -1
cdef Py_ssize_t scalar_size(int kind, bint flexible) noexcept
