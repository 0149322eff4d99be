"""VAR in the sizes of the published checkpoints: names and shapes of every tensor, on the meta device.

What the published code computes is held by test_verification.py.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nvgbench_baselines.var.checkpoint import DERIVED, tokenizer_names, transformer_name
from nvgbench_baselines.var.config import ScaleConfig, VarModelConfig
from nvgbench_baselines.var.quantizer import ScaleQuantizer, phi_index
from nvgbench_baselines.var.transformer import VarTransformer
from nvgbench_baselines.var.verification import FIXTURES

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig

LAYOUTS = json.loads((FIXTURES / "var_state_dict_layouts.json").read_text())["models"]


@pytest.mark.parametrize("model", [name for name in LAYOUTS if name.startswith("var")])
def test_transformer_layout(model: str) -> None:
    layout = LAYOUTS[model]
    config = layout["config"]
    with torch.device("meta"):
        module = VarTransformer(
            VarModelConfig(depth=config["depth"], shared_modulation=config["shared_aln"]),
            scales=tuple(config["patch_nums"]),
            channels=32,
            codebook_size=4096,
            num_classes=config["num_classes"],
        )
    assert sum(parameter.numel() for parameter in module.parameters()) == layout["n_params"]
    learned = {key for key in layout["state_dict"] if key.split(".")[-1] not in DERIVED}
    assert {transformer_name(key) for key in module.state_dict()} == learned
    np.testing.assert_allclose([block.drop_path for block in module.blocks], config["drop_path_per_block"], rtol=1e-6)


def test_tokenizer_layout() -> None:
    layout = LAYOUTS["vae_ch160v4096z32"]
    sizes = TokenizerConfig(base_channels=160, channel_multipliers=(1, 1, 2, 2, 4), attention=True, quant_convs=True)
    with torch.device("meta"):
        module = ConvTokenizer(sizes, (16, 16), ScaleQuantizer(ScaleConfig(), 4096, 32, (16, 16)))
    assert sum(parameter.numel() for parameter in module.parameters()) == layout["n_params"]
    published = tokenizer_names(ScaleConfig()).to_published(module.state_dict())
    learned = {key: shape for key, shape in layout["state_dict"].items() if key.split(".")[-1] not in DERIVED}
    assert {key: list(tensor.shape) for key, tensor in published.items()} == learned


def test_phi_of_the_published_scales() -> None:
    """Two of them lie exactly between two convolutions."""
    assert [phi_index(stage, 10, 4) for stage in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
