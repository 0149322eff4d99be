"""Whether the tensors of a file are those of a model: by name and by shape. Importing this file does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nvgbench.errors import InputError, did_you_mean

_SHOWN = 3


def check_fit(given: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors that are not exactly those of a model.

    Args:
        given: name -> shape of the file's tensors.
        wanted: name -> shape of the model's, under the file's names.

    Raises:
        InputError: tensors are missing, left over, or of another shape; the message names the first few of each.
    """
    missing = [name for name in wanted if name not in given]
    left_over = [name for name in given if name not in wanted]
    misshapen = [
        f"{name} {list(given[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in given and list(given[name]) != list(shape)
    ]
    problems = [
        f"{problem}: {_first(names)}"
        for problem, names in (("missing", missing), ("left over", left_over), ("of another shape", misshapen))
        if names
    ]
    if problems:
        near = did_you_mean(missing[0], left_over) if len(missing) == 1 else ""
        raise InputError(f"the tensors are not those of this model; {'; '.join(problems)}{near}; use the preset of its sizes")


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def check_codebooks(predicted: tuple[int, int], held: tuple[int, ...]) -> None:
    """Refuse a generator and a tokenizer with different codebooks.

    Args:
        predicted: codes and channels of the generator's inputs and outputs.
        held: shape of the tokenizer's codebook.

    Raises:
        InputError: they differ.
    """
    if predicted != tuple(held):
        raise InputError(
            f"the generator predicts {predicted[0]} codes of {predicted[1]} channels, the tokenizer's codebook has "
            f"{' x '.join(map(str, held))}; give the tokenizer that the generator was trained with"
        )
