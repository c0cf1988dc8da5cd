"""RunReport: how a result was made, and what it cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from numpyro_bridge.training.training import Stop, Training

Attributes = dict[str, str | int | float]
"""What files and ArviZ objects can hold: plain strings and numbers."""

Plain = TypeVar("Plain", str, int, float, Stop)


class Round(NamedTuple):
    """What one round of learning from the log joint gave."""

    ess: float
    log_evidence: float
    pareto_k: float
    seconds: float


@dataclass(frozen=True)
class Seconds:
    """What the stages of a run took; None where there was no such stage, or nobody timed it.

    Attributes:
        standardise: Choosing the map, with its compilation.
        particles: Finding particles to learn from, with its compilation.
        simulate: Simulating from the model, with its compilation.
        compile: Compiling the training.
        train: Training.
        draw: Drawing, with its compilation.
    """

    standardise: float | None = None
    particles: float | None = None
    simulate: float | None = None
    compile: float | None = None
    train: float | None = None
    draw: float | None = None


@dataclass(frozen=True)
class RunReport:
    """How a posterior and its draws were made; what is not known, or did not happen, is None.

    Attributes:
        process: The class of the process.
        objective: The loss.
        weighting: How the noise levels counted, where a denoiser was trained.
        stopped: Why the training ended.
        num_iterations: Iterations of all trainings.
        num_skipped_updates: Updates left out because they were not finite.
        num_gradient_evaluations: Of the log density, up to here: those of drawing are added in
            the report of the draws.
        seconds: What each stage took.
        num_temperatures: Temperatures that the particles went through.
        rounds: Of learning from the log joint alone, in turn.
        num_simulations: Simulations that were learned from.
        num_left_out: Those of them with a number, a density or a gradient that is not finite.
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

    def after(self, *trainings: Training) -> "RunReport":
        """The report with what one training or several in turn add to it."""
        seconds = replace(
            self.seconds,
            compile=sum(training.compile_time for training in trainings),
            train=sum(training.training_time for training in trainings),
        )
        return replace(
            self,
            stopped=trainings[-1].stopped,
            num_iterations=sum(training.num_iterations for training in trainings),
            num_skipped_updates=sum(training.num_skipped for training in trainings),
            seconds=seconds,
        )

    def drawn(self, seconds: float, num_gradient_evaluations: int) -> "RunReport":
        """The report with what drawing adds to it."""
        return replace(
            self,
            num_gradient_evaluations=(self.num_gradient_evaluations or 0)
            + num_gradient_evaluations,
            seconds=replace(self.seconds, draw=seconds),
        )

    def attributes(self) -> Attributes:
        """What is known, flat and by name, as files and ArviZ objects keep it."""
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
            **dict(_attributes_of_rounds(self.rounds)),
        }
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "RunReport":
        """Read what `attributes` wrote, among others or alone."""

        def read(kind: type[Plain], name: str) -> Plain | None:
            # A file may give a number of NumPy's back.
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
        )


def _attributes_of_rounds(rounds: tuple[Round, ...]) -> Iterator[tuple[str, float]]:
    for number, one in enumerate(rounds, start=1):
        for name, value in one._asdict().items():
            yield f"round_{number}_{name}", value


def _round_of_attributes(attributes: Mapping[str, Any], number: int) -> Round:
    return Round(*(float(attributes[f"round_{number}_{name}"]) for name in Round._fields))
