/* Python's door to clip_mean.h, average.h and subtract.h: turns buffers into planes, takes
 * the scratch memory, then lets go of the interpreter lock for the whole computation.
 *
 * Uses the limited API and the buffer protocol only: no NumPy headers, one
 * binary for every Python version from 3.11.
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API /* the build defines it */
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "average.h"
#include "clip_mean.h"
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

/* Everything that a call of either function holds on to. */
struct call {
    struct planes sci, err, dq, variances[2], covers;
    Py_buffer flips, weights, factors;
    Py_buffer out_sci, out_err, out_dq, out_n, rejected, out_variances[2];
    Py_ssize_t n_pixels;
    int64_t n_err_estimated;
    struct offsky_stack stack;
    struct offsky_result result;
};

static void
release_call(struct call *c)
{
    struct planes *planes[] = {&c->sci, &c->err,           &c->dq,
                               &c->variances[0], &c->variances[1], &c->covers};
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++)
        release(planes[i]);
    Py_buffer *views[] = {&c->flips,   &c->weights, &c->factors, &c->out_sci,
                          &c->out_err, &c->out_dq,  &c->out_n,   &c->rejected,
                          &c->out_variances[0], &c->out_variances[1]};
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        if (views[i]->obj)
            PyBuffer_Release(views[i]);
}

/* The number of pixels, from the output that every call has, and the samples. */
static int
take_samples(struct call *c, PyObject *n_kept, PyObject *sci, PyObject *err, PyObject *dq)
{
    if (take_output(n_kept, "n_kept", PyObject_Size(n_kept), 2, 0, &c->out_n))
        return -1;
    c->n_pixels = c->out_n.len / 2;
    if (take_planes(sci, "SCI", OFFSKY_F32, c->n_pixels, &c->sci) ||
        take_planes(err, "ERR", OFFSKY_F32, c->n_pixels, &c->err) ||
        take_planes(dq, "DQ", OFFSKY_U32, c->n_pixels, &c->dq))
        return -1;
    if (c->sci.count < 1 || c->sci.count > 65535) {
        PyErr_SetString(PyExc_ValueError, "1 to 65535 planes of SCI are expected");
        return -1;
    }
    for (Py_ssize_t i = 0; i < c->sci.count; i++)
        if (!c->sci.planes[i].pixels && c->n_pixels) {
            PyErr_SetString(PyExc_ValueError, "every exposure needs SCI");
            return -1;
        }
    const struct planes *others[] = {&c->err, &c->dq, &c->variances[0], &c->variances[1],
                                     &c->covers};
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        if (others[k]->count && others[k]->count != c->sci.count) {
            PyErr_SetString(PyExc_ValueError, "one plane an exposure is expected of every kind");
            return -1;
        }
    c->stack = (struct offsky_stack){(size_t)c->sci.count, c->sci.planes, c->err.planes,
                                     c->dq.planes};
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

static int
take_results(struct call *c, PyObject *sci, PyObject *err, PyObject *dq, PyObject *rejected)
{
    if (take_output(sci, "sci", c->n_pixels, 0, 0, &c->out_sci) ||
        take_output(err, "err", c->n_pixels, c->out_sci.itemsize, 1, &c->out_err) ||
        take_output(dq, "dq", c->n_pixels, 4, 1, &c->out_dq) ||
        take_output(rejected, "n_rejected", c->sci.count, 8, 0, &c->rejected))
        return -1;
    c->result = (struct offsky_result){
        c->out_sci.itemsize == sizeof(double),
        c->out_sci.buf, c->out_err.buf, c->out_dq.buf, c->out_n.buf, c->rejected.buf,
        &c->n_err_estimated,
    };
    return 0;
}

/* Scratch for a call on pixels [first, last); NULL, with an error set, if there is none or
 * these are no such range. */
static void *
take_scratch(const struct call *c, Py_ssize_t first, Py_ssize_t last, size_t bytes)
{
    if (first < 0 || last < first || last > c->n_pixels) {
        PyErr_SetString(PyExc_ValueError, "first and last are not a range of pixels");
        return NULL;
    }
    void *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!scratch)
        PyErr_NoMemory();
    return scratch;
}

