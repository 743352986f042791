/* The engine's inner loop, compiled: the same as pure.py, which is the truth and what docs describe.
 *
 * Prices are 128-bit integers below 2^125 in magnitude, and so are the sums of price and time. A window that meets a
 * larger number becomes the one of pure.py (`wide`), and a test with one is that of Python. No number is ever rounded.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <structmember.h>

typedef __int128 i128;
typedef unsigned __int128 u128;

#define FOREVER ((int64_t)1 << 62)
#define LIMIT_BITS 125
#define ONE_PRICE 1000000000000000000ULL

static PyObject *pure_extreme, *pure_path, *name_push, *name_load, *name_dump;

/* ---- numbers ---- */

static u128 magnitude(i128 value) { return value < 0 ? -(u128)value : (u128)value; }

static int64_t floor_mod(int64_t value, int64_t divisor) {
    int64_t rest = value % divisor;
    return rest < 0 ? rest + divisor : rest;
}

/* Read a whole number; false where it is too large, or where an exception is set (it is no whole number). */
static bool read_wide(PyObject *object, i128 *value) {
    u128 found = 0;
    bool negative = false;
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a whole number is needed, not %s", Py_TYPE(object)->tp_name);
        return false;
    }
#if PY_VERSION_HEX >= 0x030D0000
    i128 raw;
    Py_ssize_t bytes = PyLong_AsNativeBytes(object, &raw, sizeof raw, Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    if (bytes < 0 || bytes > (Py_ssize_t)sizeof raw) return false;
    negative = raw < 0;
    found = magnitude(raw);
#else
#if PY_VERSION_HEX >= 0x030C0000
    uintptr_t tag = ((PyLongObject *)object)->long_value.lv_tag;
    digit *digits = ((PyLongObject *)object)->long_value.ob_digit;
    Py_ssize_t count = (Py_ssize_t)(tag >> 3);
    negative = (tag & 3) == 2;
#else
    Py_ssize_t count = Py_SIZE(object);
    digit *digits = ((PyLongObject *)object)->ob_digit;
    negative = count < 0;
    if (negative) count = -count;
#endif
    if (count * PyLong_SHIFT > LIMIT_BITS + PyLong_SHIFT) return false;
    while (count-- > 0) {
        if (found >> (LIMIT_BITS - PyLong_SHIFT)) return false;
        found = found << PyLong_SHIFT | digits[count];
    }
#endif
    if (found >> LIMIT_BITS) return false;
    *value = negative ? -(i128)found : (i128)found;
    return true;
}

static PyObject *write_wide(i128 value) {
    if (value == (i128)(int64_t)value) return PyLong_FromLongLong((int64_t)value);
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromNativeBytes(&value, sizeof value, Py_ASNATIVEBYTES_NATIVE_ENDIAN);
#else
    return _PyLong_FromByteArray((unsigned char *)&value, sizeof value, PY_LITTLE_ENDIAN, 1);
#endif
}

static int convert_wide(PyObject *object, void *target) {
    if (read_wide(object, target)) return 1;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_OverflowError, "a number is too large");
    return 0;
}

/* Multiply by a time that is not negative; false where the product is too large. */
static bool times(i128 value, int64_t duration, i128 *product) {
    u128 size = magnitude(value), high = (u128)(uint64_t)(size >> 64) * (uint64_t)duration;
    if (high >> (LIMIT_BITS - 64)) return false;
    u128 whole = (high << 64) + (u128)(uint64_t)size * (uint64_t)duration;
    if (whole >> LIMIT_BITS) return false;
    *product = value < 0 ? -(i128)whole : (i128)whole;
    return true;
}

static void multiply(uint64_t limbs[4], uint64_t factor) {
    u128 carry = 0;
    for (int place = 0; place < 4; place++) {
        carry += (u128)limbs[place] * factor;
        limbs[place] = (uint64_t)carry;
        carry >>= 64;
    }
}

/* Compare left * factor * scale with right * weight; right and all factors are not negative. */
static int compare(i128 left, uint64_t factor, uint64_t scale, i128 right, uint64_t weight) {
    if (left < 0) return -1;
    uint64_t one[4] = {(uint64_t)left, (uint64_t)(left >> 64)}, other[4] = {(uint64_t)right, (uint64_t)(right >> 64)};
    multiply(one, scale);
    if (factor != 1) multiply(one, factor);
    multiply(other, weight);
    for (int place = 3; place >= 0; place--)
        if (one[place] != other[place]) return one[place] < other[place] ? -1 : 1;
    return 0;
}

/* A price as it came, and as a number where it is narrow. */
typedef struct {
    PyObject *object;
    i128 value;
    bool narrow;
} Price;

static bool read_price(PyObject *object, Price *price) {
    price->object = object;
    price->narrow = read_wide(object, &price->value);
    return price->narrow || !PyErr_Occurred();
}

/* ---- the queue of a window: what leaves it at grid points, oldest first ---- */

typedef struct {
    int64_t cell, at;
    i128 price, area; /* an extreme has no area */
} Entry;

typedef struct {
    Entry *entries;
    uint32_t capacity, first, length; /* the capacity is a power of two */
} Queue;

static Entry *entry_at(Queue *queue, uint32_t place) {
    return &queue->entries[(queue->first + place) & (queue->capacity - 1)];
}

