"""How much of every kind of work (``limbeck.resources.KINDS``) a device does in a second: a small JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from limbeck.errors import LimbeckError, first_line
from limbeck.resources import KINDS

SHIPPED = Path(__file__).with_name("rates.json")
NAME = "rates.json"  # in the results folder: what `python -m benchmarks.rates` writes there goes before the shipped ones
# of no use to these are a job's other threads
ALONE = {"rows", "pages", "fetched", *(kind for kind in KINDS if kind.startswith("start"))}


class Device(BaseModel):
    """A core, or a GPU: what it is, whether the rates were measured on it, where they are from, and the rates by kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    measured: bool
    source: str
    rates: dict[str, float]

    @field_validator("rates")
    @classmethod
    def _known(cls, rates: dict[str, float]) -> dict[str, float]:
        for kind, rate in rates.items():
            if kind not in KINDS:
                raise ValueError(f"unknown kind of work {kind!r}; known: {', '.join(KINDS)}")
            if not 0 < rate < float("inf"):
                raise ValueError(f"{kind}: {rate} per second is no rate")
        return rates


class Rates(BaseModel):
    """Of one core, and of one GPU: what a kind has no rate for is done on a core."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cpu: Device
    cuda: Device | None = Field(None)

    @field_validator("cpu")
    @classmethod
    def _whole(cls, cpu: Device) -> Device:
        if missing := [kind for kind in KINDS if kind not in cpu.rates]:
            raise ValueError(f"no rate of {', '.join(missing)}; run python -m benchmarks.rates")
        return cpu

    def split(self, work: Mapping[str, float], threads: int, gpu: bool) -> tuple[float, float, float]:
        """(seconds that a job takes, of these on the GPU, core seconds) of so much work."""
        on_gpu = self.cuda.rates if gpu and self.cuda else {}
        there = sum(amount / on_gpu[kind] for kind, amount in work.items() if kind in on_gpu)
        here = {kind: amount / self.cpu.rates[kind] for kind, amount in work.items() if kind not in on_gpu}
        alone = sum(value for kind, value in here.items() if kind in ALONE)
        return there + alone + (sum(here.values()) - alone) / threads, there, sum(here.values())


def load(path: Path | None, results: str) -> tuple[Rates, Path]:
    """The rates at ``path``; or else those in the results folder, or else the shipped ones. And where they are from.

    Raises
    ------
    LimbeckError: there is no such file, or it is no file of rates.
    """
    own = Path(results) / NAME
    chosen = path or (own if own.is_file() else SHIPPED)
    shipped = _read(SHIPPED)
    found = _read(chosen)
    # measured without a GPU: what is assumed of one still holds
    return (found if found.cuda else found.model_copy(update={"cuda": shipped.cuda})), chosen


def _read(path: Path) -> Rates:
    try:
        return Rates.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise LimbeckError(f"{path}: {first_line(error)}") from None
    except (OSError, ValueError) as error:
        raise LimbeckError(f"{path}: no file of rates ({error}); python -m benchmarks.rates writes one") from None
