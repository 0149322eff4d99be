"""Checks that tensors fit a model, by name and shape. Importing this file does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nvgbench.errors import InputError, did_you_mean

_SHOWN = 3


def check_fit(given: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors that are not exactly those of the model.

    Args:
        given: name -> shape of the tensors in the file.
        wanted: name -> shape of the model's tensors, by the file's names.

    Raises:
        InputError: tensors are missing, unexpected or of another shape; the message names the first few of each.
    """
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    misshapen = [
        f"{name} {list(given[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in given and list(given[name]) != list(shape)
    ]
    problems = [
        f"{problem}: {_first(names)}"
        for problem, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        near = did_you_mean(missing[0], unexpected) if len(missing) == 1 else ""
        raise InputError(f"the tensors do not fit this model; {'; '.join(problems)}{near}; use the preset with these sizes")


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def check_codebooks(predicted: tuple[int, int], held: tuple[int, ...]) -> None:
    """Refuse a generator and a tokenizer with different codebooks.

    Args:
        predicted: number of codes and channels that the generator was built for.
        held: shape of the tokenizer's codebook.

    Raises:
        InputError: they differ.
    """
    if predicted != tuple(held):
        raise InputError(
            f"the generator predicts {predicted[0]} codes of {predicted[1]} channels, but the tokenizer's codebook is "
            f"{' x '.join(map(str, held))}; give the tokenizer that the generator was trained with"
        )
