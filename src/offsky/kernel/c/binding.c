/* Python's door to average.h and subtract.h: turns buffers into planes, takes
 * the scratch memory, then lets go of the interpreter lock for the whole computation.
 *
 * Uses the limited API and the buffer protocol only: no NumPy headers, one
 * binary for every Python version from 3.11. The build says so by Py_LIMITED_API,
 * but for a free-threaded Python, which has no limited API.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "average.h"
#include "subtract.h"

/* The buffers of one argument (a sequence with one buffer an exposure). */
struct planes {
    Py_ssize_t count;
    Py_buffer *views;
    struct offsky_plane *planes;
};

static void
release(struct planes *p)
{
    for (Py_ssize_t i = 0; i < p->count; i++)
        if (p->views[i].obj)
            PyBuffer_Release(&p->views[i]);
    PyMem_Free(p->views);
    PyMem_Free(p->planes);
    memset(p, 0, sizeof *p);
}

/* What one item of a buffer is, from the struct-module format string. */
static int
describe(const Py_buffer *view, const char *what, struct offsky_plane *plane)
{
    const uint16_t probe = 1;
    const int little = *(const unsigned char *)&probe;
    const char *format = view->format ? view->format : "B";
    plane->swap = 0;
    plane->factor = 1.0;
    plane->offset = 0.0;
    if (strchr("<>!=@", format[0])) {
        plane->swap = format[0] == '<' ? !little : (format[0] == '>' || format[0] == '!') && little;
        format++;
    }
    if (!strcmp(format, "f") && view->itemsize == 4)
        plane->kind = OFFSKY_F32;
    else if (!strcmp(format, "d") && view->itemsize == 8)
        plane->kind = OFFSKY_F64;
    else if ((!strcmp(format, "I") || !strcmp(format, "L")) && view->itemsize == 4)
        plane->kind = OFFSKY_U32;
    else if ((!strcmp(format, "?") || !strcmp(format, "B")) && view->itemsize == 1)
        plane->kind = OFFSKY_U8;
    else {
        PyErr_Format(PyExc_TypeError, "%s: no samples of format '%s'", what, view->format);
        return -1;
    }
    plane->pixels = view->buf;
    plane->flip = 0;
    if ((uintptr_t)view->buf % (uintptr_t)view->itemsize) {
        PyErr_Format(PyExc_ValueError, "%s: samples are not aligned", what);
        return -1;
    }
    return 0;
}

/* One contiguous buffer of `n_pixels` items of `kind`; OFFSKY_F32 stands for real numbers of
 * either size, -1 for any number.  `flags` of PyBUF in addition. */
static int
take_array(PyObject *object,
           const char *what,
           enum offsky_kind kind,
           Py_ssize_t n_pixels,
           int flags,
           Py_buffer *view,
           struct offsky_plane *plane)
{
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) ||
        describe(view, what, plane))
        return -1;
    if ((plane->kind == OFFSKY_F64 ? OFFSKY_F32 : plane->kind) != kind) {
        PyErr_Format(PyExc_TypeError, "%s: samples of the wrong kind", what);
        return -1;
    }
    if (n_pixels >= 0 && view->len / view->itemsize != n_pixels) {
        PyErr_Format(PyExc_ValueError, "%s: %zd pixels where %zd are expected", what,
                     view->len / view->itemsize, n_pixels);
        return -1;
    }
    return 0;
}

/* Fill `out` from a sequence of buffers (None in it: a plane that is not there;
 * None for it: nothing).  Each as take_array() takes it. */
static int
take_planes(PyObject *sequence,
            const char *what,
            enum offsky_kind kind,
            Py_ssize_t n_pixels,
            struct planes *out)
{
    memset(out, 0, sizeof *out);
    if (sequence == Py_None)
        return 0;
    const Py_ssize_t count = PySequence_Size(sequence);
    if (count < 0)
        return -1;
    out->views = PyMem_Calloc((size_t)count + 1, sizeof *out->views);
    out->planes = PyMem_Calloc((size_t)count + 1, sizeof *out->planes);
    if (!out->views || !out->planes) {
        PyErr_NoMemory();
        return -1;
    }
    out->count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        if (!item)
            return -1;
        if (item == Py_None) {
            Py_DECREF(item);
            continue;
        }
        const int failed =
            take_array(item, what, kind, n_pixels, 0, &out->views[i], &out->planes[i]);
        Py_DECREF(item);
        if (failed)
            return -1;
    }
    return 0;
}

