/* Python's door to clip_mean.h: turns buffers into planes, takes the scratch
 * memory, then lets go of the interpreter lock for the whole computation.
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

#include "clip_mean.h"

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

/* Fill `out` from a sequence of buffers (None in it: a plane that is not there;
 * None for it: nothing).  Each must have `n_pixels` items; `flag` tells whether
 * DQ or real numbers are expected. */
static int
take_planes(PyObject *sequence, const char *what, int dq, Py_ssize_t n_pixels, struct planes *out)
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
            PyObject_GetBuffer(item, &out->views[i], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT);
        Py_DECREF(item);
        if (failed || describe(&out->views[i], what, &out->planes[i]))
            return -1;
        if ((out->planes[i].kind == OFFSKY_U32) != dq) {
            PyErr_Format(PyExc_TypeError, "%s: samples of the wrong kind", what);
            return -1;
        }
        if (out->views[i].len / out->views[i].itemsize != n_pixels) {
            PyErr_Format(PyExc_ValueError, "%s: %zd pixels where %zd are expected", what,
                         out->views[i].len / out->views[i].itemsize, n_pixels);
            return -1;
        }
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

PyDoc_STRVAR(clip_mean_doc,
"clip_mean(sci, err, dq, dq_flip, sigma, maxiters, first, last,\n"
"          out_sci, out_err, out_dq, out_n_kept, n_rejected)\n"
"--\n\n"
"Average pixels [first, last) of a stack; returns how many ERR were estimated.");

static PyObject *
py_clip_mean(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *sci_arg, *err_arg, *dq_arg, *flip_arg;
    PyObject *out_sci_arg, *out_err_arg, *out_dq_arg, *out_n_arg, *rejected_arg;
    double sigma;
    long maxiters;
    Py_ssize_t first, last;
    if (!PyArg_ParseTuple(args, "OOOOdlnnOOOOO:clip_mean", &sci_arg, &err_arg, &dq_arg, &flip_arg,
                          &sigma, &maxiters, &first, &last, &out_sci_arg, &out_err_arg,
                          &out_dq_arg, &out_n_arg, &rejected_arg))
        return NULL;

    struct planes sci = {0}, err = {0}, dq = {0};
    Py_buffer out_sci = {0}, out_err = {0}, out_dq = {0}, out_n = {0}, rejected = {0};
    Py_buffer flips = {0};
    PyObject *answer = NULL;
    void *scratch = NULL;

    if (take_output(out_n_arg, "n_kept", PyObject_Size(out_n_arg), 2, 0, &out_n))
        goto done;
    const Py_ssize_t n_pixels = out_n.len / 2;
    if (take_planes(sci_arg, "SCI", 0, n_pixels, &sci) ||
        take_planes(err_arg, "ERR", 0, n_pixels, &err) ||
        take_planes(dq_arg, "DQ", 1, n_pixels, &dq))
        goto done;
    if (sci.count < 1 || sci.count > 65535 || (err.count && err.count != sci.count) ||
        (dq.count && dq.count != sci.count)) {
        PyErr_SetString(PyExc_ValueError, "SCI, ERR and DQ need one plane an exposure, 1 to 65535");
        goto done;
    }
    for (Py_ssize_t i = 0; i < sci.count; i++)
        if (!sci.planes[i].pixels && n_pixels) {
            PyErr_SetString(PyExc_ValueError, "every exposure needs SCI");
            goto done;
        }
    if (flip_arg != Py_None && dq.count) {
        if (PyObject_GetBuffer(flip_arg, &flips, PyBUF_C_CONTIGUOUS))
            goto done;
        if (flips.len != dq.count * (Py_ssize_t)sizeof(uint32_t)) {
            PyErr_SetString(PyExc_ValueError, "dq_flip needs one uint32 an exposure");
            goto done;
        }
        for (Py_ssize_t i = 0; i < dq.count; i++)
            dq.planes[i].flip = ((const uint32_t *)flips.buf)[i];
    }
    if (take_output(out_sci_arg, "sci", n_pixels, 0, 0, &out_sci) ||
        take_output(out_err_arg, "err", n_pixels, out_sci.itemsize, 1, &out_err) ||
        take_output(out_dq_arg, "dq", n_pixels, 4, 1, &out_dq) ||
        take_output(rejected_arg, "n_rejected", sci.count, 8, 0, &rejected))
        goto done;
    if (first < 0 || last < first || last > n_pixels) {
        PyErr_SetString(PyExc_ValueError, "first and last are not a range of pixels");
        goto done;
    }

    int64_t n_err_estimated = 0;
    const struct offsky_stack stack = {(size_t)sci.count, sci.planes, err.planes, dq.planes};
    const struct offsky_clip clip = {sigma, maxiters};
    const struct offsky_result result = {
        out_sci.itemsize == sizeof(double),
        out_sci.buf, out_err.buf, out_dq.buf, out_n.buf, rejected.buf, &n_err_estimated,
    };
    const size_t bytes = (offsky_scratch_bytes(&stack) + 63) / 64 * 64;
    scratch = aligned_alloc(64, bytes);
    if (!scratch) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    offsky_clip_mean(&stack, &clip, (size_t)first, (size_t)last, &result, scratch);
    Py_END_ALLOW_THREADS
    answer = PyLong_FromLongLong(n_err_estimated);

done:
    free(scratch);
    release(&sci);
    release(&err);
    release(&dq);
    Py_buffer *outputs[] = {&out_sci, &out_err, &out_dq, &out_n, &rejected, &flips};
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
        if (outputs[i]->obj)
            PyBuffer_Release(outputs[i]);
    return answer;
}

static PyMethodDef methods[] = {
    {"clip_mean", py_clip_mean, METH_VARARGS, clip_mean_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_clip_mean", "Sigma-clipped mean in C.", 0, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__clip_mean(void)
{
    return PyModule_Create(&module);
}