static bool append(Queue *queue, Entry entry) {
    if (queue->length == queue->capacity) {
        uint32_t capacity = queue->capacity ? queue->capacity * 2 : 4;
        Entry *entries = PyMem_Malloc(capacity * sizeof(Entry));
        if (!entries) return PyErr_NoMemory(), false;
        for (uint32_t place = 0; place < queue->length; place++) entries[place] = *entry_at(queue, place);
        PyMem_Free(queue->entries);
        *queue = (Queue){entries, capacity, 0, queue->length};
    }
    queue->length++;
    *entry_at(queue, queue->length - 1) = entry;
    return true;
}

static void drop_first(Queue *queue) {
    queue->first = (queue->first + 1) & (queue->capacity - 1);
    queue->length--;
}

static void empty(Queue *queue) {
    PyMem_Free(queue->entries);
    *queue = (Queue){0};
}

/* ---- both kinds of windows ---- */

typedef struct {
    PyObject_HEAD
    PyObject *wide; /* the window of pure.py that it has become, or NULL */
    Queue queue;
    int64_t width, grid, at, cell, due;
    i128 price;
} Window;

typedef struct {
    Window window;
    i128 best, group, front;
    int64_t best_at, group_at, front_at;
    bool lowest;
} Extreme;

typedef struct {
    Window window;
    i128 area, total, front_price, front_area;
    int64_t start, duration, edge, front_cell, front_at;
} Path;

static PyTypeObject ExtremeType, PathType;

