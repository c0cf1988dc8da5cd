"""Products of matrices in full precision, also on accelerators.

In single precision JAX multiplies matrices on NVIDIA GPUs in a format of 10 bits, and on TPUs of 7,
unless it is told otherwise. Networks do not mind. Log densities do: on the log-Gaussian Cox process
of 1,600 dimensions the log evidence was off by 0.16 on an H200, with a stated error of 0.02
(`benchmarks/gpu.md`), and is not on a CPU, where the setting changes nothing.
"""

import os

import jax

SETTING = "jax_default_matmul_precision"


def use_full_precision() -> None:
    """Ask for full precision, unless somebody has asked for another."""
    if getattr(jax.config, SETTING) is None and SETTING.upper() not in os.environ:
        jax.config.update(SETTING, "float32")


use_full_precision()
