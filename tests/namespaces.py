"""Where a user finds what is public."""

import numpyro_bridge as nb

NAMESPACES = (
    nb,
    nb.target,
    nb.atlas,
    nb.processes,
    nb.trajectories,
    nb.objectives,
    nb.diffusion,
    nb.training,
    nb.draws,
    nb.draws.plots,
    nb.infer,
    nb.compare,
)
"""The package, and its folders with names of their own."""
