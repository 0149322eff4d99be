"""Weights of the generators in the published layout.

The tensors have the same shapes, and the same order inside fused layers; only their names differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from nvgbench.nvg.generator import NvgGenerator
from nvgbench.weights.fit import check_fit

# (published, ours); {i} stands for the number of the block.
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
    ("projector.", "projector."),
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
# Not part of the generator: position ids (computed here), and the projector of the feature alignment, which only exists in
# training.
UNUSED = ("rope_ids", "projector.")


def to_published_key(key: str) -> str | None:
    """The published name of one of our keys; None for keys without a counterpart."""
    for published, ours in _PAIRS:
        pattern = re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)")
        match = re.match(pattern if ours.endswith(".") else pattern + "$", key)
        if match:
            return published.replace("{i}", match.groupdict().get("i", "")) + key[match.end() :]
    return None


def from_published_state(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under published names (without module prefix) as a state dict of the generator.

    Args:
        state: tensors by published name; what the generator does not use is ignored (the projector, unless it is aligned).
        own: the generator's state dict, which defines names and shapes.

    Raises:
        InputError: tensors are missing, unexpected or of the wrong shape; the message names the first few.
    """
    names = {to_published_key(key) or key: key for key in own}
    given = {key: value for key, value in state.items() if key in names or not key.startswith(UNUSED)}
    check_fit({key: value.shape for key, value in given.items()}, {name: own[key].shape for name, key in names.items()})
    return {key: given[name] for name, key in names.items()}


def load_published_state(generator: NvgGenerator, state: Mapping[str, Tensor]) -> None:
    """Load weights under published names into a generator.

    Raises:
        InputError: they do not fit this generator.
    """
    generator.load_state_dict(from_published_state(state, generator.state_dict()))


def to_published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A generator's state dict under published names (without module prefix)."""
    named = {to_published_key(key): value for key, value in state.items()}
    return {key: value for key, value in named.items() if key is not None}
