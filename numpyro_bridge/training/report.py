"""RunReport: how a result was made, and what that cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

from numpyro_bridge.training.training import Stop, Training

Attributes = dict[str, str | int | float]
"""Strings and numbers by name, which is what files and ArviZ objects can hold."""

Plain = TypeVar("Plain", str, int, float, Stop)


class Round(NamedTuple):
    """The outcome of one round of learning from the log joint alone, on one chart.

    >>> first = nb.training.Round(ess=0.31, log_evidence=-14.2, pareto_k=0.6, seconds=5.0)
    >>> last = nb.training.Round(ess=0.84, log_evidence=-13.9, pareto_k=0.2, seconds=8.0)
    >>> report = nb.training.RunReport("DenoisingProcess", rounds=(first, last))
    >>> [one.ess for one in report.rounds]
    [0.31, 0.84]
    """

    ess: float
    log_evidence: float
    pareto_k: float
    seconds: float
    chart: int = 0
    """The number of the chart; zero where there is a single one."""


def what_is_known(record: Any) -> str:
    """The representation of a dataclass without the fields of which nothing is known."""
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    known = ", ".join(f"{name}={value!r}" for name, value in values if value not in (None, ()))
    return f"{type(record).__name__}({known})"


@dataclass(frozen=True, repr=False)
class Seconds:
    """Seconds that the stages of a run took; None for a stage that did not happen or was not timed.

    >>> posterior.report.seconds.train
    4.0

    Attributes:
        standardise: Choosing the map, and annealed moves that need no training; compilation
            included.
        particles: Finding particles to learn from, compilation included.
        simulate: Simulating from the model, compilation included.
        compile: Compiling the training.
        train: Training, compilation excluded.
        draw: Drawing, compilation included.
    """

    standardise: float | None = None
    particles: float | None = None
    simulate: float | None = None
    compile: float | None = None
    train: float | None = None
    draw: float | None = None

    def __repr__(self) -> str:
        return what_is_known(self)


@dataclass(frozen=True, repr=False)
class RunReport:
    """How a posterior and its draws were made; None for what is not known or did not happen.

    >>> posterior.report.objective, posterior.report.num_iterations
    ('reverse_kl_ld', 50)

    Attributes:
        process: The class of the process.
        objective: The name of the loss.
        weighting: The name of the weighting of noise levels, if a denoiser was trained.
        stopped: Why the training ended.
        num_iterations: Iterations of all trainings together.
        num_skipped_updates: Updates that were skipped because they were not finite.
        num_gradient_evaluations: Gradients of the log density that were evaluated so far. The
            report of a posterior does not count drawing; the report of its draws does.
        seconds: What each stage took.
        num_temperatures: Temperatures that the particles went through.
        rounds: The rounds of learning from the log joint alone, in order, chart after chart.
        num_simulations: Simulations that were learned from.
        num_left_out: Simulations that were left out, because a number, a density or a gradient was
            not finite.
        num_processes: Processes that did the run together; None where one did it alone.
    """

    process: str | None = None
    objective: str | None = None
    weighting: str | None = None
    stopped: Stop | None = None
    num_iterations: int | None = None
    num_skipped_updates: int | None = None
    num_gradient_evaluations: int | None = None
    seconds: Seconds = Seconds()
    num_temperatures: int | None = None
    rounds: tuple[Round, ...] = ()
    num_simulations: int | None = None
    num_left_out: int | None = None
    num_processes: int | None = None

    def __repr__(self) -> str:
        return what_is_known(self)

    def after(self, *trainings: Training[Any]) -> "RunReport":
        """Add one training to the report, or several that followed each other.

        Of several reasons to stop the most serious is kept.
        """
        seconds = replace(
            self.seconds,
            compile=sum(training.compile_time for training in trainings),
            train=sum(training.training_time for training in trainings),
        )
        return replace(
            self,
            stopped=max((training.stopped for training in trainings), key=list(Stop).index),
            num_iterations=sum(training.num_iterations for training in trainings),
            num_skipped_updates=sum(training.num_skipped for training in trainings),
            seconds=seconds,
        )

    def drawn(self, seconds: float, num_gradient_evaluations: int) -> "RunReport":
        """Add the drawing to the report."""
        return replace(
            self,
            num_gradient_evaluations=(self.num_gradient_evaluations or 0)
            + num_gradient_evaluations,
            seconds=replace(self.seconds, draw=seconds),
        )

    def attributes(self) -> Attributes:
        """Everything that is known, as one flat dictionary for files and ArviZ objects."""
        named = {
            "process": self.process,
            "objective": self.objective,
            "weighting": self.weighting,
            "stopped": None if self.stopped is None else self.stopped.value,
            "num_iterations": self.num_iterations,
            "num_skipped_updates": self.num_skipped_updates,
            "standardise_time": self.seconds.standardise,
            "particles_time": self.seconds.particles,
            "simulation_time": self.seconds.simulate,
            "compile_time": self.seconds.compile,
            "training_time": self.seconds.train,
            "sampling_time": self.seconds.draw,
            "num_gradient_evaluations": self.num_gradient_evaluations,
            "num_temperatures": self.num_temperatures,
            "num_rounds": len(self.rounds) or None,
            "num_simulations": self.num_simulations,
            "num_left_out": self.num_left_out,
            "num_processes": self.num_processes,
            **dict(_attributes_of_rounds(self.rounds)),
        }
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "RunReport":
        """Read the report back from its `attributes`; others may stand beside them."""

        def read(kind: type[Plain], name: str) -> Plain | None:
            # A file may return a number as one of NumPy's types.
            return kind(attributes[name]) if name in attributes else None

        rounds = range(1, 1 + (read(int, "num_rounds") or 0))
        return cls(
            process=read(str, "process"),
            objective=read(str, "objective"),
            weighting=read(str, "weighting"),
            stopped=read(Stop, "stopped"),
            num_iterations=read(int, "num_iterations"),
            num_skipped_updates=read(int, "num_skipped_updates"),
            num_gradient_evaluations=read(int, "num_gradient_evaluations"),
            seconds=Seconds(
                standardise=read(float, "standardise_time"),
                particles=read(float, "particles_time"),
                simulate=read(float, "simulation_time"),
                compile=read(float, "compile_time"),
                train=read(float, "training_time"),
                draw=read(float, "sampling_time"),
            ),
            num_temperatures=read(int, "num_temperatures"),
            rounds=tuple(_round_of_attributes(attributes, number) for number in rounds),
            num_simulations=read(int, "num_simulations"),
            num_left_out=read(int, "num_left_out"),
            num_processes=read(int, "num_processes"),
        )


def _attributes_of_rounds(rounds: tuple[Round, ...]) -> Iterator[tuple[str, float]]:
    for number, one in enumerate(rounds, start=1):
        for name, value in one._asdict().items():
            yield f"round_{number}_{name}", value


def _round_of_attributes(attributes: Mapping[str, Any], number: int) -> Round:
    *figures, chart = (float(attributes[f"round_{number}_{name}"]) for name in Round._fields)
    return Round(*figures, chart=int(chart))
