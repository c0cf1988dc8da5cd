"""One of the processes of `benchmarks.scale_works.processes`.

python -m benchmarks.scale_process PORT NUMBER_OF_PROCESSES NUMBER_OF_THIS
"""

import json
import resource
import sys

import jax

from benchmarks.scale_works import drawn_on


def main() -> None:
    """Draw together with the other processes, and print what was found and the memory it took."""
    port, num, number = sys.argv[1:]
    jax.distributed.initialize(f"127.0.0.1:{port}", int(num), int(number))
    found = drawn_on(jax.devices())
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e9
    print(json.dumps(found | {"gigabytes": gigabytes}))


if __name__ == "__main__":
    main()