/* A writable, contiguous output of `count` items of `itemsize` bytes (0: floats or
 * doubles, whichever it has); None where `optional`. */
static int
take_output(PyObject *object, const char *what, Py_ssize_t count, Py_ssize_t itemsize,
            int optional, Py_buffer *view)
{
    memset(view, 0, sizeof *view);
    if (optional && object == Py_None)
        return 0;
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE))
        return -1;
    if (!itemsize)
        itemsize = view->itemsize == sizeof(double) ? sizeof(double) : sizeof(float);
    if (view->itemsize != itemsize || view->len != count * itemsize) {
        PyErr_Format(PyExc_ValueError,
                     "%s: output of %zd bytes where %zd items of %zd are expected",
                     what, view->len, count, itemsize);
        return -1;
    }
    return 0;
}

/* Everything that a call of average() holds on to. */
struct call {
    struct planes sci, err, dq, variances[2], covers, skip;
    Py_buffer flips, offsets, scales, weights, depths, factors;
    Py_buffer out_sci, out_err, out_dq, out_n, rejected, out_variances[2], masked;
    Py_buffer groups, *out_shares;
    void **shares;
    Py_ssize_t n_pixels, n_groups;
    Py_buffer bits, bounds;
    struct offsky_marks marks;
    struct offsky_stack stack;
    struct offsky_result result;
};

static void
release_call(struct call *c)
{
    struct planes *planes[] = {&c->sci,          &c->err,    &c->dq,  &c->variances[0],
                               &c->variances[1], &c->covers, &c->skip};
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++)
        release(planes[i]);
    Py_buffer *views[] = {
        &c->flips,   &c->offsets, &c->scales, &c->weights,  &c->factors,          &c->out_sci,
        &c->out_err, &c->out_dq,  &c->out_n,  &c->rejected, &c->out_variances[0], &c->out_variances[1],
        &c->masked,  &c->depths,  &c->bits,   &c->bounds,
    };
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        if (views[i]->obj)
            PyBuffer_Release(views[i]);
    if (c->groups.obj)
        PyBuffer_Release(&c->groups);
    for (Py_ssize_t i = 0; i < c->n_groups; i++)
        if (c->out_shares[i].obj)
            PyBuffer_Release(&c->out_shares[i]);
    PyMem_Free(c->out_shares);
    PyMem_Free(c->shares);
}

/* Planes of every kind, in the order of offsky.kernel.contract.Planes. */
static int
take_stack(struct call *c, PyObject *const kinds[7], Py_ssize_t n_pixels)
{
    const struct {
        const char *name;
        enum offsky_kind kind;
        struct planes *planes;
    } takes[7] = {
        {"SCI", OFFSKY_F32, &c->sci},
        {"ERR", OFFSKY_F32, &c->err},
        {"DQ", OFFSKY_U32, &c->dq},
        {"VAR_POISSON", OFFSKY_F32, &c->variances[0]},
        {"VAR_RNOISE", OFFSKY_F32, &c->variances[1]},
        {"covers", OFFSKY_U8, &c->covers},
        {"skip", OFFSKY_U8, &c->skip},
    };
    c->n_pixels = n_pixels;
    for (size_t k = 0; k < 7; k++)
        if (take_planes(kinds[k], takes[k].name, takes[k].kind, n_pixels, takes[k].planes))
            return -1;
    if (c->sci.count < 1 || c->sci.count > 65535) {
        PyErr_SetString(PyExc_ValueError, "1 to 65535 planes of SCI are expected");
        return -1;
    }
    for (Py_ssize_t i = 0; i < c->sci.count; i++)
        if (!c->sci.planes[i].pixels && n_pixels) {
            PyErr_SetString(PyExc_ValueError, "every exposure needs SCI");
            return -1;
        }
    for (size_t k = 1; k < 7; k++)
        if (kinds[k] != Py_None && takes[k].planes->count != c->sci.count) {
            PyErr_SetString(PyExc_ValueError, "one plane an exposure is expected of every kind");
            return -1;
        }
    c->stack = (struct offsky_stack){
        .n_exposures = (size_t)c->sci.count,
        .sci = c->sci.planes,
        .err = c->err.planes,
        .dq = c->dq.planes,
        .variances = {c->variances[0].planes, c->variances[1].planes},
        .covers = c->covers.planes,
        .skip = c->skip.planes,
    };
    return 0;
}

