"""Sphinx configuration; `make docs` builds the pages and treats every warning as an error."""

import os
import re
import textwrap
from importlib.metadata import version as installed_version

from sphinx.util.typing import stringify_annotation

from numpyro_bridge._core.types import RNGKey

# Pages are run while the documentation is built: on the CPU, without progress bars in the output.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CI", "true")
# Most of a page's seconds go into compiling: code that is compiled sooner is fast enough here.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if installed_version("jaxlib").startswith("0.10."):
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
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
]
exclude_patterns = ["_build"]

# Markdown pages; a page that starts as a notebook is run at each build, so that none goes stale.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"

# Members are listed in the order in which the sources have them.
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"numpyro-bridge {release}"


def shorten_annotations(app, what, name, obj, options, signature, returns):
    """Write types as the sources do: `RNGKey` and `Array`, not what they stand for."""
    written_out = {stringify_annotation(RNGKey, "smart"): "RNGKey", "jaxlib._jax.Array": "Array"}
    for long, short in written_out.items():
        signature = signature and signature.replace(long, short)
        returns = returns and returns.replace(long, short)
    return signature, returns


def write_mathematics(app, what, name, obj, options, lines):
    """Docstrings write mathematics between dollars, as Markdown does; here it becomes Sphinx's."""

    def display(match):
        formula = textwrap.indent(textwrap.dedent(match[2]).strip(), match[1] + "   ")
        return f"{match[1]}.. math::\n\n{formula}\n"

    text = re.sub(r"^( *)\$\$(.+?)\$\$$", display, "\n".join(lines), flags=re.M | re.S)
    lines[:] = re.sub(r"\$([^$]+)\$", r":math:`\1`", text).split("\n")


def setup(app):
    """Sphinx calls this once, before it reads any page."""
    app.connect("autodoc-process-docstring", write_mathematics)
    app.connect("autodoc-process-signature", shorten_annotations)
