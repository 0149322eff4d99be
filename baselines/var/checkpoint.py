"""The names of VAR's published tensors and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from baselines.var.config import ScaleConfig
from nvgbench.autoencoder.checkpoint import PublishedNames
from nvgbench.errors import InputError

# Published tensors that hold nothing learned: they follow from the configuration.
DERIVED = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")

_TRANSFORMER_RULES = (
    (r"start_nD", "pos_start"),
    (r"position_LD", "pos_1LC"),
    (r"input\.(\w+)", r"word_embed.\1"),
    (r"class_embedding\.weight", "class_emb.weight"),
    (r"scale_embedding\.weight", "lvl_embed.weight"),
    (r"shared_modulation\.linear\.(\w+)", r"shared_ada_lin.1.\1"),
    (r"blocks\.(\d+)\.attention\.log_scale_H", r"blocks.\1.attn.scale_mul_1H11"),
    (r"blocks\.(\d+)\.attention\.query_bias", r"blocks.\1.attn.q_bias"),
    (r"blocks\.(\d+)\.attention\.value_bias", r"blocks.\1.attn.v_bias"),
    (r"blocks\.(\d+)\.attention\.qkv\.weight", r"blocks.\1.attn.mat_qkv.weight"),
    (r"blocks\.(\d+)\.attention\.out\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"blocks\.(\d+)\.feed_forward\.up\.(\w+)", r"blocks.\1.ffn.fc1.\2"),
    (r"blocks\.(\d+)\.feed_forward\.down\.(\w+)", r"blocks.\1.ffn.fc2.\2"),
    (r"blocks\.(\d+)\.modulation\.linear\.(\w+)", r"blocks.\1.ada_lin.1.\2"),
    (r"blocks\.(\d+)\.modulation_offset_6D", r"blocks.\1.ada_gss"),
    (r"head_modulation\.linear\.(\w+)", r"head_nm.ada_lin.1.\1"),
    (r"head\.(\w+)", r"head.\1"),
)


def tokenizer_names(config: ScaleConfig) -> PublishedNames:
    """Names in the published tokenizer; those of the convolutions phi depend on how the scales share them."""
    phi = {0: r"quant_resi.\1.", 1: "quant_resi.qresi."}.get(config.phi_convs, r"quant_resi.qresi_ls.\1.")
    return PublishedNames(
        wrapped=False,
        quantizer=((r"codebook\.", "embedding."), (r"phi\.(\d+)\.", phi)),
        ignored=r"\.ema_vocab_hit_SV$",
    )


def transformer_name(key: str) -> str:
    """The published name of the transformer's tensor ``key``."""
    for pattern, replacement in _TRANSFORMER_RULES:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    raise AssertionError(f"no published name for {key}")


def transformer_from_published(published: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published transformer's state dict under our names, ready for ``load_state_dict``.

    Args:
        published: tensors by their published names; those that only follow from the configuration are passed over.
        own: state dict of the transformer to be filled; it says which tensors there are, and their shapes.

    Raises:
        InputError: a tensor is missing, left over, or of another size.
    """
    names = {transformer_name(key): key for key in own}
    given = {key for key in published if key.split(".")[-1] not in DERIVED}
    for keys, what in ((names.keys() - given, "is missing from the checkpoint"), (given - names.keys(), "has no place here")):
        if keys:
            raise InputError(f"tensor {min(keys)!r} {what}; use the preset that the checkpoint was made for")
    for theirs, ours in names.items():
        # The published tensors have axes of length one for broadcasting, ours have not.
        if [size for size in published[theirs].shape if size > 1] != [size for size in own[ours].shape if size > 1]:
            raise InputError(
                f"tensor {theirs!r} of the checkpoint has shape {tuple(published[theirs].shape)}; expected "
                f"{tuple(own[ours].shape)} up to axes of length one: use the preset of the same sizes"
            )
    return {ours: published[theirs].reshape(own[ours].shape) for theirs, ours in names.items()}
