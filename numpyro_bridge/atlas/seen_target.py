"""A target as samplers see it, taken apart into the target itself and the view of it, and back."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge.atlas.charted_target import ChartedTarget
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.partition import AbstractPartition
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target

SeenTarget = StandardisedTarget | ChartedTarget
"""A target as samplers see it: on one chart, or on several."""


class Charts(NamedTuple):
    """Several charts, without the target that they show.

    >>> target = bimodal.target
    >>> charts = nb.atlas.Charts(target.maps, target.partition, target.log_share)
    """

    maps: AbstractMap
    """From the coordinates of each chart to those of the target; stacked."""
    partition: AbstractPartition
    """Says how far each chart is responsible for a position."""
    log_share: Float[Array, " rows"]
    """Log of the share of the draws that each chart makes; minus infinity for no chart."""


View = AbstractMap | Charts
"""How a target is seen: through one map, or on several charts."""


def view_of(target: SeenTarget) -> View:
    """The view of a target, without the target."""
    if isinstance(target, StandardisedTarget):
        return target.map
    return Charts(target.maps, target.partition, target.log_share)


def seen_through(base: Target, view: View) -> SeenTarget:
    """The target in its own coordinates, seen through a view: what `view_of` took apart."""
    if isinstance(view, Charts):
        return ChartedTarget(base, *view)
    return StandardisedTarget(base, view)


def pieces_of(target: SeenTarget) -> list[StandardisedTarget]:
    """The target on each of its charts."""
    if isinstance(target, StandardisedTarget):
        return [target]
    return [target.chart(on_device(number)) for number in range(target.num_charts)]


def first_map(view: View) -> AbstractMap:
    """The map of a view, or that of its first chart."""
    return row(view.maps, 0) if isinstance(view, Charts) else view


def without_padding(view: View) -> View:
    """The view without the rows that stand for no chart, so that every number in it is finite.

    A program that is compiled for the charts' processes is one for their number in any case.
    """
    if not isinstance(view, Charts):
        return view
    return row(view, slice(int(np.sum(np.isfinite(np.asarray(view.log_share))))))
