"""VAR's modules with the sizes of a fixture's configuration and deterministic weights.

Shape letters: B batch, L tokens of all scales, V codebook size, X any last axis.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.errors import InputError
from nvgbench.parity.ledger import Ledger
from nvgbench.types import TokenSequence
from nvgbench_baselines.var.blocks import NORM_EPS
from nvgbench_baselines.var.checkpoint import tokenizer_names, transformer_from_published
from nvgbench_baselines.var.config import ScaleConfig, VarModelConfig
from nvgbench_baselines.var.quantizer import ScaleQuantizer
from nvgbench_baselines.var.transformer import VarTransformer
from nvgbench_baselines.var.verification.filler import filled_state

Shapes = Mapping[str, Sequence[int]]


class Models:
    """Shared by several checks: sizes, plain tokenizer, plain transformer.

    Raises:
        InputError: the fixture's configuration is incomplete or not supported.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        config = {
            key: ledger.fixture.fact("config", key)
            for key in ("patch_nums", "V", "Cvae", "num_classes", "depth", "embed_dim", "num_heads", "quant_resi")
        }
        if ledger.fixture.fact("config").get("norm_eps", NORM_EPS) != NORM_EPS:
            raise InputError(f"norm_eps = {ledger.fixture.fact('config', 'norm_eps')}: only {NORM_EPS} is supported")
        self.scales: tuple[int, ...] = tuple(config["patch_nums"])
        self.grid = (self.scales[-1], self.scales[-1])
        self.codes, self.channels, self.classes = config["V"], config["Cvae"], config["num_classes"]
        self.stage_tokens = tuple(side * side for side in self.scales)
        self.length = sum(self.stage_tokens)
        self._config = config

    @cached_property
    def tokenizer(self) -> ConvTokenizer:
        return self.make_tokenizer()

    @cached_property
    def transformer(self) -> VarTransformer:
        return self.make_transformer()

    @property
    def quantizer(self) -> ScaleQuantizer:
        return quantizer_of(self.tokenizer)

    def make_tokenizer(self, quantizer_keys: str | None = None, **settings: Any) -> ConvTokenizer:
        """The tokenizer, or a variant with the quantizer whose shapes are listed under ``quantizer_keys``."""
        fixture = self._ledger.fixture
        shapes: Shapes = fixture.fact("vae_state_dict")
        if quantizer_keys:
            shapes = {key: shape for key, shape in shapes.items() if not key.startswith("quantize.")}
            shapes |= fixture.fact(quantizer_keys)
        strength = abs(self._config["quant_resi"])
        config = ScaleConfig(**{"scales": self.scales, "phi_convs": _phi_convs(shapes), "phi_strength": strength, **settings})
        sizes = tokenizer_sizes(shapes, self.codes, self.channels)
        module = ConvTokenizer(sizes, self.grid, ScaleQuantizer(config, self.codes, self.channels, self.grid))
        module.load_state_dict(tokenizer_names(config).from_published(self._weights(shapes), module.state_dict()))
        return self._ledger.arithmetic.place(module)

    def make_transformer(self, keys: str = "var_state_dict", scaled: Mapping[str, float] | None = None) -> VarTransformer:
        """The transformer whose shapes are listed under ``keys``, with some tensors scaled by a factor."""
        shapes: Shapes = self._ledger.fixture.fact(keys)
        config = VarModelConfig(
            depth=self._config["depth"],
            heads=self._config["num_heads"],
            head_size=self._config["embed_dim"] // self._config["num_heads"],
            mlp_ratio=int(self._ledger.fixture.fact("config").get("mlp_ratio", 4)),
            shared_modulation="shared_ada_lin.1.weight" in shapes,
            qk_norm=any(key.endswith("scale_mul_1H11") for key in shapes),
        )
        module = VarTransformer(
            config, scales=self.scales, channels=self.channels, codebook_size=self.codes, num_classes=self.classes
        )
        published = {name: values * (scaled or {}).get(name, 1.0) for name, values in self._weights(shapes).items()}
        module.load_state_dict(transformer_from_published(published, module.state_dict()))
        return self._ledger.arithmetic.place(module)

    @property
    def labels_B(self) -> Tensor:
        """Class labels, from the array or else from the JSON file."""
        listed = self._ledger.fixture.facts.get("labels")
        if listed is None or self._ledger.has("label_B"):
            return self._ledger.given("label_B")
        return self._ledger.arithmetic.tensor(np.asarray(listed))

    def split(self, tokens_BL: Tensor) -> TokenSequence:
        """Concatenated tokens of all scales as a token sequence."""
        return TokenSequence(tokens_BL.split(self.stage_tokens, dim=1))

    def between(self, name: str) -> Tensor:
        """An array that follows from ``img`` and that others are computed from; recomputed if not stored."""
        if self._ledger.has(name):
            return self._ledger.given(name)
        with torch.no_grad():
            if name == "f":
                return self.tokenizer.latent(self._ledger.given("img"))
            if name == "idx_BL":
                return torch.cat(self.tokenizer.encode(self._ledger.given("img")).indices, dim=1)
            assert name == "x_BLCv", name
            return self.quantizer.teacher_inputs(self.split(self.between("idx_BL")))

    def kept(self, name: str, values_BLX: Tensor) -> Tensor:
        """The positions (and columns of logits) that the stored array ``name`` keeps.

        ``rows`` lists the positions. An array with fewer rows keeps the first ones, either of ``rows`` or of the sequence: the
        layout does not say, so the better fit is taken. Of V columns, every (V / columns)-th is kept.
        """
        stored = self._ledger.fixture.arrays[name]
        if values_BLX.ndim == 3 and stored.ndim == 3 and stored.shape[2] < values_BLX.shape[2]:
            values_BLX = values_BLX[..., :: math.ceil(values_BLX.shape[2] / stored.shape[2])]
        count = stored.shape[1]
        if count == values_BLX.shape[1]:
            return values_BLX
        if not self._ledger.has("rows"):
            return values_BLX[:, :count]
        rows = self._ledger.given("rows")
        # Invalid positions fail in `check_rows`, and here by the number of rows.
        listed = rows[(rows >= 0) & (rows < values_BLX.shape[1])][:count]
        if count == len(rows):
            return values_BLX[:, listed]
        readings = [values_BLX[:, listed], values_BLX[:, :count]]
        target = self._ledger.arithmetic.tensor(stored)
        fits = [reading.shape == target.shape and float((reading.double() - target).abs().max()) for reading in readings]
        return readings[0] if fits[0] is False or fits[1] is False or fits[0] <= fits[1] else readings[1]

    def check_rows(self) -> None:
        """``rows`` lists positions of the sequence in rising order; as many as there are positions can only be all."""
        if not self._ledger.has("rows"):
            return
        rows = self._ledger.fixture.array("rows")
        if len(rows) == self.length:
            self._ledger.equal("rows", np.arange(self.length), "every position")
        else:
            fits = (rows >= 0) & (rows < self.length) & (np.diff(rows, prepend=-1) > 0)
            self._ledger.equal("rows", np.ones_like(fits), "positions in rising order", stored=fits)

    def check_weights(self) -> None:
        """Checksums of the deterministic weights and numbers of parameters, if the fixture lists them."""
        facts = self._ledger.fixture.facts
        for part in ("var", "vae"):
            listed = facts.get(f"weight_crc32_{part}")
            if listed is not None:
                made = self._filled(facts[f"{part}_state_dict"])
                ours = [zlib.crc32(made[name].tobytes()) if name in made else -1 for name in listed]
                self._ledger.equal(f"weight_crc32_{part}", np.array(ours), stored=list(listed.values()))
        for name, module in (("params_var", self.transformer), ("params_vae", self.tokenizer)):
            if name in facts:
                count = sum(parameter.numel() for parameter in module.parameters())
                self._ledger.equal(name, np.array(count), stored=facts[name])

    def _weights(self, shapes: Shapes) -> dict[str, Tensor]:
        return {name: torch.from_numpy(values) for name, values in self._filled(shapes).items()}

    def _filled(self, shapes: Shapes) -> dict[str, np.ndarray]:
        return filled_state(shapes, self._ledger.fixture.fact("config").get("seed", 0))