static void window_dealloc(Window *self) {
    empty(&self->queue);
    Py_XDECREF(self->wide);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int64_t grid_of(int64_t width) {
    static const int64_t seconds[] = {86400, 21600, 3600, 900, 300, 60, 15, 5, 1};
    for (size_t place = 0; place < sizeof seconds / sizeof *seconds; place++)
        if (seconds[place] * 1000000 * 60 <= width) return seconds[place] * 1000000;
    return 1;
}

static PyObject *new_pure(Window *self) {
    if (Py_TYPE(self) == &PathType) return PyObject_CallFunction(pure_path, "L", self->width);
    PyObject *arguments = Py_BuildValue("(L)", self->width);
    PyObject *names = Py_BuildValue("{s:O}", "lowest", ((Extreme *)self)->lowest ? Py_True : Py_False);
    PyObject *made = arguments && names ? PyObject_Call(pure_extreme, arguments, names) : NULL;
    Py_XDECREF(arguments);
    Py_XDECREF(names);
    return made;
}

static PyObject *window_dump(Window *self, PyObject *unused);

/* Become the window of pure.py with this state, or with its own where there is none given. */
static bool widen(Window *self, PyObject *state) {
    if (self->wide && !state) return true;
    PyObject *made = new_pure(self), *own = state ? Py_NewRef(state) : window_dump(self, NULL);
    PyObject *done = made && own ? PyObject_CallMethodOneArg(made, name_load, own) : NULL;
    Py_XDECREF(own);
    if (!done) return Py_XDECREF(made), false;
    Py_DECREF(done);
    Py_XSETREF(self->wide, made);
    empty(&self->queue);
    return true;
}

/* ---- the lowest or highest price ---- */

static void look_at_front(Extreme *self) {
    Window *window = &self->window;
    window->due = FOREVER;
    if (window->queue.length) {
        Entry *entry = entry_at(&window->queue, 0);
        self->front = entry->price;
        self->front_at = entry->at;
        window->due = entry->cell + window->width;
    }
}

static bool at_least_as_extreme(Extreme *self, i128 price, i128 other) {
    return self->lowest ? price <= other : price >= other;
}

static bool extreme_close(Extreme *self, int64_t at) {
    Window *window = &self->window;
    if (window->cell != -FOREVER) {
        Queue *queue = &window->queue;
        while (queue->length && at_least_as_extreme(self, self->group, entry_at(queue, queue->length - 1)->price))
            queue->length--;
        if (!append(queue, (Entry){window->cell, self->group_at, self->group, 0})) return false;
        look_at_front(self);
    }
    window->cell = at + floor_mod(-at, window->grid);
    self->group = window->price;
    self->group_at = window->at;
    return true;
}

static bool extreme_push(Extreme *self, int64_t at, i128 price) {
    Window *window = &self->window;
    if (window->at == -FOREVER) {
        window->at = self->best_at = at;
        window->price = self->best = price;
        return true;
    }
    if (at > window->cell) {
        if (!extreme_close(self, at)) return false;
    } else if (at_least_as_extreme(self, window->price, self->group)) {
        self->group = window->price;
        self->group_at = window->at;
    }
    if (at >= window->due) {
        while (window->queue.length && entry_at(&window->queue, 0)->cell + window->width <= at)
            drop_first(&window->queue);
        look_at_front(self);
    }
    window->at = self->best_at = at;
    window->price = self->best = price;
    /* The latest of equal extremes is the one that is reported. */
    if (!at_least_as_extreme(self, self->best, self->group)) {
        self->best = self->group;
        self->best_at = self->group_at;
    }
    if (window->due != FOREVER && !at_least_as_extreme(self, self->best, self->front)) {
        self->best = self->front;
        self->best_at = self->front_at;
    }
    return true;
}

/* ---- the path ---- */

static bool path_fits(Path *self, int64_t at) {
    i128 product = 0;
    if (self->start == -FOREVER) return true;
    return times(self->window.price, at - self->window.at, &product) && !(magnitude(self->area + product) >> LIMIT_BITS);
}

/* Count sums from the front on: only their differences are used. */
static void rebase(Path *self) {
    Queue *queue = &self->window.queue;
    if (self->front_cell == -FOREVER) return;
    for (uint32_t place = 0; place < queue->length; place++) entry_at(queue, place)->area -= self->front_area;
    self->area -= self->front_area;
    self->front_area = 0;
}

static bool path_fits_rebased(Path *self, int64_t at) {
    if (path_fits(self, at)) return true;
    rebase(self);
    return path_fits(self, at);
}

static bool path_push(Path *self, int64_t at, i128 price) {
    Window *window = &self->window;
    Queue *queue = &window->queue;
    if (at > window->cell) {
        if (self->start == -FOREVER) {
            self->start = window->at = at;
        } else {
            if (!append(queue, (Entry){window->cell, window->at, window->price, self->area})) return false;
            window->due = entry_at(queue, 0)->cell + window->width;
        }
        window->cell = at + floor_mod(-at, window->grid);
    }
    if (at >= window->due) {
        while (queue->length && entry_at(queue, 0)->cell + window->width <= at) {
            Entry *entry = entry_at(queue, 0);
            self->front_cell = entry->cell;
            self->front_at = entry->at;
            self->front_price = entry->price;
            self->front_area = entry->area;
            drop_first(queue);
        }
        window->due = queue->length ? entry_at(queue, 0)->cell + window->width : FOREVER;
    }
    self->area += window->price * (at - window->at);
    window->at = at;
    window->price = price;
    int64_t edge = at - window->width;
    /* Most quotes have the edge of the one before. */
    if (edge < self->edge || edge >= self->edge + window->grid) self->edge = edge - floor_mod(edge, window->grid);
    if (self->front_cell == -FOREVER) {
        self->total = self->area;
        self->duration = at - self->start;
    } else {
        /* No product is larger than one that has been found to fit: this price was in force for longer. */
        self->total = self->area - self->front_area - self->front_price * (self->edge - self->front_at);
        self->duration = at - self->edge;
    }
    return true;
}

/* ---- windows as Python has them ---- */

static bool push_price(Window *self, int64_t at, Price *price) {
    bool is_path = Py_TYPE(self) == &PathType;
    if (!self->wide && price->narrow && (!is_path || path_fits_rebased((Path *)self, at)))
        return is_path ? path_push((Path *)self, at, price->value) : extreme_push((Extreme *)self, at, price->value);
    if (!widen(self, NULL)) return false;
    PyObject *moment = PyLong_FromLongLong(at);
    PyObject *done = moment ? PyObject_CallMethodObjArgs(self->wide, name_push, moment, price->object, NULL) : NULL;
    Py_XDECREF(moment);
    Py_XDECREF(done);
    return done != NULL;
}

static PyObject *window_push(Window *self, PyObject *const *arguments, Py_ssize_t count) {
    Price price;
    if (count != 2) return PyErr_SetString(PyExc_TypeError, "push takes a time and a price"), NULL;
    int64_t at = PyLong_AsLongLong(arguments[0]);
    if (at == -1 && PyErr_Occurred()) return NULL;
    if (!read_price(arguments[1], &price) || !push_price(self, at, &price)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *dump_queue(Queue *queue, bool is_path) {
    PyObject *list = PyList_New(queue->length);
    for (uint32_t place = 0; list && place < queue->length; place++) {
        Entry *entry = entry_at(queue, place);
        PyObject *written = is_path ? Py_BuildValue("[LLNN]", entry->cell, entry->at, write_wide(entry->price),
                                                    write_wide(entry->area))
                                    : Py_BuildValue("[LNL]", entry->cell, write_wide(entry->price), entry->at);
        if (!written) Py_CLEAR(list);
        else PyList_SET_ITEM(list, place, written);
    }
    return list;
}

static PyObject *window_dump(Window *self, PyObject *unused) {
    if (self->wide) return PyObject_CallMethodNoArgs(self->wide, name_dump);
    if (Py_TYPE(self) == &PathType) {
        Path *path = (Path *)self;
        rebase(path);
        return Py_BuildValue("[[LLNNLNLL][LLNN]N]", path->start, self->at, write_wide(self->price),
                             write_wide(path->area), self->cell, write_wide(path->total), path->duration, path->edge,
                             path->front_cell, path->front_at, write_wide(path->front_price),
                             write_wide(path->front_area), dump_queue(&self->queue, true));
    }
    Extreme *extreme = (Extreme *)self;
    return Py_BuildValue("[LNNLLNLN]", self->at, write_wide(self->price), write_wide(extreme->best), extreme->best_at,
                         self->cell, write_wide(extreme->group), extreme->group_at, dump_queue(&self->queue, false));
}

/* PyArg_ParseTuple for any sequence. */
static bool parse(PyObject *sequence, const char *format, ...) {
    PyObject *tuple = PySequence_Tuple(sequence);
    if (!tuple) return false;
    va_list targets;
    va_start(targets, format);
    bool read = PyArg_VaParse(tuple, format, targets);
    va_end(targets);
    Py_DECREF(tuple);
    return read;
}

static bool load_narrow(Window *self, PyObject *state) {
    PyObject *now, *front, *queue;
    Path *path = (Path *)self;
    Extreme *extreme = (Extreme *)self;
    bool is_path = Py_TYPE(self) == &PathType;
    if (is_path
            ? !parse(state, "OOO", &now, &front, &queue) ||
                  !parse(now, "LLO&O&LO&LL", &path->start, &self->at, convert_wide, &self->price, convert_wide,
                         &path->area, &self->cell, convert_wide, &path->total, &path->duration, &path->edge) ||
                  !parse(front, "LLO&O&", &path->front_cell, &path->front_at, convert_wide, &path->front_price,
                         convert_wide, &path->front_area)
            : !parse(state, "LO&O&LLO&LO", &self->at, convert_wide, &self->price, convert_wide, &extreme->best,
                     &extreme->best_at, &self->cell, convert_wide, &extreme->group, &extreme->group_at, &queue))
        return false;
    PyObject *entries = PySequence_Fast(queue, "a queue is a list");
    bool read = entries != NULL;
    for (Py_ssize_t place = 0; read && place < PySequence_Fast_GET_SIZE(entries); place++) {
        Entry entry = {0};
        PyObject *written = PySequence_Fast_GET_ITEM(entries, place);
        read = is_path ? parse(written, "LLO&O&", &entry.cell, &entry.at, convert_wide, &entry.price, convert_wide,
                               &entry.area)
                       : parse(written, "LO&L", &entry.cell, convert_wide, &entry.price, &entry.at);
        read = read && append(&self->queue, entry);
    }
    Py_XDECREF(entries);
    if (!read) return false;
    if (!is_path) look_at_front(extreme);
    else self->due = self->queue.length ? entry_at(&self->queue, 0)->cell + self->width : FOREVER;
    return true;
}

/* Load what fits; false where it does not, or where an exception is set. */
static bool load_fitting(Window *self, PyObject *state) {
    empty(&self->queue);
    Py_CLEAR(self->wide);
    if (load_narrow(self, state)) return true;
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) PyErr_Clear();
    return false;
}

static PyObject *window_load(Window *self, PyObject *state) {
    if (load_fitting(self, state)) Py_RETURN_NONE;
    if (PyErr_Occurred() || !widen(self, state)) return NULL;
    if (Py_TYPE(self) == &ExtremeType) Py_RETURN_NONE;
    /* Its sums may have been counted from long ago; a dump counts them from the front on. */
    PyObject *rebased = PyObject_CallMethodNoArgs(self->wide, name_dump);
    bool good = rebased && (load_fitting(self, rebased) || (!PyErr_Occurred() && widen(self, rebased)));
    Py_XDECREF(rebased);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

/* What Python reads of a window. */
typedef struct {
    const char *name;
    size_t offset;
    bool is_wide;
} Field;

static PyObject *window_get(Window *self, void *closure) {
    Field *field = closure;
    char *place = (char *)self + field->offset;
    if (self->wide) return PyObject_GetAttrString(self->wide, field->name);
    return field->is_wide ? write_wide(*(i128 *)place) : PyLong_FromLongLong(*(int64_t *)place);
}

#define FIELD(kind, name, is_wide) {#name, (getter)window_get, NULL, NULL, &(Field){#name, offsetof(kind, name), is_wide}}
#define SHARED(name, is_wide) {#name, (getter)window_get, NULL, NULL, &(Field){#name, offsetof(Window, name), is_wide}}

static PyObject *extreme_sees_more(Extreme *self, void *unused) {
    if (self->window.wide) return PyObject_GetAttrString(self->window.wide, "sees_more");
    return PyBool_FromLong(self->window.cell != -FOREVER);
}

static PyObject *path_in_force(Path *self, PyObject *unused) {
    if (self->window.wide) return PyObject_CallMethod(self->window.wide, "in_force", NULL);
    if (self->front_cell == -FOREVER) Py_RETURN_NONE;
    return Py_BuildValue("(LN)", self->front_at, write_wide(self->front_price));
}

static PyGetSetDef extreme_fields[] = {SHARED(width, false),
                                       SHARED(grid, false),
                                       SHARED(at, false),
                                       SHARED(price, true),
                                       FIELD(Extreme, best, true),
                                       FIELD(Extreme, best_at, false),
                                       {"sees_more", (getter)extreme_sees_more},
                                       {0}};
static PyGetSetDef path_fields[] = {SHARED(width, false),
                                    SHARED(grid, false),
                                    SHARED(at, false),
                                    SHARED(price, true),
                                    FIELD(Path, total, true),
                                    FIELD(Path, duration, false),
                                    FIELD(Path, edge, false),
                                    FIELD(Path, front_cell, false),
                                    {0}};

static PyObject *window_is_wide(Window *self, PyObject *unused) { return PyBool_FromLong(self->wide != NULL); }

#define WINDOW_METHODS                                                                                                 \
    {"push", (PyCFunction)(void (*)(void))window_push, METH_FASTCALL, "Take the next quote."},                         \
        {"dump", (PyCFunction)window_dump, METH_NOARGS, "Return what load needs, as plain lists."},                    \
        {"load", (PyCFunction)window_load, METH_O, "Become what was dumped."},                                         \
        {"is_wide", (PyCFunction)window_is_wide, METH_NOARGS, "Tell whether it has become the window of pure.py."}

static PyMethodDef extreme_methods[] = {WINDOW_METHODS, {0}};
static PyMethodDef path_methods[] = {
    WINDOW_METHODS,
    {"in_force", (PyCFunction)path_in_force, METH_NOARGS, "Return (at, price) in force at the edge, or None."},
    {0}};

static bool begin(Window *self, int64_t width) {
    self->width = width;
    self->grid = grid_of(width);
    self->at = self->cell = -FOREVER;
    self->due = FOREVER;
    return true;
}

static PyObject *extreme_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
    long long width;
    int lowest;
    static char *names[] = {"width", "lowest", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "L$p", names, &width, &lowest)) return NULL;
    Extreme *self = (Extreme *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    begin(&self->window, width);
    self->lowest = lowest;
    return (PyObject *)self;
}

static PyObject *path_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
    long long width;
    static char *names[] = {"width", NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "L", names, &width)) return NULL;
    Path *self = (Path *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    begin(&self->window, width);
    self->start = self->front_cell = self->edge = -FOREVER;
    return (PyObject *)self;
}

#define NAME(name) "apps.rules.engine._compiled." name
static PyTypeObject ExtremeType = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = NAME("Extreme"),
                                   .tp_doc = "The lowest or highest price that the window sees; see pure.py.",
                                   .tp_basicsize = sizeof(Extreme),
                                   .tp_flags = Py_TPFLAGS_DEFAULT,
                                   .tp_new = extreme_new,
                                   .tp_dealloc = (destructor)window_dealloc,
                                   .tp_methods = extreme_methods,
                                   .tp_getset = extreme_fields};
