"""Tensor names of the published autoencoders, to and from ours.

NVG's and VAR's autoencoders have the same tensors in the same shapes as `nvgbench.autoencoder.tokenizer.ConvTokenizer`; NVG's
wraps each convolution and norm of encoder and decoder in one more module (``.conv``, ``.norm``). Each family adds the names of
its own quantizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.weights.fit import check_fit

Rules = tuple[tuple[str, str], ...]
"""Pairs (pattern, replacement), ours to published; the first pattern that matches the start of a key rewrites it."""

# Below "encoder." and "decoder.", which differ in the words {level} and {resample}.
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
        wrapped: whether convolutions and norms are wrapped in one more module (NVG's autoencoder).
        quantizer: rules for the quantizer's tensors: our keys below ``quantizer.``, published keys below ``quantize.``.
        ignored: pattern of published keys that are not part of the model: counters, training losses, averaged copies.
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
        """Our state dict under published names, without the reference's usage counters."""
        return {self.name(key): tensor for key, tensor in state.items()}

    def from_published(self, published: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict under our names, ready for ``load_state_dict``.

        Args:
            published: tensors by published name.
            own: the tokenizer's state dict, which defines names and shapes.

        Raises:
            InputError: a tensor is missing, unexpected or of the wrong shape.
        """
        names = {self.name(key): key for key in own}
        given = {key: tensor for key, tensor in published.items() if not re.search(self.ignored, key)}
        check_fit(
            {key: tensor.shape for key, tensor in given.items()}, {theirs: own[ours].shape for theirs, ours in names.items()}
        )
        return {ours: given[theirs] for theirs, ours in names.items()}

    def settings(self, published: Mapping[str, Tensor]) -> dict[str, Any]:
        """The settings below ``tokenizer.`` that give a published tokenizer's tensors, except for the quantizer's.

        Raises:
            InputError: tensors that every tokenizer has are missing.
        """
        layer = ".conv.weight" if self.wrapped else ".weight"
        try:
            base = len(published[f"encoder.conv_in{layer}"])
            codes, channels = published["quantize.embedding.weight"].shape
        except (KeyError, ValueError):
            raise InputError("these are not the tensors of a tokenizer: its first layer or its codebook is missing") from None
        tops = [
            published[key]
            for level in range(_count(published, r"encoder\.down\.(\d+)\."))
            if (key := f"encoder.down.{level}.block.0.conv2{layer}") in published
        ]
        return {
            "base_channels": base,
            "channel_multipliers": [len(top) // base for top in tops],
            "encoder_blocks": _count(published, r"encoder\.down\.0\.block\.(\d+)\."),
            "decoder_blocks": _count(published, r"decoder\.up\.0\.block\.(\d+)\."),
            "attention": "encoder.mid.attn_1.qkv.weight" in published,
            "quant_convs": "quant_conv.weight" in published,
            "latent_channels": channels,
            "codebook_size": codes,
        }


def _count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers the group of ``pattern`` captures."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _rewrite(key: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, key):
            return re.sub(f"^{pattern}", replacement, key)
    return key


def _wrap(match: re.Match[str]) -> str:
    inner = "norm" if match[1].startswith("norm") else "conv"
    return f"{match[1]}.{inner}.{match[2]}"
