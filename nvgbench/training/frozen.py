"""Freezing parts of a model: their parameters have no gradient, no optimizer state and no weight decay."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from nvgbench.errors import InputError, did_you_mean


def freeze(module: nn.Module, patterns: Sequence[str], key: str) -> None:
    """Exclude parameters from training.

    Args:
        module: the model.
        patterns: `fnmatch` patterns for names of parameters.
        key: of the patterns in the configuration, for messages.

    Raises:
        InputError: a pattern matches no parameter, or together they match all.
    """
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    for pattern in patterns:
        matched = fnmatch.filter(trained, pattern)
        if not matched:
            raise InputError(f"`{key}`: {pattern!r} matches no parameter{_closest(pattern, list(trained))}")
        for name in matched:
            trained[name].requires_grad_(False)
    if patterns and not any(value.requires_grad for value in trained.values()):
        raise InputError(f"`{key}` = {list(patterns)} freezes every parameter; leave some to train")


def frozen_parameters(module: nn.Module, patterns: Sequence[str]) -> int:
    """Number of parameters that `freeze` excludes."""
    named = module.named_parameters()
    return sum(value.numel() for name, value in named if any(fnmatch.fnmatch(name, pattern) for pattern in patterns))


def _closest(pattern: str, names: Sequence[str]) -> str:
    """The closest names; if there are none, the parts of the model."""
    prefixes = {".".join(parts[:depth]) for name in names if (parts := name.split(".")) for depth in range(1, len(parts))}
    near = did_you_mean(pattern, [*names, *(f"{prefix}.*" for prefix in sorted(prefixes))])
    tops = sorted({name.split(".")[0] + (".*" if "." in name else "") for name in names})
    return near or f"; its parts are {', '.join(tops)}"