static PyTypeObject PathType = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = NAME("Path"),
                                .tp_doc = "The price in force at e, and the sum of price and time since; see pure.py.",
                                .tp_basicsize = sizeof(Path),
                                .tp_flags = Py_TPFLAGS_DEFAULT,
                                .tp_new = path_new,
                                .tp_dealloc = (destructor)window_dealloc,
                                .tp_methods = path_methods,
                                .tp_getset = path_fields};

/* ---- tests of conditions ---- */

enum { ABOVE, BELOW, INSIDE, OUTSIDE, RISES, FALLS, RISES_FROM_START, FALLS_FROM_START, ABOVE_AVERAGE, BELOW_AVERAGE };
enum { ALL = BELOW_AVERAGE + 1, ANY, NOT };
static const char *const kinds[] = {"above", "below", "inside", "outside", "rises", "falls", "rises_from_start",
                                    "falls_from_start", "above_average", "below_average", "all", "any", "not"};
#define NUMBERS_MOST 4

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *pure;  /* the test of Python, which says the same */
    PyObject *parts; /* a tuple: of a combination its members, else why it is UNKNOWN */
    int kind;
    Py_ssize_t place;
    i128 numbers[NUMBERS_MOST];
} Test;

static PyTypeObject TestType;

static PyObject *verdict_of(PyObject *test, Price *price, PyObject *windows, bool firing);

