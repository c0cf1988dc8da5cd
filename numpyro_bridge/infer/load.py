"""Read a posterior from a file."""

import os
from collections.abc import Callable
from typing import Any

from numpyro_bridge._core.checks import check_function
from numpyro_bridge._core.doors import check_unforked
from numpyro_bridge._core.writing import file_path
from numpyro_bridge.infer.check_model import check_model
from numpyro_bridge.infer.posterior import Posterior
from numpyro_bridge.infer.posterior_files import MapMaker, ProcessMaker, read_posterior
from numpyro_bridge.target import Target


def load(
    path: str | os.PathLike[str],
    model: Callable[..., Any] | Target,
    /,
    *args: Any,
    process: ProcessMaker | None = None,
    coordinate_map: MapMaker | None = None,
    **kwargs: Any,
) -> Posterior[Any]:
    """Read a posterior that `Posterior.save` wrote, into the precision that JAX works in now.

    >>> posterior.save("seeds.bridge")
    >>> posterior = nb.load("seeds.bridge", model)

    Args:
        path: The file.
        model: The NumPyro model, or the target, that the bridge was trained on.
        *args: Positional arguments of the model. They are needed only if the file could not hold
            them, because one was neither an array, a number or a string nor a container of these.
            If given, they replace those in the file.
        process: The constructor from `(rng_key, dim)` that was passed to the sampler, such as
            `partial(MySampler, num_steps=8)`. It is needed only if the process, or a part of it
            such as its control, is of a class outside this package. A file never says what code to
            import: the constructor supplies the classes, and the file the arrays.
        coordinate_map: A function from `dim` to a map of the saved class, needed only if the map
            that standardises is of a class outside this package.
        **kwargs: Keyword arguments of the model, needed where `args` are.

    Raises:
        ValueError: if the file is of another kind, or the model is not the one that was trained on
            (the densities are compared at four points), or `process` is missing or makes something
            else than the file holds.
    """
    check_unforked("nb.load")
    file_path("path", path)
    check_model(model, "BridgeSampler")
    for name, maker in {"process": process, "coordinate_map": coordinate_map}.items():
        if maker is not None:
            check_function(name, maker, "nb.CMCD" if name == "process" else "a class of maps")
    return Posterior(*read_posterior(path, model, args, kwargs, process, coordinate_map))