PyDoc_STRVAR(clip_mean_doc,
"clip_mean(sci, err, dq, dq_flip, sigma, maxiters, first, last,\n"
"          out_sci, out_err, out_dq, out_n_kept, n_rejected)\n"
"--\n\n"
"Average pixels [first, last) of a stack; returns how many ERR were estimated.");

static PyObject *
py_clip_mean(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *sci, *err, *dq, *flip, *out_sci, *out_err, *out_dq, *out_n, *rejected;
    struct offsky_clip clip;
    Py_ssize_t first, last;
    if (!PyArg_ParseTuple(args, "OOOOdlnnOOOOO:clip_mean", &sci, &err, &dq, &flip, &clip.sigma,
                          &clip.maxiters, &first, &last, &out_sci, &out_err, &out_dq, &out_n,
                          &rejected))
        return NULL;

    struct call c = {0};
    PyObject *answer = NULL;
    void *scratch = NULL;
    if (take_samples(&c, out_n, sci, err, dq) || take_flips(&c, flip) ||
        take_results(&c, out_sci, out_err, out_dq, rejected) ||
        !(scratch = take_scratch(&c, first, last, offsky_scratch_bytes(&c.stack))))
        goto done;
    Py_BEGIN_ALLOW_THREADS
    offsky_clip_mean(&c.stack, &clip, (size_t)first, (size_t)last, &c.result, scratch);
    Py_END_ALLOW_THREADS
    answer = PyLong_FromLongLong(c.n_err_estimated);
done:
    free(scratch);
    release_call(&c);
    return answer;
}

PyDoc_STRVAR(average_doc,
"average(planes, dq_flip, weights, median_factors, rule, first, last, out)\n"
"--\n\n"
"Average pixels [first, last) by any options; returns how many ERR were estimated.\n"
"The tuples are those of offsky.kernel.contract.");

static PyObject *
py_average(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *sci, *err, *dq, *variances[2], *covers, *flip, *weights, *factors;
    PyObject *out_sci, *out_err, *out_dq, *out_n, *rejected, *out_variances[2];
    struct offsky_rule rule;
    int method, flags;
    unsigned int bad_bits;
    Py_ssize_t first, last;
    if (!PyArg_ParseTuple(args, "(OOOOOO)OOO(iddlilliId)nn(OOOOOOO):average", &sci, &err, &dq,
                          &variances[0], &variances[1], &covers, &flip, &weights, &factors,
                          &method, &rule.lower, &rule.upper, &rule.maxiters, &rule.about_mean,
                          &rule.n_extremes, &rule.min_keep, &flags, &bad_bits,
                          &rule.bad_fraction, &first, &last, &out_sci, &out_err, &out_dq, &out_n,
                          &rejected, &out_variances[0], &out_variances[1]))
        return NULL;
    if (method < OFFSKY_NONE || method > OFFSKY_MINMAX || flags < OFFSKY_OR || flags > OFFSKY_ALL) {
        PyErr_SetString(PyExc_ValueError, "no such method or combination of flags");
        return NULL;
    }
    rule.method = (enum offsky_method)method;
    rule.flags = (enum offsky_flags)flags;
    rule.bad_bits = bad_bits;

    struct call c = {0};
    PyObject *answer = NULL;
    void *scratch = NULL;
    const Py_ssize_t n_pixels = PyObject_Size(out_n);
    if (n_pixels < 0 ||
        take_planes(variances[0], "VAR_POISSON", OFFSKY_F32, n_pixels, &c.variances[0]) ||
        take_planes(variances[1], "VAR_RNOISE", OFFSKY_F32, n_pixels, &c.variances[1]) ||
        take_planes(covers, "covers", OFFSKY_U8, n_pixels, &c.covers) ||
        take_samples(&c, out_n, sci, err, dq) || take_flips(&c, flip) ||
        take_numbers(weights, "weights", c.sci.count, sizeof(double), &c.weights) ||
        take_numbers(factors, "median_factors", c.sci.count + 1, sizeof(double), &c.factors) ||
        take_results(&c, out_sci, out_err, out_dq, rejected))
        goto done;
    for (int i = 0; i < 2; i++)
        if (take_output(out_variances[i], "variance", c.n_pixels, c.out_sci.itemsize, 1,
                        &c.out_variances[i]))
            goto done;
    const struct offsky_more more = {
        {c.variances[0].planes, c.variances[1].planes}, c.covers.planes, c.weights.buf,
        c.factors.buf,
    };
    void *const results[2] = {c.out_variances[0].buf, c.out_variances[1].buf};
    scratch = take_scratch(&c, first, last, offsky_average_bytes(&c.stack, &more));
    if (!scratch)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    offsky_average(&c.stack, &more, &rule, (size_t)first, (size_t)last, &c.result, results,
                   scratch);
    Py_END_ALLOW_THREADS
    answer = PyLong_FromLongLong(c.n_err_estimated);
done:
    free(scratch);
    release_call(&c);
    return answer;
}

