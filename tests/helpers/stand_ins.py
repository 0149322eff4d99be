"""Stand-ins for published files: the same tensors by name, shape and type, with the fixtures' deterministic weights.

They test that the original files can be read; samples of such models are noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvgbench_baselines.var.verification import FIXTURES as VAR_FIXTURES
from nvgbench_baselines.var.verification import filler as var_filler
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.files import whole_file
from nvgbench.nvg.verification import FIXTURES as NVG_FIXTURES
from nvgbench.nvg.verification import filler as nvg_filler

FIXTURES = {"nvg": NVG_FIXTURES, "var": VAR_FIXTURES}
Shapes = Mapping[str, Sequence[int]]
_PREFIX, _AVERAGE, _INSIDE = "nvgformer.", "ema_model.nvgformer.", "first_stage_model."


def write_stand_in(name: str, path: Path, *, ema: bool = True) -> None:
    """Write the stand-in of the published file ``name`` (``ae.ckpt``, ``d16.ckpt`` …, ``var_d16.pth`` …).

    Args:
        ema: NVG's generators: with the moving average, whose weights are others.

    Raises:
        InputError: not a published file.
        OSError: the file cannot be written.
    """
    known = {layout["checkpoint_file"]: layout for layout in _layouts("var")["models"].values()}
    if name in known:
        layout = known[name]
        content: dict[str, Any] = dict(var_stand_in(layout["state_dict"], layout["config"]["patch_nums"]))
    elif name == "ae.ckpt":
        content = {"state_dict": nvg_stand_in(_layouts("nvg")["autoencoder"]["keys"])}
    elif name.removesuffix(".ckpt") in _layouts("nvg")["generators"]:
        shapes = nvg_generator_shapes(name.removesuffix(".ckpt"))
        content = {"state_dict": nvg_generator_file(shapes, _layouts("nvg")["autoencoder"]["keys"], ema=ema)}
    else:
        raise InputError(f"no published file is called {name!r}; known: ae.ckpt, d16.ckpt …, {', '.join(known)}")
    with whole_file(path) as temporary:
        torch.save(content, temporary)


def nvg_generator_shapes(depth: str) -> dict[str, list[int]]:
    """Tensors of NVG's generator ``d16``, ``d20`` or ``d24`` without prefix."""
    entry = _layouts("nvg")["generators"][depth]
    blocks = range(entry["blocks_i_from_0_to"] + 1)
    return entry["single_keys"] | {key.format(i=i): shape for i in blocks for key, shape in entry["block_keys"].items()}


def nvg_generator_file(generator: Shapes, tokenizer: Shapes, *, ema: bool = True) -> dict[str, Tensor]:
    """State dict of a generator's Lightning file: weights, their average, and the frozen autoencoder."""
    parts = [(_PREFIX, nvg_stand_in(generator)), (_INSIDE, nvg_stand_in(tokenizer))]
    if ema:
        parts.append((_AVERAGE, nvg_stand_in(generator, seed=1)))
    return {prefix + key: tensor for prefix, state in parts for key, tensor in state.items()}


def nvg_stand_in(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of an NVG module, without prefix."""
    found: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        match key:
            case "rope_ids":
                side = math.isqrt(shape[1] - 1)
                ids_NA = np.zeros(shape[1:], dtype=np.float32)
                ids_NA[0] = 1
                ids_NA[1:, -2], ids_NA[1:, -1] = np.divmod(np.arange(side * side), side)
                found[key] = torch.from_numpy(ids_NA)[None]
            case "scale_factors":
                found[key] = torch.linspace(4.2, 1.6, *shape)
            case "total_visited_codes":
                found[key] = torch.arange(math.prod(shape)).reshape(*shape)
            case _:
                found[key] = torch.from_numpy(nvg_filler.filled(key, shape, seed))
    return found


def var_stand_in(shapes: Shapes, scales: Sequence[int], seed: int = 0) -> dict[str, Tensor]:
    """Tensors of a VAR module; ``scales`` are the sides of its token maps."""
    scale_L = torch.cat([torch.full((side * side,), index) for index, side in enumerate(scales)])
    found: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        match key.split(".")[-1]:
            case "lvl_1L":
                found[key] = scale_L.reshape(*shape)
            case "attn_bias_for_masking":
                unseen_LL = scale_L[:, None] < scale_L[None, :]
                found[key] = torch.where(unseen_LL, -torch.inf, 0.0).reshape(*shape)
            case "zero_k_bias":
                found[key] = torch.zeros(*shape)
            case "ema_vocab_hit_SV":
                found[key] = torch.arange(math.prod(shape), dtype=torch.float32).reshape(*shape)
            case _:
                found[key] = torch.from_numpy(var_filler.filled(key, shape, seed))
    return found


@cache
def _layouts(family: str) -> dict[str, Any]:
    return json.loads((FIXTURES[family] / f"{family}_state_dict_layouts.json").read_text(encoding="utf-8"))