/* One item of `itemsize` bytes for each of `count`, or None. */
static int
take_numbers(PyObject *object, const char *what, Py_ssize_t count, Py_ssize_t itemsize,
             Py_buffer *view)
{
    if (object == Py_None)
        return 0;
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS))
        return -1;
    if (view->itemsize != itemsize || view->len != count * itemsize) {
        PyErr_Format(PyExc_ValueError, "%s: %zd items of %zd bytes are expected", what, count,
                     itemsize);
        return -1;
    }
    return 0;
}

static int
take_flips(struct call *c, PyObject *flips)
{
    if (!c->dq.count)
        return 0;
    if (take_numbers(flips, "dq_flip", c->dq.count, sizeof(uint32_t), &c->flips))
        return -1;
    for (Py_ssize_t i = 0; c->flips.obj && i < c->dq.count; i++)
        c->dq.planes[i].flip = ((const uint32_t *)c->flips.buf)[i];
    return 0;
}

/* The factor on each exposure, and what is added to it, or None. */
static int
take_adjustments(struct call *c, PyObject *offsets, PyObject *scales)
{
    /* Python's own power, which is not always the rounded square: hidden from compilers. */
    static const volatile double two = 2.0;
    const Py_ssize_t n = c->sci.count;
    if (take_numbers(offsets, "offsets", n, sizeof(double), &c->offsets) ||
        take_numbers(scales, "scales", n, sizeof(double), &c->scales))
        return -1;
    for (Py_ssize_t i = 0; c->offsets.obj && i < n; i++)
        c->sci.planes[i].offset = ((const double *)c->offsets.buf)[i];
    for (Py_ssize_t i = 0; c->scales.obj && i < n; i++) {
        const double scale = ((const double *)c->scales.buf)[i];
        c->sci.planes[i].factor = scale;
        if (c->err.count)
            c->err.planes[i].factor = fabs(scale);
        for (int k = 0; k < 2; k++)
            if (c->variances[k].count)
                c->variances[k].planes[i].factor = pow(scale, two);
    }
    return 0;
}

/* Where the shares of groups go (offsky.kernel.contract.Shares), or None. */
static int
take_shares(struct call *c, PyObject *shares, Py_ssize_t real)
{
    PyObject *groups, *planes;
    if (shares == Py_None)
        return 0;
    if (!PyTuple_Check(shares)) {
        PyErr_SetString(PyExc_TypeError, "shares: a tuple of groups and planes is expected");
        return -1;
    }
    if (!PyArg_ParseTuple(shares, "OO:shares", &groups, &planes) ||
        take_numbers(groups, "groups", c->sci.count, sizeof(int32_t), &c->groups))
        return -1;
    const Py_ssize_t count = PySequence_Size(planes);
    if (count < 0)
        return -1;
    c->out_shares = PyMem_Calloc((size_t)count + 1, sizeof *c->out_shares);
    c->shares = PyMem_Calloc((size_t)count + 1, sizeof *c->shares);
    if (!c->out_shares || !c->shares) {
        PyErr_NoMemory();
        return -1;
    }
    c->n_groups = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *plane = PySequence_GetItem(planes, i);
        if (!plane)
            return -1;
        const int failed = take_output(plane, "share", c->n_pixels, real, 0, &c->out_shares[i]);
        Py_DECREF(plane);
        if (failed)
            return -1;
        c->shares[i] = c->out_shares[i].buf;
    }
    if (count && !c->groups.obj) {
        PyErr_SetString(PyExc_TypeError, "shares: a group for each exposure is expected");
        return -1;
    }
    c->result.n_groups = (size_t)count;
    c->result.groups = c->groups.buf;
    c->result.shares = c->shares;
    return 0;
}