static PyObject *boolean(bool value) { return Py_NewRef(value ? Py_True : Py_False); }

static PyObject *unknown(Test *test, Py_ssize_t place) { return Py_NewRef(PyTuple_GET_ITEM(test->parts, place)); }

/* The window of a test, where it is compiled and narrow. */
static Window *window_of(Test *test, PyObject *windows, PyTypeObject *type) {
    PyObject *found = NULL;
    if (PyTuple_Check(windows) && test->place < PyTuple_GET_SIZE(windows)) found = PyTuple_GET_ITEM(windows, test->place);
    else if (PyList_Check(windows) && test->place < PyList_GET_SIZE(windows)) found = PyList_GET_ITEM(windows, test->place);
    return found && Py_TYPE(found) == type && !((Window *)found)->wide ? (Window *)found : NULL;
}

static PyObject *combined(Test *test, Price *price, PyObject *windows, bool firing) {
    PyObject *decides = test->kind == ANY ? Py_True : Py_False, *first = NULL;
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(test->parts); place++) {
        PyObject *one = verdict_of(PyTuple_GET_ITEM(test->parts, place), price, windows, firing);
        if (!one || one == decides) return Py_XDECREF(first), one;
        /* The first that is unknown stands for all. */
        if (!PyBool_Check(one) && !first) first = one;
        else Py_DECREF(one);
    }
    return first ? first : boolean(test->kind == ALL);
}

static PyObject *by_change(Test *test, i128 price, i128 reference, bool firing) {
    int order = compare(price, 1, (uint64_t)test->numbers[0], reference, (uint64_t)test->numbers[firing ? 2 : 1]);
    return boolean(test->kind == RISES || test->kind == RISES_FROM_START ? order >= 0 : order <= 0);
}

static PyObject *by_average(Test *test, Path *path, bool firing) {
    if (path->front_cell == -FOREVER &&
        !(path->duration > 0 && (u128)path->duration * ONE_PRICE >=
                                    (u128)test->numbers[3] * (u128)(uint64_t)(path->window.at - path->edge)))
        return unknown(test, 0);
    if (path->total <= 0) return unknown(test, 1);
    int order = compare(path->window.price, (uint64_t)path->duration, (uint64_t)test->numbers[0], path->total,
                        (uint64_t)test->numbers[firing ? 2 : 1]);
    return boolean(test->kind == ABOVE_AVERAGE ? order > 0 : order < 0);
}