PyDoc_STRVAR(subtract_doc,
"subtract(sci, dq, dq_flip, level, n_kept, flags, scale)\n"
"--\n\n"
"Subtract scale times an average, float32, from SCI, and OR its flags into DQ, in place.");

static PyObject *
py_subtract(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *sci, *dq, *level, *n_kept, *flags, *answer = NULL;
    unsigned int flip;
    double scale;
    if (!PyArg_ParseTuple(args, "OOIOOOd:subtract", &sci, &dq, &flip, &level, &n_kept, &flags,
                          &scale))
        return NULL;
    Py_buffer views[5] = {{0}};
    struct offsky_plane planes[5] = {{0}};
    if (take_array(sci, "SCI", OFFSKY_F32, -1, PyBUF_WRITABLE, &views[0], &planes[0]))
        goto done;
    const Py_ssize_t n_pixels = views[0].len / views[0].itemsize;
    if (take_array(dq, "DQ", OFFSKY_U32, n_pixels, PyBUF_WRITABLE, &views[1], &planes[1]) ||
        take_array(level, "level", OFFSKY_F32, n_pixels, 0, &views[2], &planes[2]) ||
        take_numbers(n_kept, "n_kept", n_pixels, sizeof(uint16_t), &views[3]) ||
        (flags != Py_None &&
         take_array(flags, "flags", OFFSKY_U32, n_pixels, 0, &views[4], &planes[4])))
        goto done;
    if (planes[2].kind != OFFSKY_F32 || planes[2].swap || planes[4].swap || !views[3].obj) {
        PyErr_SetString(PyExc_TypeError, "an average of float32 in our byte order is expected");
        goto done;
    }
    const struct offsky_target target = {
        views[0].buf, planes[0].kind == OFFSKY_F64, planes[0].swap, views[1].buf, planes[1].swap,
        flip,
    };
    const struct offsky_average_rows average = {views[2].buf, views[3].buf, views[4].buf};
    Py_BEGIN_ALLOW_THREADS
    offsky_subtract(&target, &average, scale, (size_t)n_pixels);
    Py_END_ALLOW_THREADS
    answer = Py_NewRef(Py_None);
done:
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        if (views[i].obj)
            PyBuffer_Release(&views[i]);
    return answer;
}

static PyMethodDef methods[] = {
    {"average", py_average, METH_VARARGS, average_doc},
    {"clip_mean", py_clip_mean, METH_VARARGS, clip_mean_doc},
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
    return PyModule_Create(&module);
}
