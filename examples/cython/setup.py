"""Build with: python setup.py build_ext --inplace."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastinit

layers = Extension("layers", ["layers.pyx"], include_dirs=[fastinit.get_include()])
setup(name="layers", ext_modules=cythonize([layers]))
