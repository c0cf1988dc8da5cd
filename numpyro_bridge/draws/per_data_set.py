"""PerDataSet: a result for each of many data sets, or the error that stands in its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, overload

from numpyro_bridge._core.checks import check_instance, described

Result = TypeVar("Result")
Own = TypeVar("Own", bound="PerDataSet[Any]")


@dataclass(frozen=True, eq=False, repr=False)
class PerDataSet(Generic[Result]):
    """Results in the order of the data sets; to read one that failed raises its error."""

    results: tuple[Result | Exception, ...]

    _kind: ClassVar[Any]
    """What a result is an instance of; a subclass says it."""

    def __post_init__(self) -> None:
        if not isinstance(self.results, tuple):
            raise ValueError(f"results must be a tuple, got {described(self.results)}")
        for result in self.results:
            check_instance("results", result, (self._kind, Exception), f"a {self._kind.__name__}")

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self: Own, index: slice) -> Own: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(self.results[index])
        result = self.results[index]
        if isinstance(result, Exception):
            raise result
        return result

    def __iter__(self) -> Iterator[Result]:
        return (self[number] for number in range(len(self)))

    @property
    def errors(self) -> dict[int, Exception]:
        """The data sets without a result, by their numbers, and why."""
        return {n: r for n, r in enumerate(self.results) if isinstance(r, Exception)}

    @property
    def finished(self: Own) -> Own:
        """The data sets that have a result; where there are `errors`, they are numbered anew."""
        return type(self)(tuple(r for r in self.results if not isinstance(r, Exception)))
