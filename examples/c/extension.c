/* An extension module in C that gets fastinit's kernels from the capsule, and needs no
 * linking: compile with -I of fastinit.get_include(). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "fastinit.h"

static const fi_table *fi;

/* fill(buffer, k0, k1): normals of standard deviation 0.02, in float32. */
static PyObject *fill(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer out;
    unsigned long long k0, k1;
    if (!PyArg_ParseTuple(args, "w*KK", &out, &k0, &k1))
        return NULL;
    const fi_key key = {k0, k1};
    const double mean_and_std[] = {0.0, 0.02};
    Py_BEGIN_ALLOW_THREADS
    fi->kernel[FI_NORMAL][FI_FLOAT32](out.buf, (size_t)out.len / sizeof(float), 0, key,
                                      mean_and_std);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&out);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"fill", fill, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "extension", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_extension(void)
{
    fi = PyCapsule_Import("fastinit._kernels._C_API", 0);
    if (fi == NULL)
        return NULL;
    if (fi->abi < FI_ABI)
        return PyErr_Format(PyExc_ImportError, "fastinit has ABI %u, this module needs %u",
                            (unsigned)fi->abi, (unsigned)FI_ABI);
    return PyModule_Create(&module);
}
