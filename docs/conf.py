"""Sphinx's settings for the site: ``make site`` builds it in build/site, and warnings are errors.

Every page of docs/ is picked up by itself, and so is every module of MODULES that can be imported
here: without PyTorch, say, the site has no page of fastinit.torch. Formulas become MathML, which
browsers draw without a script.
"""

import importlib
import os
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

os.environ.setdefault("KERAS_BACKEND", "numpy")  # which any machine has

import make_notebook  # noqa: E402

import fastinit  # noqa: E402

MODULES = {
    "fastinit": "The names at the top",
    "fastinit.torch": "PyTorch",
    "fastinit.jax": "JAX and Flax",
    "fastinit.keras": "Keras",
    "fastinit.dask": "Dask",
    "fastinit.numba": "Numba",
    "fastinit.checkpoint": "Checkpoints",
    "fastinit.recipe": "Recipes",
    "fastinit.diagnostics": "Will it train",
    "fastinit.benchmark": "Benchmarks",
}

project = "fastinit"
author = "The developers of fastinit"
release = version = fastinit.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_static_path = ["pictures"]
html_theme = "furo"
html_title = f"fastinit {release}"
html_show_sourcelink = False
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
default_role = "literal"


def visit_math(translator, node) -> None:
    """Write a formula in the text."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_display_math(translator, node) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(f"<div>{convert(node.astext(), display='block')}</div>")
    raise nodes.SkipNode


def as_pages(_app, docname: str, source: list[str]) -> None:
    """Begin the first page with README.md; write links out of docs/ as plain names."""
    if docname == "index":
        text = (ROOT / "README.md").read_text("utf-8") + source[0]
        text = text.replace("docs/pictures/", "_static/").replace("](docs/", "](")
        source[0] = re.sub(r"\[([^\]]+)\]\([A-Z]+\.md\)", r"\1", text)
    if docname.startswith("guide"):  # the notebook is no page: a link that Sphinx leaves alone
        link = '<p><a href="guide.ipynb">Jupyter notebook</a></p>'
        title, _, rest = source[0].partition("\n")
        source[0] = f"{title}\n\n{link}\n{rest}"
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", source[0])


def write_api_pages(app) -> None:
    """Write a page for each module that can be imported."""
    directory = Path(app.srcdir) / "api"
    directory.mkdir(exist_ok=True)
    written = []
    for name, title in MODULES.items():
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        members = ", ".join(public(module))
        heading = f"{name}: {title}"
        text = (
            f"{heading}\n{'=' * len(heading)}\n\n.. automodule:: {name}\n   :members: {members}\n"
        )
        (directory / f"{name}.rst").write_text(text)
        written.append(name)
    index = ["Python API", "==========", "", ".. toctree::", "   :maxdepth: 1", ""]
    (directory / "index.rst").write_text("\n".join([*index, *(f"   {n}" for n in written), ""]))


def public(module) -> list[str]:
    """Return the names that a module offers and that are ours."""
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    return [
        name
        for name in dict.fromkeys(names)
        if (getattr(getattr(module, name), "__module__", None) or "").startswith("fastinit")
    ]


def as_markup(_app, _what: str, _name: str, _object, _options, lines: list[str]) -> None:
    """Keep what is plain text in a docstring, such as normal_ and |z|, from being markup."""
    for i, line in enumerate(lines):
        if set(line.strip()) <= {"=", " ", "-"} or line.lstrip().startswith((">>>", "...")):
            continue
        pieces = line.split("`")
        pieces[::2] = [
            re.sub(r"\|(\w+)\|", r"\|\1\|", re.sub(r"(\w)_(?!\w)", r"\1\_", piece))
            for piece in pieces[::2]
        ]
        lines[i] = "`".join(pieces)


def add_notebook(app, error: Exception | None) -> None:
    """Put the guide as a notebook beside its page."""
    if error is None:
        make_notebook.write(Path(app.outdir) / "guide.ipynb")


def setup(app) -> None:
    """Connect the above."""
    app.connect("build-finished", add_notebook)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_display_math, None))
    app.connect("builder-inited", write_api_pages)
    app.connect("source-read", as_pages)
    app.connect("autodoc-process-docstring", as_markup, priority=400)  # before napoleon
