"""Print how many arguments were tried, with what, and what came of it.

python -m tests.arguments
"""

import tests.conftest  # noqa: F401  (the settings of JAX that all tests run under)
from tests.arguments.tables import counts

if __name__ == "__main__":
    for name, number in counts()._asdict().items():
        print(f"{name.replace('_', ' '):10} {number:6,}")
