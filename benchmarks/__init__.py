"""Long studies, apart from the tests; `python -m benchmarks` lists them."""

import numpyro_bridge  # noqa: F401  # sets a flag of JAX, before any study imports BlackJAX
