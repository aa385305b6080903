# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Tables that tell the codec what a message looks like, and the base of message classes.

`fastmq.protocol._message` turns a class and a version into a `Table`; the decoder and the encoder
walk it. Values are read from and written to the slots of message objects by offset, so that a
field costs some nanoseconds. A table can only name tables that were built before it, so that the
depth of the walk is bounded by the schemas.
"""

cimport cython
from cpython.dict cimport PyDict_GetItem
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject, PyTypeObject


cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    PyTypeObject PyMemberDescr_Type


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


cdef Py_ssize_t slot_offset(object cls, str name) except -1:
    """The offset in instances of `cls` of the slot called `name`."""
    cdef object descriptor = getattr(cls, name)
    if (<PyObject *>descriptor).ob_type is not &PyMemberDescr_Type:
        raise TypeError(f"{cls.__name__}.{name} is not a slot")
    return (<PyMemberDescrObject *>descriptor).d_member.offset


cdef bint is_default(object value, int how, object default) except -1:
    if value is default:
        return how == D_VALUE
    if how == D_LIST:
        return value is not None and len(value) == 0
    if how == D_STRUCT:
        return value == default()
    return value == default


@cython.final
@cython.auto_pickle(False)
cdef class Layout:
    """Where the fields of a message class lie, and their defaults.

    Args:
        owner: the class; each name is one of its slots.
        fields: (name, how, default) in declaration order; `how` is 0 for the value itself, 1 for
            a new list, 2 for a new instance of the class `default`.
    """

    cdef Py_ssize_t count
    cdef Py_ssize_t *offsets
    cdef int *hows
    cdef list defaults
    cdef tuple names
    cdef dict index

    def __cinit__(self, owner, fields):
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
            self.offsets[i] = slot_offset(owner, name)
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


# no_gc_clear: the operations borrow from `keep`, so that must go last.
@cython.final
@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class Table:
    """The fields of one message class in one version, ready for the codec.

    Args:
        owner: the class; it derives from MessageBase.
        flexible: whether lengths are compact and each struct ends with tagged fields.
        fields: (name, kind, element, table, nullable, how, default) in wire order.
        tagged: the same with the tag in front, ascending by tag.
        absent: (name, how, default, ignorable) of the fields that this version lacks.
    """

    def __cinit__(self, owner, bint flexible, fields, tagged, absent):
        cdef Op *op
        if not issubclass(owner, MessageBase):
            raise TypeError(f"{owner!r} is not a message class")
        self.cls = owner
        self.flexible = flexible
        self.keep = [fields, tagged, absent]
        self.unknown_offset = slot_offset(owner, "unknown_tags")
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
