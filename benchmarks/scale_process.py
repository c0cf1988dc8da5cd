"""One of the processes of `benchmarks.scale_works.processes`.

python -m benchmarks.scale_process PORT NUMBER_OF_PROCESSES NUMBER_OF_THIS
"""

import json
import sys

import jax

from benchmarks.scale import peak_gigabytes
from benchmarks.scale_works import drawn_on


def main() -> None:
    """Draw together with the other processes, and print what was found and the memory it took."""
    port, num, number = sys.argv[1:]
    jax.distributed.initialize(f"127.0.0.1:{port}", int(num), int(number))
    found = drawn_on(jax.devices())
    print(json.dumps(found | {"gigabytes": peak_gigabytes()}))


if __name__ == "__main__":
    main()
