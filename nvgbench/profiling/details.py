"""Where the time of a call goes: tokens and decoder, parts, capture and compilation, shares of what the machine can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from nvgbench.interfaces import ImageGenerator, TokenGenerator
from nvgbench.profiling.ceilings import measure_ceilings
from nvgbench.profiling.latency import spread, time_repetitions
from nvgbench.profiling.machine import synchronize
from nvgbench.profiling.traffic import count_traffic
from nvgbench.sampling.parts import PartClock
from nvgbench.types import Measurement, SampleRequest

Row = dict[str, Any]

DECODER = "decoder"
"""The part that a generator runs after its tokens."""
OVERHEAD = "overhead"
"""What no part claims."""


@dataclass(frozen=True, kw_only=True)
class Computation:
    """How the model computes.

    Attributes:
        precision: ``fp32`` or ``bf16``.
        compiled: whether blocks are compiled.
        eager: the settings that switch compilation off; empty for a model without that setting.
        flops: per image by part; empty if unknown.
    """

    precision: str
    compiled: bool
    eager: Mapping[str, Any]
    flops: Mapping[str, float]


@contextmanager
def without_graphs(generator: ImageGenerator) -> Iterator[None]:
    """No CUDA graphs while this is entered: counters and clocks see nothing of a replay."""
    graphs = getattr(generator, "graphs", None)
    if graphs is None:
        yield
        return
    before, graphs.enabled = graphs.enabled, False
    try:
        yield
    finally:
        graphs.enabled = before


class Details:
    """What a profile says beside its measurements.

    Args:
        generator: the model on ``device``.
        computation: how it computes.
        repeats: timed calls of each kind.
        settings: overrides of the sampling settings.
        device: where it runs.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        computation: Computation,
        repeats: int,
        settings: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.generator, self.computation, self.device = generator, computation, device
        self.repeats, self.settings = repeats, settings
        self._eager = {**settings, **computation.eager}
        self._counted: dict[str, tuple[int, int]] = {}

    def tables(self, measurements: Sequence[Measurement]) -> dict[str, list[Row]]:
        """Tables ``calls``, ``parts`` and ``ceilings``, for every batch size of ``measurements`` that was possible."""
        timed = [one for one in measurements if one.name in ("latency", "throughput") and one.samples]
        batches = [one.conditions["batch_size"] for one in timed]
        return {
            "calls": [row for one in timed for row in _until_full(self._calls(one))],
            "parts": [row for batch in batches for row in _until_full(self._parts(batch))],
            "ceilings": self._ceilings(),
        }

    def _calls(self, measured: Measurement) -> Iterator[Row]:
        """Whole images, tokens alone, and whole images without compilation and without graphs."""
        generator, batch = self.generator, measured.conditions["batch_size"]
        how = [word for word, on in (("captured", self._captures), ("compiled", self.computation.compiled)) if on]
        named = " and ".join(how) or "eager"
        whole = [one if measured.name == "latency" else batch / one for one in measured.samples]
        once = {key: measured.conditions[key] for key in ("first_call_s", "compile_s") if key in measured.conditions}
        yield self._row("images", named, batch, whole) | once
        if isinstance(generator, TokenGenerator):
            yield self._row("tokens", named, batch, self._time(generator.tokens, batch, self.settings))
        if len(how) == 2:
            yield self._row("images", "captured", batch, self._time(generator.generate, batch, self._eager))
        if how:
            with without_graphs(generator):
                yield self._row("images", "eager", batch, self._time(generator.generate, batch, self._eager))

    @property
    def _captures(self) -> bool:
        graphs = getattr(self.generator, "graphs", None)
        return self.device.type == "cuda" and graphs is not None and graphs.enabled

    def _time(self, call: Callable[[SampleRequest], object], batch: int, settings: Mapping[str, Any]) -> tuple[float, ...]:
        asked = sample_request(self.generator, batch, settings)
        return time_repetitions(lambda: call(asked), self.device, repeats=self.repeats, warmup=1)

    def _row(self, call: str, how: str, batch: int, seconds: Sequence[float]) -> Row:
        """A kind of call: its times, its rate, and the shares of the ceilings."""
        median, ceilings = spread(seconds).median, measure_ceilings(self.device)
        row: Row = {"call": call, "how": how, "batch_size": batch, "seconds": list(seconds), "median_s": median}
        row["images_per_s"] = batch / median
        flops = sum(flops for part, flops in self.computation.flops.items() if call == "images" or part != DECODER)
        product = ceilings.products.get(self.computation.precision)
        if flops and product:
            row["mfu"] = flops * batch / median / product
        row["bandwidth_share"] = self._traffic(call, batch) / median / ceilings.copy
        return row

    def _traffic(self, call: str, batch: int) -> float:
        """Bytes of the matrix products of a call: weights, which the images share, and activations, which they do not."""
        if call not in self._counted:
            generator = self.generator
            tokens = call == "tokens" and isinstance(generator, TokenGenerator)
            function = generator.tokens if tokens else generator.generate  # type: ignore[attr-defined]
            with without_graphs(generator):
                one, two = (self._bytes(function, size) for size in (1, 2))
            self._counted[call] = one, two
        one, two = self._counted[call]
        return one + (two - one) * (batch - 1)

    def _bytes(self, function: Callable[[SampleRequest], object], batch: int) -> int:
        asked = sample_request(self.generator, batch, self._eager)
        return count_traffic(lambda: function(asked))

    def _parts(self, batch: int) -> Iterator[Row]:
        """Seconds of every part of an eager call, synchronised at its borders, and of what is left."""
        asked = sample_request(self.generator, batch, self._eager)
        with without_graphs(self.generator), PartClock(lambda: synchronize(self.device)) as clock:
            (total,) = time_repetitions(lambda: self.generator.generate(asked), self.device, repeats=1, warmup=0)
        if clock.seconds:
            found = {**clock.seconds, OVERHEAD: max(total - sum(clock.seconds.values()), 0.0)}
            whole = sum(found.values())
            for part, seconds in found.items():
                yield {"part": part, "batch_size": batch, "seconds": seconds, "share": seconds / whole}

    def _ceilings(self) -> list[Row]:
        ceilings = measure_ceilings(self.device)
        rows = [{"ceiling": f"product, {name}", "rate": rate, "unit": "FLOP/s"} for name, rate in ceilings.products.items()]
        return [{**row, "how": ceilings.how} for row in (*rows, {"ceiling": "copy", "rate": ceilings.copy, "unit": "B/s"})]


def _until_full(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows that fit the GPU's memory: eager calls and tokens alone are not split into smaller batches."""
    try:
        yield from rows
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()


def sample_request(generator: ImageGenerator, batch_size: int, settings: Mapping[str, Any]) -> SampleRequest:
    """Always the same images: classes in turn, seeds 0, 1, 2 …"""
    images = torch.arange(batch_size, dtype=torch.int64)
    return SampleRequest(labels_B=images % max(generator.spec.num_classes, 1), seeds_B=images, settings=settings)