/* Where marks go, in the order of offsky.kernel.contract.Marks, or None. */
static int
take_marks(struct call *c, PyObject *marks)
{
    PyObject *bits, *bounds;
    Py_ssize_t offset;
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE;
    if (marks == Py_None)
        return 0;
    if (!PyTuple_Check(marks)) {
        PyErr_SetString(PyExc_TypeError, "marks: a tuple of bits, bounds and offset is expected");
        return -1;
    }
    if (!PyArg_ParseTuple(marks, "OOn:marks", &bits, &bounds, &offset) ||
        PyObject_GetBuffer(bits, &c->bits, flags) ||
        PyObject_GetBuffer(bounds, &c->bounds, flags))
        return -1;
    const Py_buffer *b = &c->bits, *m = &c->bounds;
    if (b->ndim != 4 || b->itemsize != sizeof(uint64_t) || m->ndim != 3 ||
        m->itemsize != sizeof(float) || b->shape[0] < 1 || b->shape[1] != c->sci.count ||
        m->shape[0] != 4 || m->shape[2] < 1 || b->shape[2] != m->shape[1] ||
        b->shape[3] != (m->shape[2] + 63) / 64 || offset < 0 || offset > m->shape[1]) {
        PyErr_SetString(PyExc_ValueError, "marks: bits and bounds do not fit each other");
        return -1;
    }
    c->marks = (struct offsky_marks){
        .n_passes = (size_t)b->shape[0] - 1,
        .n_rows = (size_t)m->shape[1],
        .nx = (size_t)m->shape[2],
        .words = (size_t)b->shape[3],
        .offset = (size_t)offset,
        .bits = b->buf,
        .bounds = m->buf,
    };
    c->result.marks = &c->marks;
    return 0;
}

/* Whether rows [first, last) of the marks are rows of the planes. */
static int
check_marked_rows(const struct call *c, Py_ssize_t first, Py_ssize_t last)
{
    const Py_ssize_t offset = (Py_ssize_t)c->marks.offset, nx = (Py_ssize_t)c->marks.nx;
    if (c->result.marks && first >= offset && last >= first &&
        last <= (Py_ssize_t)c->marks.n_rows && (last - offset) * nx <= c->n_pixels)
        return 0;
    PyErr_SetString(PyExc_ValueError, "marks, and rows of them are expected");
    return -1;
}

/* Where results go, in the order of offsky.kernel.contract.Averages. */
static int
take_results(struct call *c, PyObject *const out[10])
{
    const Py_ssize_t n_pixels = c->n_pixels, n = c->sci.count;
    if (take_output(out[0], "sci", n_pixels, 0, 0, &c->out_sci))
        return -1;
    const Py_ssize_t real = c->out_sci.itemsize;
    if (take_output(out[1], "err", n_pixels, real, 1, &c->out_err) ||
        take_output(out[2], "dq", n_pixels, 4, 1, &c->out_dq) ||
        take_output(out[3], "n_kept", n_pixels, 2, 0, &c->out_n) ||
        take_output(out[4], "n_rejected", n, 8, 0, &c->rejected) ||
        take_output(out[5], "var_poisson", n_pixels, real, 1, &c->out_variances[0]) ||
        take_output(out[6], "var_rnoise", n_pixels, real, 1, &c->out_variances[1]) ||
        take_output(out[7], "n_masked", n, 8, 1, &c->masked))
        return -1;
    c->result = (struct offsky_result){
        .wide = real == sizeof(double),
        .sci = c->out_sci.buf,
        .err = c->out_err.buf,
        .variances = {c->out_variances[0].buf, c->out_variances[1].buf},
        .dq = c->out_dq.buf,
        .n_kept = c->out_n.buf,
        .n_rejected = c->rejected.buf,
        .n_masked = c->masked.buf,
    };
    if (take_shares(c, out[8], real) || take_marks(c, out[9]))
        return -1;
    if (c->result.marks && n_pixels > (Py_ssize_t)((c->marks.n_rows - c->marks.offset) * c->marks.nx)) {
        PyErr_SetString(PyExc_ValueError, "marks: fewer rows than the planes have");
        return -1;
    }
    return 0;
}

