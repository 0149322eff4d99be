"""Weights in the published layout: key names there and here, both ways.

The tensors are the same ones, with the same shapes and the same order inside fused layers; only their names differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg.generator import NvgGenerator

# (published, ours), as literal text; {i} stands for the block.
_PAIRS = (
    ("content_start_embed", "content.start_1LC"),
    ("scale_factors", "content.scale_factors"),
    ("content_embed.", "content.embed."),
    ("content_class_embed.", "content.class_embed."),
    ("content_stage_embed.", "content.stage_embed."),
    ("x0_head.linear.", "content.head.linear."),
    ("x0_head.adaLN_modulation.1.", "content.head.modulation.linear."),
    ("cls_head.linear.", "content.token_head."),
    ("structure_embed.", "structure.embed."),
    ("structure_content_cond_embed.", "structure.canvas_embed."),
    ("structure_class_embed.", "structure.class_embed."),
    ("structure_stage_embed.", "structure.stage_embed."),
    ("structure_time_embed.in_layer.", "structure.time_embed.linear_in."),
    ("structure_time_embed.out_layer.", "structure.time_embed.linear_out."),
    ("structure_head.linear.", "structure.head.linear."),
    ("structure_head.adaLN_modulation.1.", "structure.head.modulation.linear."),
    *(
        (f"{part}_blocks.{{i}}.{published}", f"{part}.blocks.{{i}}.{ours}")
        for part in ("content", "structure")
        for published, ours in (
            ("linear1.", "linear_in."),
            ("linear2.", "linear_out."),
            ("norm.query_norm.scale", "query_scale"),
            ("norm.key_norm.scale", "key_scale"),
            ("modulation.lin.", "modulation.linear."),
        )
    ),
)
# What a generator's file holds besides: position ids (computed here), the head of the training-only feature alignment.
_IGNORED = ("rope_ids", "projector.")
_MODULE_PREFIX = "nvgformer."
_AVERAGE_PREFIX = "ema_model."


def from_published_key(key: str) -> str | None:
    """Our name of a published key (without module prefix); ``None`` for keys that have no counterpart here."""
    return _translate(key, _PAIRS)


def to_published_key(key: str) -> str | None:
    """The published name of one of our keys, or ``None``."""
    return _translate(key, ((ours, theirs) for theirs, ours in _PAIRS))


def load_published_state(generator: NvgGenerator, state: Mapping[str, Tensor], *, average: bool = True) -> None:
    """Load weights in the published layout.

    Args:
        generator: of the same sizes.
        state: keys as in the published files (``nvgformer.…``, ``ema_model.nvgformer.…``), or without the prefix.
        average: prefer the moving average's tensors where the file holds them.

    Raises:
        InputError: keys are missing, unknown or of another shape; the message names the first few.
    """
    wanted = generator.state_dict()
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in _module_state(state, average).items():
        ours = from_published_key(key)
        if ours in wanted:
            found[ours] = value
        elif not key.startswith(_IGNORED):
            unknown.append(key)
    missing = [to_published_key(key) or key for key in wanted if key not in found]
    misfits = [f"{key} {list(value.shape)}" for key, value in found.items() if value.shape != wanted[key].shape]
    for problem, names in (("is missing", missing), ("is unknown", unknown), ("has another shape here", misfits)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise InputError(
                f"these are not weights of this model: {', '.join(names[:3])}{more} {problem}; check the preset's sizes"
            )
    generator.load_state_dict(found)


def load_published_file(generator: NvgGenerator, path: Path, *, average: bool = True) -> None:
    """Load a published generator file (a pickle with a ``state_dict`` entry, read without running code in it).

    Raises:
        InputError: not such a file, or not weights of this model.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no checkpoint at {path}") from None
    except Exception as error:
        raise InputError(f"{path} cannot be read as a checkpoint of tensors: {str(error).splitlines()[0]}") from None
    load_published_state(generator, content.get("state_dict", content), average=average)


def to_published_state(generator: NvgGenerator) -> dict[str, Tensor]:
    """The generator's tensors under their published names (without prefix)."""
    named = {to_published_key(key): value for key, value in generator.state_dict().items()}
    return {key: value for key, value in named.items() if key is not None}


def _module_state(state: Mapping[str, Tensor], average: bool) -> dict[str, Tensor]:
    """The generator's own keys, prefixes removed."""
    if not any(_MODULE_PREFIX in key for key in state):
        return dict(state)
    chosen = {key.removeprefix(_MODULE_PREFIX): value for key, value in state.items() if key.startswith(_MODULE_PREFIX)}
    prefix = _AVERAGE_PREFIX + _MODULE_PREFIX
    averaged = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {**chosen, **averaged} if average else chosen


def _translate(key: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    for source, target in pairs:
        pattern = re.escape(source).replace(r"\{i\}", r"(?P<i>\d+)")
        match = re.match(pattern if source.endswith(".") else pattern + "$", key)
        if match:
            return target.replace("{i}", match.groupdict().get("i", "")) + key[match.end() :]
    return None
