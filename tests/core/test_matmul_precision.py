"""Matrices are multiplied in full precision, unless somebody has asked for another."""

import jax
import pytest

from numpyro_bridge._core.matmul_precision import SETTING, use_full_precision


@pytest.mark.parametrize(
    "before, environment, after",
    [(None, None, "float32"), ("bfloat16", None, "bfloat16"), (None, "tensorfloat32", None)],
)
def test_full_precision_is_the_default(monkeypatch, before, environment, after):
    assert jax.config.jax_default_matmul_precision == "float32"  # by the import
    try:
        jax.config.update(SETTING, before)
        if environment is not None:
            monkeypatch.setenv(SETTING.upper(), environment)
        use_full_precision()
        assert jax.config.jax_default_matmul_precision == after
    finally:
        jax.config.update(SETTING, "float32")
