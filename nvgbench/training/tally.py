"""Losses between two lines of the log: collected without waiting for the device, checked, averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.training.distributed import Processes


class DivergenceError(InputError):
    """A loss or gradient is not finite."""


class Tally:
    """Means of named numbers since the last line of the log.

    Args:
        phase: named in messages.
        device: where the numbers are.
        remedy: what to do about a number that is not finite.
    """

    def __init__(self, phase: str, device: torch.device, remedy: str = "use a lower learning rate") -> None:
        self.phase = phase
        self._remedy = remedy
        self._device = device
        self._pending: list[tuple[int, dict[str, Tensor | float]]] = []
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Add the numbers of a step; tensors stay on their device until `settle`."""
        self._pending.append((step, {name: _scalar(value) for name, value in values.items()}))

    def settle(self) -> None:
        """Fetch the pending numbers in one transfer and add them to the sums.

        Raises:
            DivergenceError: a number is not finite; the message names the step and the term.
        """
        tensors = [value for _, values in self._pending for value in values.values() if isinstance(value, Tensor)]
        fetched = iter(torch.stack([value.float() for value in tensors]).tolist() if tensors else [])
        for step, values in self._pending:
            numbers = {name: next(fetched) if isinstance(value, Tensor) else value for name, value in values.items()}
            self._check(step, numbers)
            for name, number in numbers.items():
                self._sums[name] = self._sums.get(name, 0.0) + number
                self._counts[name] = self._counts.get(name, 0) + 1
        self._pending = []

    def means(self, processes: Processes) -> dict[str, float]:
        """Means over the steps since the last call and over the processes; resets the sums."""
        names = sorted(self._sums)
        local = torch.tensor([self._sums[name] / self._counts[name] for name in names], dtype=torch.float64)
        shared = processes.mean(local.to(self._device)).tolist() if names else []
        self._sums, self._counts = {}, {}
        return dict(zip(names, shared, strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._counts = dict(state.get("sums", {})), dict(state.get("counts", {}))

    def _check(self, step: int, numbers: Mapping[str, float]) -> None:
        wrong = [name for name, number in numbers.items() if not math.isfinite(number)]
        if wrong:
            # A term tells more than the loss that it is part of.
            name = next((name for name in wrong if name.startswith(f"{wrong[0]}/")), wrong[0])
            raise DivergenceError(
                f"{self.phase}, step {step + 1}: {name} is {numbers[name]}; training stopped, the last checkpoint is kept; "
                f"{self._remedy}"
            )


def _scalar(value: Tensor | float) -> Tensor | float:
    return value.detach() if isinstance(value, Tensor) else float(value)
