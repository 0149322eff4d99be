"""Tensor names of VAR's published files, to and from ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from nvgbench.autoencoder.checkpoint import PublishedNames
from nvgbench.weights.fit import check_fit
from nvgbench_baselines.var.config import ScaleConfig

# Published tensors that are not learned; they follow from the configuration.
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
    """Names in the published tokenizer; those of the convolutions phi depend on how scales share them."""
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
        published: tensors by published name; those that follow from the configuration are ignored.
        own: the transformer's state dict, which defines names and shapes.

    Raises:
        InputError: tensors are missing, unexpected or of the wrong shape.
    """
    names = {transformer_name(key): key for key in own}
    given = {key: tensor for key, tensor in published.items() if key.split(".")[-1] not in DERIVED}
    check_fit(
        {key: tensor.shape for key, tensor in given.items()},
        {theirs: _published_shape(theirs, own[ours].shape) for theirs, ours in names.items()},
    )
    return {ours: given[theirs].reshape(own[ours].shape) for theirs, ours in names.items()}


def transformer_to_published(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse: our state dict with published names and shapes."""
    named = {transformer_name(key): tensor for key, tensor in own.items()}
    return {key: tensor.reshape(_published_shape(key, tensor.shape)) for key, tensor in named.items()}


def _published_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The published shape, which may have axes of length one for broadcasting."""
    match name.split(".")[-1]:
        case "pos_start" | "pos_1LC":
            return 1, *shape
        case "ada_gss":
            return 1, 1, *shape
        case "scale_mul_1H11":
            return 1, *shape, 1, 1
    return tuple(shape)
