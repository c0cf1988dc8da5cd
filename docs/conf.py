"""Sphinx configuration; `make docs` builds the pages and treats every warning as an error."""

import os
import re
import shutil
import textwrap
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from myst_nb.core.read import is_myst_markdown_notebook
from sphinx.util.typing import stringify_annotation

from numpyro_bridge._core.types import RNGKey

# Pages are run while the documentation is built: on the CPU, without progress bars in the output.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CI", "true")
# Most of a page's seconds go into compiling: code that is compiled sooner is fast enough here.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if installed_version("jaxlib").startswith("0.10."):
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    quick += " --xla_cpu_opt_preset=FAST_COMPILE"
    os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}"

project = "numpyro-bridge"
author = "The numpyro-bridge authors"
copyright = "The numpyro-bridge authors"
version = release = installed_version("numpyro-bridge")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",  # formulas are shown where there is no network, too
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

# Markdown pages; those that start as notebooks are run at each build, so that none goes stale.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # where `run_pages` leaves what it has run
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
nb_merge_streams = True  # what a cell prints is one block

# Members are listed in the order in which the sources have them.
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"numpyro-bridge {release}"

# Prompts and outputs are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = False

# Where pages of several versions are published, their list has an address: a file such as
# [{"version": "0.1.0", "url": "/0.1.0/"}].
html_context = {"versions_url": os.environ.get("DOCS_VERSIONS_URL", "")}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "versions.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}


def run_pages(app):
    """Run all notebooks, as many at a time as there are cores, before Sphinx reads one by one.

    A page that fails is run again when Sphinx reads it, which then stops with its error.
    """
    place = Path(app.outdir).parent / ".jupyter_cache"
    shutil.rmtree(place, ignore_errors=True)  # what an older state of the package gave
    cache = get_cache(place)
    notebooks = [page for page in Path(app.srcdir).rglob("*.md") if is_notebook(page)]
    for page in sorted(notebooks, key=lambda page: page.parent.name != "tutorials"):
        cache.add_nb_to_project(str(page), read_data={"name": "myst_nb_md", "type": "plugin"})
    executor = load_executor("temp-parallel", cache)
    executor.run_and_cache(timeout=nb_execution_timeout)


def is_notebook(page):
    """Whether a page of Markdown starts as a notebook."""
    return is_myst_markdown_notebook(page.read_text())


def shorten_annotations(app, what, name, obj, options, signature, returns):
    """Write types as the sources do: `RNGKey` and `Array`, not what they stand for."""
    written_out = {stringify_annotation(RNGKey, "smart"): "RNGKey", "jaxlib._jax.Array": "Array"}
    for long, short in written_out.items():
        signature = signature and signature.replace(long, short)
        returns = returns and returns.replace(long, short)
    # Sphinx can read a default such as `ScoreInformedControl`, and not `<class '...'>`.
    default = r"<(?:class|function) '?(?:\w+\.)*(\w+)'?>"
    return signature and re.sub(default, r"\1", signature), returns


def shorten_attributes(app, doctree):
    """Write the types of attributes, which pass no such event, in the same way."""
    for text in list(doctree.findall(nodes.Text)):
        if "jaxlib._jax.Array" in text:
            text.parent.replace(text, nodes.Text(text.replace("jaxlib._jax.Array", "Array")))


def write_mathematics(app, what, name, obj, options, lines):
    """Docstrings write mathematics between dollars, as Markdown does; here it becomes Sphinx's."""

    def display(match):
        formula = textwrap.indent(textwrap.dedent(match[2]).strip(), match[1] + "   ")
        return f"{match[1]}.. math::\n\n{formula}\n"

    text = re.sub(r"^( *)\$\$(.+?)\$\$$", display, "\n".join(lines), flags=re.M | re.S)
    lines[:] = re.sub(r"\$([^$]+)\$", r":math:`\1`", text).split("\n")


def setup(app):
    """Sphinx calls this once, before it reads any page."""
    app.connect("builder-inited", run_pages)
    app.connect("autodoc-process-docstring", write_mathematics)
    app.connect("autodoc-process-signature", shorten_annotations)
    app.connect("doctree-read", shorten_attributes)