static PyObject *verdict_of(PyObject *object, Price *price, PyObject *windows, bool firing) {
    Test *test = (Test *)object;
    PyObject *pure = object;
    Window *window;
    if (Py_TYPE(object) == &TestType) {
        pure = test->pure;
        switch (test->kind) {
            case ABOVE:
                if (price->narrow) return boolean(price->value > test->numbers[firing]);
                break;
            case BELOW:
                if (price->narrow) return boolean(price->value < test->numbers[firing]);
                break;
            case INSIDE:
            case OUTSIDE:
                if (price->narrow)
                    return boolean((test->numbers[0] <= price->value && price->value <= test->numbers[1]) ==
                                   (test->kind == INSIDE));
                break;
            case RISES:
            case FALLS:
                window = window_of(test, windows, &ExtremeType);
                if (window) {
                    i128 best = ((Extreme *)window)->best;
                    if (best == window->price && window->cell == -FOREVER) return unknown(test, 0);
                    if (best <= 0) return unknown(test, 1);
                    if (best == window->price) return boolean(false);
                    return by_change(test, window->price, best, firing);
                }
                break;
            case RISES_FROM_START:
            case FALLS_FROM_START:
                window = window_of(test, windows, &PathType);
                if (window) {
                    Path *path = (Path *)window;
                    if (path->front_cell == -FOREVER) return unknown(test, 0);
                    if (path->front_price <= 0) return unknown(test, 1);
                    return by_change(test, window->price, path->front_price, firing);
                }
                break;
            case ABOVE_AVERAGE:
            case BELOW_AVERAGE:
                window = window_of(test, windows, &PathType);
                if (window) return by_average(test, (Path *)window, firing);
                break;
            case NOT: {
                PyObject *one = verdict_of(PyTuple_GET_ITEM(test->parts, 0), price, windows, firing);
                if (!one || !PyBool_Check(one)) return one;
                Py_DECREF(one);
                return boolean(one == Py_False);
            }
            default:
                return combined(test, price, windows, firing);
        }
    }
    PyObject *arguments[] = {price->object, windows, firing ? Py_True : Py_False};
    return PyObject_Vectorcall(pure, arguments, 3, NULL);
}

static PyObject *test_call(PyObject *self, PyObject *const *arguments, size_t count, PyObject *named) {
    Price price;
    if (PyVectorcall_NARGS(count) != 3 || named)
        return PyErr_SetString(PyExc_TypeError, "a test takes a price, windows, and whether it is firing"), NULL;
    int firing = PyObject_IsTrue(arguments[2]);
    if (firing < 0 || !read_price(arguments[0], &price)) return NULL;
    return verdict_of(self, &price, arguments[1], firing);
}

static void test_dealloc(Test *self) {
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->pure);
    Py_XDECREF(self->parts);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int test_traverse(Test *self, visitproc visit, void *arg) {
    Py_VISIT(self->pure);
    Py_VISIT(self->parts);
    return 0;
}

static PyTypeObject TestType = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = NAME("Test"),
                                .tp_doc = "A test of a condition, called as the one of Python is.",
                                .tp_basicsize = sizeof(Test),
                                .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
                                .tp_vectorcall_offset = offsetof(Test, call),
                                .tp_call = PyVectorcall_Call,
                                .tp_traverse = (traverseproc)test_traverse,
                                .tp_dealloc = (destructor)test_dealloc};

static PyObject *compile_test(PyObject *module, PyObject *arguments) {
    const char *name;
    PyObject *pure, *numbers, *parts;
    Py_ssize_t place;
    int kind = 0;
    if (!PyArg_ParseTuple(arguments, "sOnO!O!", &name, &pure, &place, &PyTuple_Type, &numbers, &PyTuple_Type, &parts))
        return NULL;
    while (kind <= NOT && strcmp(kinds[kind], name)) kind++;
    if (kind > NOT || PyTuple_GET_SIZE(numbers) > NUMBERS_MOST) return PyErr_Format(PyExc_ValueError, "no test %s", name);
    Test *self = PyObject_GC_New(Test, &TestType);
    if (!self) return NULL;
    self->call = test_call;
    self->pure = Py_NewRef(pure);
    self->parts = Py_NewRef(parts);
    self->kind = kind;
    self->place = place;
    PyObject_GC_Track(self);
    memset(self->numbers, 0, sizeof self->numbers);
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(numbers); index++) {
        bool fits = read_wide(PyTuple_GET_ITEM(numbers, index), &self->numbers[index]);
        if (!fits && PyErr_Occurred()) return Py_DECREF(self), NULL;
        /* Those of windows are factors, which take half as many bits. */
        if (!fits || (kind > OUTSIDE && (self->numbers[index] < 0 || self->numbers[index] > INT64_MAX)))
            return Py_DECREF(self), Py_NewRef(pure);
    }
    return (PyObject *)self;
}

/* ---- what the loop reads of one asset ---- */

typedef struct {
    PyObject_HEAD
    long long at, before_at, deadline;
    PyObject *price, *before_price, *factor, *windows, *instances, *evaluating;
} Track;