def quantizer_of(module: ConvTokenizer) -> ScaleQuantizer:
    """The tokenizer's quantizer."""
    assert isinstance(module.quantizer, ScaleQuantizer)
    return module.quantizer


def tokenizer_sizes(shapes: Shapes, codes: int, channels: int) -> TokenizerConfig:
    """Sizes of the encoder and decoder with these published names and shapes.

    Raises:
        InputError: these are not the tensors of such a tokenizer.
    """
    try:
        base = shapes["encoder.conv_in.weight"][0]
        levels = 1 + max(int(match[1]) for key in shapes if (match := re.match(r"encoder\.down\.(\d+)\.", key)))
        widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
        encoder_blocks, decoder_blocks = (
            1 + max(int(match[1]) for key in shapes if (match := re.match(rf"{half}\.0\.block\.(\d+)\.", key)))
            for half in (r"encoder\.down", r"decoder\.up")
        )
    except (KeyError, ValueError):
        raise InputError("vae_state_dict does not list the tensors of a VAR tokenizer (encoder.conv_in.weight …)") from None
    return TokenizerConfig(
        base_channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        encoder_blocks=encoder_blocks,
        decoder_blocks=decoder_blocks,
        attention=any(".attn" in key for key in shapes),
        quant_convs="quant_conv.weight" in shapes,
        latent_channels=channels,
        codebook_size=codes,
    )


def _phi_convs(shapes: Shapes) -> int:
    """Number of convolutions that the scales share; 0: one per scale."""
    listed = {match[1] for key in shapes if (match := re.match(r"quantize\.quant_resi\.qresi_ls\.(\d+)\.", key))}
    return len(listed) if listed else int("quantize.quant_resi.qresi.weight" in shapes)