/* The numbers of offsky.kernel.contract.Rule. */
static int
take_rule(PyObject *tuple, struct offsky_rule *rule)
{
    int method, flags;
    unsigned int bad_bits;
    if (!PyArg_ParseTuple(tuple, "iddlilliId:rule", &method, &rule->lower, &rule->upper,
                          &rule->maxiters, &rule->about_mean, &rule->n_extremes,
                          &rule->min_keep, &flags, &bad_bits, &rule->bad_fraction))
        return -1;
    if (method < OFFSKY_NONE || method > OFFSKY_MINMAX || flags < OFFSKY_OR || flags > OFFSKY_ALL) {
        PyErr_SetString(PyExc_ValueError, "no such method or combination of flags");
        return -1;
    }
    rule->method = (enum offsky_method)method;
    rule->flags = (enum offsky_flags)flags;
    rule->bad_bits = bad_bits;
    return 0;
}

/* The arguments of average() and amend(); 0 if they serve. */
static int
take_call(struct call *c, PyObject *args, const char *format, struct offsky_rule *rule,
             Py_ssize_t *first, Py_ssize_t *last)
{
    PyObject *kinds[7], *flip, *offsets, *scales, *weights, *depths, *factors;
    PyObject *rule_tuple, *out[10];
    if (!PyArg_ParseTuple(args, format, &kinds[0], &kinds[1], &kinds[2], &kinds[3], &kinds[4],
                          &kinds[5], &kinds[6], &flip, &offsets, &scales, &weights, &depths,
                          &factors, &PyTuple_Type, &rule_tuple, first, last, &out[0], &out[1],
                          &out[2], &out[3], &out[4], &out[5], &out[6], &out[7], &out[8],
                          &out[9]) ||
        take_rule(rule_tuple, rule))
        return -1;
    const Py_ssize_t n_pixels = PyObject_Size(out[3]);
    if (n_pixels < 0 || take_stack(c, kinds, n_pixels) || take_flips(c, flip) ||
        take_adjustments(c, offsets, scales) ||
        take_numbers(weights, "weights", c->sci.count, sizeof(double), &c->weights) ||
        take_numbers(depths, "depths", 2 * c->sci.count, sizeof(double), &c->depths) ||
        take_numbers(factors, "median_factors", c->sci.count + 1, sizeof(double), &c->factors) ||
        take_results(c, out))
        return -1;
    c->stack.weights = c->weights.buf;
    c->stack.depths = c->depths.buf;
    c->stack.median_factors = c->factors.buf;
    return 0;
}

static void *
new_scratch(size_t bytes)
{
    void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!scratch)
        PyErr_NoMemory();
    return scratch;
}

PyDoc_STRVAR(average_doc,
"average(planes, dq_flip, offsets, scales, weights, depths, median_factors, rule, first, last,\n"
"        out)\n"
"--\n\n"
"Average pixels [first, last); returns (n_err_estimated, n_samples).\n"
"The tuples are those of offsky.kernel.contract.");

static PyObject *
py_average(PyObject *module, PyObject *args)
{
    (void)module;
    struct call c = {0};
    struct offsky_rule rule;
    struct offsky_counts counts;
    Py_ssize_t first, last;
    PyObject *answer = NULL;
    void *scratch = NULL;
    if (take_call(&c, args, "(OOOOOOO)OOOOOOO!nn(OOOOOOOOOO):average", &rule, &first, &last))
        goto done;
    if (first < 0 || last < first || last > c.n_pixels) {
        PyErr_SetString(PyExc_ValueError, "first and last are not a range of pixels");
        goto done;
    }
    scratch = new_scratch(offsky_average_bytes(&c.stack, &rule, &c.result));
    if (!scratch)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    counts = offsky_average(&c.stack, &rule, (size_t)first, (size_t)last, &c.result, scratch);
    Py_END_ALLOW_THREADS
    answer = Py_BuildValue("(LL)", (long long)counts.n_err_estimated, (long long)counts.n_samples);
done:
    free(scratch);
    release_call(&c);
    return answer;
}

