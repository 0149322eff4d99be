"""Names of the published autoencoders' tensors and ours, in both directions.

NVG's and VAR's autoencoders hold the same tensors in the same shapes as `nvgbench.autoencoder.tokenizer.ConvTokenizer`;
NVG's wraps every convolution and norm of the two halves in one more module (``.conv``, ``.norm``). Each family adds the
names of its own quantizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from nvgbench.errors import InputError, did_you_mean

Rules = tuple[tuple[str, str], ...]
"""Pairs (pattern, replacement), ours to theirs; the first pattern that matches the start of a key rewrites it."""

# Below "encoder." and "decoder.", whose own words {level} and {resample} differ.
_HALF_RULES: Rules = (
    (r"stem\.", "conv_in."),
    (r"head\.", "conv_out."),
    (r"levels\.(\d+)\.blocks\.(\d+)\.shortcut\.", r"{level}.\1.block.\2.nin_shortcut."),
    (r"levels\.(\d+)\.blocks\.(\d+)\.", r"{level}.\1.block.\2."),
    (r"levels\.(\d+)\.attentions\.(\d+)\.proj\.", r"{level}.\1.attn.\2.proj_out."),
    (r"levels\.(\d+)\.attentions\.(\d+)\.", r"{level}.\1.attn.\2."),
    (r"levels\.(\d+)\.resample\.", r"{level}.\1.{resample}."),
    (r"middle\.block(\d)\.", r"mid.block_\1."),
    (r"middle\.attention\.proj\.", "mid.attn_1.proj_out."),
    (r"middle\.attention\.", "mid.attn_1."),
)
_WORDS = {
    "encoder": {"level": "down", "resample": "downsample"},
    "decoder": {"level": "up", "resample": "upsample"},
}
_LAYER = re.compile(r"([a-z_]+\d?)\.(weight|bias)$")


@dataclass(frozen=True, kw_only=True)
class PublishedNames:
    """How a published checkpoint names a tokenizer's tensors.

    Attributes:
        wrapped: whether convolutions and norms sit in one more module (NVG's autoencoder).
        quantizer: rules for the quantizer's tensors, from our key below ``quantizer.`` to theirs below ``quantize.``.
        ignored: pattern of published keys that are no part of the model: counters, training losses, averaged copies.
    """

    wrapped: bool
    quantizer: Rules
    ignored: str = r"^(loss|ema_model)\."

    def name(self, key: str) -> str:
        """The published name of our tensor ``key``."""
        part, _, rest = key.partition(".")
        if part in _WORDS:
            words = _WORDS[part]
            rules = ((pattern, replacement.format(**words)) for pattern, replacement in _HALF_RULES)
            published = f"{part}.{_rewrite(rest, rules)}"
            return _LAYER.sub(_wrap, published) if self.wrapped else published
        if part == "quantizer":
            return f"quantize.{_rewrite(rest, self.quantizer)}"
        return {"before_quantizer": "quant_conv", "after_quantizer": "post_quant_conv"}.get(part, part) + f".{rest}"

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our state dict under the published names; usage counters of the reference are not made up."""
        return {self.name(key): tensor for key, tensor in state.items()}

    def from_published(self, published: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict under our names, ready for ``load_state_dict``.

        Args:
            published: tensors by the reference's names.
            own: state dict of the tokenizer to be filled; it says which tensors there are, and their shapes.

        Raises:
            InputError: a tensor is missing, left over, or has another shape.
        """
        names = {self.name(key): key for key in own}
        given = [key for key in published if not re.search(self.ignored, key)]
        _refuse(set(names) - set(given), "is missing from the checkpoint", given)
        _refuse(set(given) - set(names), "of the checkpoint has no place in this tokenizer", names)
        for theirs, ours in names.items():
            if published[theirs].shape != own[ours].shape:
                raise InputError(
                    f"tensor {theirs!r} of the checkpoint has shape {tuple(published[theirs].shape)}; expected "
                    f"{tuple(own[ours].shape)}: use the preset of the same sizes"
                )
        return {ours: published[theirs] for theirs, ours in names.items()}


def _refuse(keys: Iterable[str], what: str, candidates: Iterable[str]) -> None:
    ordered = sorted(keys)
    if ordered:
        more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
        near = did_you_mean(ordered[0], candidates)
        raise InputError(f"tensor {ordered[0]!r}{more} {what}{near}; use the preset that the checkpoint was made for")


def _rewrite(key: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, key):
            return re.sub(f"^{pattern}", replacement, key)
    return key


def _wrap(match: re.Match[str]) -> str:
    inner = "norm" if match[1].startswith("norm") else "conv"
    return f"{match[1]}.{inner}.{match[2]}"
