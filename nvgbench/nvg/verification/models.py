"""NVG's modules with the sizes of a fixture's configuration and deterministic weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.errors import InputError
from nvgbench.nvg.checkpoint import load_published_state
from nvgbench.nvg.config import GranularityConfig, NvgModelConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.tokenizer import PUBLISHED_NAMES
from nvgbench.nvg.verification.filler import filled_state
from nvgbench.parity.fixture import Fixture
from nvgbench.parity.ledger import Ledger

# The buffer "scale_factors" of the published generators (nine stages).
PUBLISHED_SCALE_FACTORS = (1.0, 4.1993, 3.4706, 3.0520, 2.7430, 2.4842, 2.2407, 2.0088, 1.7954, 1.6080)


def granularity(tokens: Sequence[int], strength: float = 0.5, sharing: int = 0) -> GranularityConfig:
    """Hierarchy and refiners of a configuration: tokens of each stage, ``share_quant_resi``.

    Raises:
        InputError: some stages share a refiner, which NVG does not have.
    """
    if sharing not in (0, 1):
        raise InputError(f"share_quant_resi = {sharing}: NVG has one refiner per stage (0) or one for all (1)")
    group_size = tokens[1] if len(tokens) > 1 else 2
    return GranularityConfig(group_size=group_size, phi_strength=strength, phi_sharing="all" if sharing else "none")


def square(positions: int) -> tuple[int, int]:
    """The square grid with this number of positions.

    Raises:
        InputError: there is none.
    """
    side = math.isqrt(positions)
    if side * side != positions:
        raise InputError(f"{positions} positions are not a square grid; the layout of the fixtures has no others")
    return side, side


def quantizer(ledger: Ledger, config: Mapping[str, Any], grid: tuple[int, int]) -> GranularityQuantizer:
    """A quantizer from a configuration with ``n_e``, ``e_dim`` …"""
    hierarchy = granularity(config["v_patch_nums"], config.get("quant_resi", 0.5), config.get("share_quant_resi", 0))
    module = GranularityQuantizer(hierarchy, config["n_e"], config["e_dim"], grid, commitment=config.get("beta", 0.25))
    own = {f"quantizer.{key}": value for key, value in module.state_dict().items()}
    shapes = {PUBLISHED_NAMES.name(key): list(value.shape) for key, value in own.items()}
    state = PUBLISHED_NAMES.from_published(_filled(shapes, config), own)
    module.load_state_dict({key.removeprefix("quantizer."): value for key, value in state.items()})
    return ledger.arithmetic.place(module)


def autoencoder(ledger: Ledger, config: Mapping[str, Any], image_size: int) -> ConvTokenizer:
    """A tokenizer from a configuration with ``base_ch``, ``ch_mult`` … and the state dict's shapes."""
    side = image_size // 2 ** (len(config["ch_mult"]) - 1)
    settings = TokenizerConfig(
        base_channels=config["base_ch"],
        channel_multipliers=tuple(config["ch_mult"]),
        encoder_blocks=config["num_res_blocks"],
        decoder_blocks=config["num_res_blocks"] + 1,
        latent_channels=config["embed_dim"],
        codebook_size=config["n_embed"],
    )
    hierarchy = granularity(config["v_patch_nums"])
    module = ConvTokenizer(
        settings, (side, side), GranularityQuantizer(hierarchy, config["n_embed"], config["embed_dim"], (side, side))
    )
    module.load_state_dict(PUBLISHED_NAMES.from_published(_filled(config["state_dict"], config), module.state_dict()))
    return ledger.arithmetic.place(module)


def layout_of(fixture: Fixture) -> StageLayout:
    """Grid and stages of section D."""
    return StageLayout.of_stages(
        square(fixture.fact("config", "D", "num_tokens")[-1]), tuple(fixture.fact("config", "D", "num_tokens"))
    )


def generator(ledger: Ledger) -> NvgGenerator:
    """Both transformers of section D.

    Raises:
        InputError: sizes that do not fit together, or an option that NVG's published models do not have.
    """
    config, layout = ledger.fixture.fact("config", "D"), layout_of(ledger.fixture)
    shapes = ledger.fixture.fact("config", "D", "state_dict")
    if not config.get("disable_vec_head", True):
        raise InputError("disable_vec_head = false: a modulated token head is not supported; the published models have none")
    try:
        width, channels = shapes["content_embed.weight"]
        structure_width = shapes["structure_embed.weight"][0]
        (head_size,) = shapes["content_blocks.0.norm.query_norm.scale"]
    except (KeyError, ValueError) as error:
        raise InputError(f"{ledger.fixture.name}: state_dict of config D lacks or misshapes {error}") from None
    settings = NvgModelConfig(
        depth=config["depth"],
        head_size=head_size,
        content_heads=width // head_size,
        structure_heads=structure_width // head_size,
        mlp_ratio=int(config["mlp_ratio"]),
        drop_path=0.0,
    )
    module = NvgGenerator(
        settings, layout, channels=channels, codebook_size=config["vocab_size"], num_classes=config["num_classes"]
    )
    state = _filled(shapes, config)
    state["scale_factors"] = torch.as_tensor(scale_factors(ledger.fixture, layout.stages), dtype=torch.float32)
    load_published_state(module, state)
    return ledger.arithmetic.place(module)


def generator_quantizer(ledger: Ledger) -> GranularityQuantizer:
    """The quantizer whose tokens section D generates, with weights of the configuration's seed."""
    config = ledger.fixture.fact("config", "D")
    sizes = {
        "n_e": config["vocab_size"],
        "e_dim": ledger.fixture.fact("config", "D", "state_dict", "content_embed.weight")[1],
        "v_patch_nums": config["num_tokens"],
        "seed": config.get("seed", 0),
    }
    return quantizer(ledger, sizes, layout_of(ledger.fixture).grid)


def scale_factors(fixture: Fixture, stages: int) -> Any:
    """The stored factors, or the published ones if the fixture has none."""
    if "E.scale_factors" not in fixture.arrays and stages + 1 == len(PUBLISHED_SCALE_FACTORS):
        return PUBLISHED_SCALE_FACTORS
    return fixture.array("E.scale_factors")


def learned(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _filled(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in filled_state(shapes, config.get("seed", 0)).items()}