PyDoc_STRVAR(amend_doc,
"amend(planes, dq_flip, offsets, scales, weights, depths, median_factors, rule, first, last,\n"
"      out)\n"
"--\n\n"
"Average pixels of rows [first, last) of the marks again that growing has changed; returns at\n"
"how many more ERR is estimated.  The tuples are those of offsky.kernel.contract.");

static PyObject *
py_amend(PyObject *module, PyObject *args)
{
    (void)module;
    struct call c = {0};
    struct offsky_rule rule;
    Py_ssize_t first, last;
    PyObject *answer = NULL;
    void *scratch = NULL;
    if (take_call(&c, args, "(OOOOOOO)OOOOOOO!nn(OOOOOOOOOO):amend", &rule, &first, &last) ||
        check_marked_rows(&c, first, last))
        goto done;
    scratch = new_scratch(offsky_amend_bytes(&c.stack, &rule, &c.result));
    if (!scratch)
        goto done;
    int64_t estimated;
    Py_BEGIN_ALLOW_THREADS
    estimated = offsky_amend(&c.stack, &rule, (size_t)first, (size_t)last, &c.result, scratch);
    Py_END_ALLOW_THREADS
    answer = PyLong_FromLongLong((long long)estimated);
done:
    free(scratch);
    release_call(&c);
    return answer;
}

PyDoc_STRVAR(grow_doc,
"grow(planes, dq_flip, offsets, scales, depths, rule, above, pass, first, last, marks)\n"
"--\n\n"
"Reject neighbours of what is rejected, in rows [first, last) of the marks; see average.h.\n"
"The tuples are those of offsky.kernel.contract.");

static PyObject *
py_grow(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *kinds[7], *flip, *offsets, *scales, *depths, *rule_tuple, *marks;
    struct offsky_rule rule;
    double above;
    Py_ssize_t pass, first, last;
    if (!PyArg_ParseTuple(args, "(OOOOOOO)OOOOO!dnnnO:grow", &kinds[0], &kinds[1], &kinds[2],
                          &kinds[3], &kinds[4], &kinds[5], &kinds[6], &flip, &offsets, &scales,
                          &depths, &PyTuple_Type, &rule_tuple, &above, &pass, &first, &last,
                          &marks) ||
        take_rule(rule_tuple, &rule))
        return NULL;
    PyObject *sci = PySequence_GetItem(kinds[0], 0);
    if (!sci)
        return NULL;
    const Py_ssize_t n_pixels = PyObject_Size(sci);
    Py_DECREF(sci);
    if (n_pixels < 0)
        return NULL;

    struct call c = {0};
    PyObject *answer = NULL;
    void *scratch = NULL;
    if (take_stack(&c, kinds, n_pixels) || take_flips(&c, flip) ||
        take_adjustments(&c, offsets, scales) ||
        take_numbers(depths, "depths", 2 * c.sci.count, sizeof(double), &c.depths) ||
        take_marks(&c, marks))
        goto done;
    c.stack.depths = c.depths.buf;
    if (check_marked_rows(&c, first, last))
        goto done;
    if (!c.stack.err || pass < 1 || pass > (Py_ssize_t)c.marks.n_passes) {
        PyErr_SetString(PyExc_ValueError, "ERR, and a pass of the marks are expected");
        goto done;
    }
    scratch = new_scratch(offsky_grow_bytes(&c.stack, &c.marks));
    if (!scratch)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    offsky_grow(&c.stack, &rule, above, (size_t)pass, (size_t)first, (size_t)last, &c.marks,
                scratch);
    Py_END_ALLOW_THREADS
    answer = Py_NewRef(Py_None);
done:
    free(scratch);
    release_call(&c);
    return answer;
}

/* Rows of one kind of a target: planes of `n_pixels`, each contiguous, at even distances;
 * `n_planes` of them, or any number where that is negative. */