static PyMemberDef track_members[] = {{"at", T_LONGLONG, offsetof(Track, at)},
                                      {"before_at", T_LONGLONG, offsetof(Track, before_at)},
                                      {"deadline", T_LONGLONG, offsetof(Track, deadline)},
                                      {"price", T_OBJECT_EX, offsetof(Track, price)},
                                      {"before_price", T_OBJECT_EX, offsetof(Track, before_price)},
                                      {"factor", T_OBJECT_EX, offsetof(Track, factor)},
                                      {"windows", T_OBJECT_EX, offsetof(Track, windows)},
                                      {"instances", T_OBJECT_EX, offsetof(Track, instances)},
                                      {"evaluating", T_OBJECT_EX, offsetof(Track, evaluating)},
                                      {0}};

static int track_traverse(Track *self, visitproc visit, void *arg) {
    Py_VISIT(self->factor);
    Py_VISIT(self->windows);
    Py_VISIT(self->instances);
    Py_VISIT(self->evaluating);
    return 0;
}

static int track_clear(Track *self) {
    Py_CLEAR(self->price);
    Py_CLEAR(self->before_price);
    Py_CLEAR(self->factor);
    Py_CLEAR(self->windows);
    Py_CLEAR(self->instances);
    Py_CLEAR(self->evaluating);
    return 0;
}

static void track_dealloc(Track *self) {
    PyObject_GC_UnTrack(self);
    track_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject TrackType = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = NAME("Track"),
                                 .tp_doc = "What the loop over quotes reads of one asset.",
                                 .tp_basicsize = sizeof(Track),
                                 .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                 .tp_new = PyType_GenericNew,
                                 .tp_traverse = (traverseproc)track_traverse,
                                 .tp_clear = (inquiry)track_clear,
                                 .tp_dealloc = (destructor)track_dealloc,
                                 .tp_members = track_members};

/* ---- the loop ---- */

typedef struct {
    PyObject *push_scaled, *expire, *step, *fail;
} Calls;

static bool call(PyObject *function, PyObject *track, PyObject *one, PyObject *other, PyObject *at) {
    PyObject *done = PyObject_CallFunctionObjArgs(function, track, one, other, at, NULL);
    Py_XDECREF(done);
    return done != NULL;
}

static bool push_all(Track *track, PyObject *windows, int64_t at, PyObject *moment, Price *price, Calls *calls) {
    if (track->factor != Py_None) {
        PyObject *done = PyObject_CallFunctionObjArgs(calls->push_scaled, windows, moment, price->object, track->factor, NULL);
        Py_XDECREF(done);
        return done != NULL;
    }
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(windows); place++) {
        PyObject *window = PyTuple_GET_ITEM(windows, place);
        if (Py_TYPE(window) == &PathType || Py_TYPE(window) == &ExtremeType) {
            if (!push_price((Window *)window, at, price)) return false;
        } else {
            PyObject *done = PyObject_CallMethodObjArgs(window, name_push, moment, price->object, NULL);
            if (!done) return false;
            Py_DECREF(done);
        }
    }
    return true;
}

/* An instance that raises is given to fail, with what it raised; what is no Exception goes on. */
static bool failed(Calls *calls, Track *track, PyObject *instance, PyObject *moment) {
    PyObject *type, *error, *traceback;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return false;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    bool done = call(calls->fail, (PyObject *)track, instance, error, moment);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return done;
}

/* The verdict that follows from one on the same window with another threshold, or NULL: whatever is not 5 % higher is not
 * 10 % higher either. Borrowed. */
static PyObject *implied(Test *test, bool firing, Test *other, bool other_firing, PyObject *verdict) {
    if (test->kind != other->kind || test->place != other->place || test->numbers[3] != other->numbers[3]) return NULL;
    if (test->kind < RISES || test->kind > BELOW_AVERAGE) return NULL;
    if (!PyBool_Check(verdict)) return verdict;
    u128 threshold = (u128)test->numbers[firing ? 2 : 1] * (uint64_t)other->numbers[0];
    u128 known = (u128)other->numbers[other_firing ? 2 : 1] * (uint64_t)test->numbers[0];
    bool upward = test->kind == RISES || test->kind == RISES_FROM_START || test->kind == ABOVE_AVERAGE;
    bool is_stronger = upward ? threshold >= known : threshold <= known;
    bool is_weaker = upward ? threshold <= known : threshold >= known;
    return (verdict == Py_False ? is_stronger : is_weaker) ? verdict : NULL;
}

