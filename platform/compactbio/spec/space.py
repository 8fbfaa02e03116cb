"""What a search may choose from: distributions of single values of a job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from compactbio.spec.base import Section

_MOST_PROBES = 64


class _Range(Section):
    """Numbers from `low` to `high`, both included."""

    @model_validator(mode="after")
    def _goes_up(self) -> _Range:
        low, high = self.bounds()
        if low >= high:
            raise ValueError(f"low {low:g} is not less than high {high:g}")
        return self

    def bounds(self) -> tuple[float, float]:
        """Low and high."""
        raise NotImplementedError

    def contains(self, value: JsonValue) -> bool:
        """Whether the value can be drawn."""
        low, high = self.bounds()
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    def probes(self) -> tuple[JsonValue, ...]:
        """Values to try a job with: where it takes these, it takes what lies between."""
        return self.bounds()


class Uniform(_Range):
    """Any number between two."""

    kind: Literal["uniform"]
    """Says that this is `uniform`."""

    low: float
    high: float

    def bounds(self) -> tuple[float, float]:
        """Low and high."""
        return self.low, self.high


class LogUniform(_Range):
    """Any number between two, every factor as likely as any other."""

    kind: Literal["log_uniform"]
    """Says that this is `log_uniform`."""

    low: Annotated[float, Field(gt=0.0)]
    high: float

    def bounds(self) -> tuple[float, float]:
        """Low and high."""
        return self.low, self.high


class Integer(_Range):
    """Whole numbers between two, `step` apart."""

    kind: Literal["integer"]
    """Says that this is `integer`."""

    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1

    def bounds(self) -> tuple[float, float]:
        """Low and high."""
        return self.low, self.high

    def contains(self, value: JsonValue) -> bool:
        """Whether the value can be drawn."""
        return isinstance(value, int) and super().contains(value) and (value - self.low) % self.step == 0

    def probes(self) -> tuple[JsonValue, ...]:
        """All of them where they are few."""
        every = range(self.low, self.high + 1, self.step)
        return tuple(every) if len(every) <= _MOST_PROBES else (every[0], every[-1])


class Choice(Section):
    """One of several values: numbers, words, lists or whole sections."""

    kind: Literal["choice"]
    """Says that this is `choice`."""

    values: Annotated[tuple[JsonValue, ...], Field(min_length=2)]

    def contains(self, value: JsonValue) -> bool:
        """Whether the value can be drawn."""
        return value in self.values

    def probes(self) -> tuple[JsonValue, ...]:
        """All of them."""
        return self.values


Distribution = Annotated[Uniform | LogUniform | Integer | Choice, Field(discriminator="kind")]