static int
take_image(PyObject *object, const char *what, enum offsky_kind kind, Py_ssize_t n_pixels,
           int flags, Py_buffer *view, struct offsky_image *image, Py_ssize_t *n_planes)
{
    struct offsky_plane plane;
    if (object == Py_None)
        return 0;
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT | flags) ||
        describe(view, what, &plane))
        return -1;
    if ((plane.kind == OFFSKY_F64 ? OFFSKY_F32 : plane.kind) != kind) {
        PyErr_Format(PyExc_TypeError, "%s: samples of the wrong kind", what);
        return -1;
    }
    const Py_ssize_t items = view->len / view->itemsize;
    const Py_ssize_t count = n_pixels ? items / n_pixels : 0;
    if (count * n_pixels != items || (*n_planes >= 0 && count != *n_planes)) {
        PyErr_Format(PyExc_ValueError, "%s: %zd pixels are no planes of %zd", what, items,
                     n_pixels);
        return -1;
    }
    /* How many bytes from the first on follow each other. */
    Py_ssize_t run = view->itemsize;
    int d = view->ndim - 1;
    for (; d >= 0 && (view->shape[d] == 1 || view->strides[d] == run); d--)
        run *= view->shape[d];
    Py_ssize_t stride = n_pixels;
    if (run != view->len) {
        if (d != 0 || run != n_pixels * view->itemsize || view->strides[0] % view->itemsize) {
            PyErr_Format(PyExc_ValueError, "%s: planes are not contiguous", what);
            return -1;
        }
        stride = view->strides[0] / view->itemsize;
    }
    *n_planes = count;
    *image = (struct offsky_image){view->buf, plane.kind, plane.swap, stride};
    return 0;
}

enum { N_IMAGES = OFFSKY_N_REALS + 1 };

/* The images of a target, in the order of offsky.kernel.contract.TargetRows. */
static int
take_rows(PyObject *const images[N_IMAGES], Py_ssize_t n_pixels, int flags,
          Py_buffer views[N_IMAGES], struct offsky_rows *rows, Py_ssize_t *n_planes)
{
    struct offsky_image *const places[N_IMAGES] = {
        &rows->reals[OFFSKY_SCI],         &rows->dq,
        &rows->reals[OFFSKY_ERR],         &rows->reals[OFFSKY_VAR_POISSON],
        &rows->reals[OFFSKY_VAR_RNOISE],  &rows->reals[OFFSKY_VAR_FLAT],
    };
    static const char *const names[N_IMAGES] = {"SCI",         "DQ",         "ERR",
                                                "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"};
    for (int i = 0; i < N_IMAGES; i++) {
        if (i < 2 && images[i] == Py_None) {
            PyErr_SetString(PyExc_TypeError, "SCI and DQ are expected");
            return -1;
        }
        if (take_image(images[i], names[i], i == 1 ? OFFSKY_U32 : OFFSKY_F32, n_pixels, flags,
                       &views[i], places[i], n_planes))
            return -1;
    }
    return 0;
}

/* Whether the results have room for all that there is, of the same types. */
static int
check_room(const struct offsky_rows *target, const struct offsky_rows *out)
{
    for (int i = 0; i < N_IMAGES; i++) {
        const struct offsky_image *from = i < OFFSKY_N_REALS ? &target->reals[i] : &target->dq;
        const struct offsky_image *to = i < OFFSKY_N_REALS ? &out->reals[i] : &out->dq;
        if (from->pixels && (!to->pixels || from->kind != to->kind || from->swap != to->swap)) {
            PyErr_SetString(PyExc_TypeError, "results of the target's own types are expected");
            return -1;
        }
    }
    return 0;
}