/* Evaluate the instances over what they began with; called sets whether Python has been called, which may change it. */
static bool evaluate_all(Track *track, PyObject *windows, PyObject *moment, Price *price, Calls *calls, bool *called) {
    PyObject *instances = Py_NewRef(track->instances), *evaluating = Py_NewRef(track->evaluating);
    Test *known = NULL;
    PyObject *known_verdict = NULL;
    bool good = true, known_firing = false;
    for (Py_ssize_t place = 0; good && place < PyList_GET_SIZE(evaluating); place++) {
        PyObject *one = PyList_GET_ITEM(evaluating, place), *test = PyTuple_GET_ITEM(one, 0);
        bool firing = PyTuple_GET_ITEM(one, 1) == Py_True;
        PyObject *verdict = NULL;
        if (Py_TYPE(test) == &TestType) {
            verdict = known ? implied((Test *)test, firing, known, known_firing, known_verdict) : NULL;
            Py_XINCREF(verdict);
        }
        if (!verdict) {
            verdict = verdict_of(test, price, windows, firing);
            if (verdict && Py_TYPE(test) == &TestType) {
                Py_XSETREF(known, (Test *)Py_NewRef(test));
                Py_XSETREF(known_verdict, Py_NewRef(verdict));
                known_firing = firing;
            }
        }
        if (verdict && verdict == PyTuple_GET_ITEM(one, 2)) {
            Py_DECREF(verdict);
            continue;
        }
        *called = true;
        PyObject *instance = PyTuple_GetItem(instances, place);
        good = instance != NULL;
        if (good && !(verdict && call(calls->step, (PyObject *)track, instance, verdict, moment)))
            good = failed(calls, track, instance, moment);
        Py_XDECREF(verdict);
    }
    Py_XDECREF(known);
    Py_XDECREF(known_verdict);
    Py_DECREF(instances);
    Py_DECREF(evaluating);
    return good;
}

static bool evaluate_quote(Track *track, int64_t at, PyObject *moment, PyObject *object, Calls *calls, bool *called) {
    Price price;
    if (!read_price(object, &price)) return false;
    track->before_at = track->at;
    Py_XSETREF(track->before_price, track->price);
    track->at = at;
    track->price = Py_NewRef(object);
    PyObject *windows = Py_NewRef(track->windows);
    bool good = push_all(track, windows, at, moment, &price, calls);
    if (good && at >= track->deadline) {
        *called = true;
        PyObject *done = PyObject_CallFunctionObjArgs(calls->expire, track, moment, NULL);
        good = done != NULL;
        Py_XDECREF(done);
    } else if (good) {
        good = evaluate_all(track, windows, moment, &price, calls, called);
    }
    Py_DECREF(windows);
    return good;
}

static PyObject *evaluate_quotes(PyObject *module, PyObject *arguments) {
    PyObject *tracks, *given;
    Calls calls;
    if (!PyArg_ParseTuple(arguments, "O!OOOOO", &PyDict_Type, &tracks, &given, &calls.push_scaled, &calls.expire,
                          &calls.step, &calls.fail))
        return NULL;
    PyObject *quotes = PySequence_Fast(given, "quotes are a list"), *known_id = NULL;
    Track *track = NULL;
    bool good = quotes != NULL;
    for (Py_ssize_t place = 0; good && place < PySequence_Fast_GET_SIZE(quotes); place++) {
        PyObject *quote = Py_NewRef(PySequence_Fast_GET_ITEM(quotes, place));
        bool called = false;
        if (!PyTuple_Check(quote) || PyTuple_GET_SIZE(quote) != 3) {
            PyErr_SetString(PyExc_TypeError, "a quote is (asset id, at, price)");
            good = false;
        } else if (PyTuple_GET_ITEM(quote, 0) != known_id) {
            /* Each is held, as long as it is the one that is known. */
            Py_XSETREF(known_id, Py_NewRef(PyTuple_GET_ITEM(quote, 0)));
            Py_XSETREF(track, (Track *)Py_XNewRef(PyDict_GetItemWithError(tracks, known_id)));
            good = track ? PyObject_TypeCheck(track, &TrackType) : !PyErr_Occurred();
            if (track && !good) PyErr_SetString(PyExc_TypeError, "a series is a Track");
        }
        if (good && track) {
            PyObject *moment = PyTuple_GET_ITEM(quote, 1);
            int64_t at = PyLong_AsLongLong(moment);
            if (at == -1 && PyErr_Occurred()) good = false;
            else if (at > track->at) good = evaluate_quote(track, at, moment, PyTuple_GET_ITEM(quote, 2), &calls, &called);
        }
        /* Where an instance has taken a step, its asset may be evaluated no more. */
        if (called) Py_CLEAR(known_id);
        Py_DECREF(quote);
    }
    Py_XDECREF(known_id);
    Py_XDECREF(track);
    Py_XDECREF(quotes);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"compile_test", compile_test, METH_VARARGS, "Return a test that says what the one of Python says."},
    {"evaluate_quotes", evaluate_quotes, METH_VARARGS, "Evaluate quotes in their order; see pure.py."},
    {0}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = NAME(""), .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__compiled(void) {
    PyObject *pure = PyImport_ImportModule("apps.rules.engine.pure"), *module = pure ? PyModule_Create(&definition) : NULL;
    if (!module) return NULL;
    pure_extreme = PyObject_GetAttrString(pure, "Extreme");
    pure_path = PyObject_GetAttrString(pure, "Path");
    name_push = PyUnicode_InternFromString("push");
    name_load = PyUnicode_InternFromString("load");
    name_dump = PyUnicode_InternFromString("dump");
    Py_DECREF(pure);
    PyTypeObject *types[] = {&ExtremeType, &PathType, &TestType, &TrackType};
    for (size_t place = 0; place < sizeof types / sizeof *types; place++)
        if (PyModule_AddType(module, types[place]) < 0) return Py_DECREF(module), NULL;
    if (!pure_extreme || !pure_path || !name_push || !name_load || !name_dump ||
        PyModule_AddStringConstant(module, "SOURCE", SOURCE) < 0)
        return Py_DECREF(module), NULL;
    return module;
}