/* Rows of an average, in the order of offsky.kernel.contract.AverageRows. */
static int
take_average(PyObject *const parts[6], Py_ssize_t n_pixels, int propagate, Py_buffer views[6],
             struct offsky_average_rows *average)
{
    static const char *const names[4] = {"sci", "err", "var_poisson", "var_rnoise"};
    struct offsky_plane dq = {0};
    struct offsky_plane *const planes[4] = {&average->sci, &average->err, &average->variances[0],
                                            &average->variances[1]};
    static const int at[4] = {0, 3, 4, 5};
    for (int i = 0; i < 4; i++) {
        if (parts[at[i]] == Py_None)
            continue;
        if (take_array(parts[at[i]], names[i], OFFSKY_F32, n_pixels, 0, &views[at[i]], planes[i]))
            return -1;
        if (planes[i]->swap) {
            PyErr_SetString(PyExc_TypeError, "an average in our byte order is expected");
            return -1;
        }
    }
    if (take_numbers(parts[1], "n_kept", n_pixels, sizeof(uint16_t), &views[1]) ||
        (parts[2] != Py_None &&
         take_array(parts[2], "dq", OFFSKY_U32, n_pixels, 0, &views[2], &dq)))
        return -1;
    if (!views[0].obj || !views[1].obj || dq.swap || (propagate && !views[3].obj)) {
        PyErr_SetString(PyExc_TypeError, "sci, n_kept, and to propagate errors err are expected");
        return -1;
    }
    average->n_kept = views[1].buf;
    average->dq = dq.pixels;
    return 0;
}

PyDoc_STRVAR(subtract_doc,
"subtract(target, average, propagate, blank, out)\n"
"--\n\n"
"Subtract an average from rows of a target; returns (n_err_unknown, n_no_value).\n"
"The tuples are those of offsky.kernel.contract.");

static PyObject *
py_subtract(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *images[N_IMAGES], *results[N_IMAGES], *parts[6], *answer = NULL;
    struct offsky_subtraction how;
    unsigned int flip, out_flip;
    if (!PyArg_ParseTuple(args, "(OOIOOOO)(OOOOOO)pp(OOIOOOO):subtract", &images[0], &images[1],
                          &flip, &images[2], &images[3], &images[4], &images[5], &parts[0],
                          &parts[1], &parts[2], &parts[3], &parts[4], &parts[5], &how.propagate,
                          &how.blank, &results[0], &results[1], &out_flip, &results[2],
                          &results[3], &results[4], &results[5]))
        return NULL;
    how.flip = flip;
    Py_buffer target_views[N_IMAGES] = {{0}}, out_views[N_IMAGES] = {{0}}, views[6] = {{0}};
    struct offsky_rows target = {0}, out = {0};
    struct offsky_average_rows average = {0};
    Py_ssize_t n_planes = -1;
    if (PyObject_GetBuffer(parts[1], &views[1], PyBUF_C_CONTIGUOUS))
        goto done;
    const Py_ssize_t n_pixels = views[1].itemsize ? views[1].len / views[1].itemsize : 0;
    PyBuffer_Release(&views[1]);
    memset(&views[1], 0, sizeof views[1]);
    if (take_average(parts, n_pixels, how.propagate, views, &average) ||
        take_rows(images, n_pixels, 0, target_views, &target, &n_planes) ||
        take_rows(results, n_pixels, PyBUF_WRITABLE, out_views, &out, &n_planes) ||
        check_room(&target, &out))
        goto done;
    struct offsky_left left;
    Py_BEGIN_ALLOW_THREADS
    left = offsky_subtract(&target, &average, &how, (size_t)n_planes, (size_t)n_pixels, &out);
    Py_END_ALLOW_THREADS
    answer = Py_BuildValue("(LL)", (long long)left.n_err_unknown, (long long)left.n_no_value);
done:
    for (size_t i = 0; i < N_IMAGES; i++) {
        if (target_views[i].obj)
            PyBuffer_Release(&target_views[i]);
        if (out_views[i].obj)
            PyBuffer_Release(&out_views[i]);
    }
    for (size_t i = 0; i < 6; i++)
        if (views[i].obj)
            PyBuffer_Release(&views[i]);
    return answer;
}

static PyMethodDef methods[] = {
    {"grow", py_grow, METH_VARARGS, grow_doc},
    {"amend", py_amend, METH_VARARGS, amend_doc},
    {"average", py_average, METH_VARARGS, average_doc},
    {"subtract", py_subtract, METH_VARARGS, subtract_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_c", "Averages of exposures, and their subtraction, in C.", 0,
    methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__c(void)
{
    PyObject *made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    /* There is no state here: a call works on its arguments, of which it holds references. */
    if (made)
        PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
