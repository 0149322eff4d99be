"""Section E: schedules, embeddings, rotary positions, filters, balanced splits, weights of the loss.

Shape letters: B batch, S stages, T structure stages, L positions, K structure channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.nvg.blocks import timestep_embedding
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.objective import StageLosses
from nvgbench.nvg.rope import StructureRope
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import split_clusters, structure_embedding, structure_labels
from nvgbench.nvg.structure_flow.solver import time_grid
from nvgbench.nvg.verification import models
from nvgbench.nvg.verification.generators import stored_input
from nvgbench.parity.ledger import Ledger
from nvgbench.sampling.filters import top_k_filter, top_p_filter
from nvgbench.sampling.schedules import top_p_schedule

# The stage of the stored rotations, if the settings do not name it.
_ROPE_STAGE = 3


def check(ledger: Ledger) -> None:
    """Everything in section E."""
    _check_schedules(ledger)
    _check_embeddings(ledger)
    _check_rope(ledger)
    _check_filters(ledger)
    _check_splits(ledger)
    _check_constants(ledger)


def _listed(ledger: Ledger, start: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Entries of the settings whose names start with ``start``, with stored arrays."""
    return [(name, found) for name, found in ledger.fixture.settings.items() if name.startswith(start) and ledger.named(name)]


def _check_schedules(ledger: Ledger) -> None:
    for name, found in _listed(ledger, "E.schedule"):
        ledger.close(name, np.array(time_grid(found["steps"], "shifted", found["positions"])))
    for name, found in _listed(ledger, "E.top_p"):
        ledger.close(name, np.array(top_p_schedule(found["start"], found["end"], found["stages"])))


def _check_embeddings(ledger: Ledger) -> None:
    ledger.inputs("E.t")
    for name in ledger.named("E.timestep_embedding"):
        ledger.close(name, timestep_embedding(ledger.given("E.t"), ledger.fixture.array(name).shape[1]))
    structure_BSL = _stage_structure(ledger)
    if structure_BSL is not None:
        layout = _layout(ledger, structure_BSL.shape[-1])
        se_BSLK = torch.stack(
            [_embedded(layout, structure_BL, stage) for stage, structure_BL in enumerate(structure_BSL.unbind(1))], 1
        )
        ledger.equal("E.struct_feat_all", se_BSLK)
    for name, found in _listed(ledger, "E.struct_feat_stage"):
        stage = found["stage"]
        if structure_BSL is not None:
            ledger.equal(name, se_BSLK[:, stage])
            continue
        # Without structure maps, the stored embedding must at least decode to a balanced map and encode to itself.
        stored_BLK = ledger.given(name)
        layout = _layout(ledger, stored_BLK.shape[1])
        structure_BL = structure_labels(stored_BLK, layout.known(stage))
        ledger.equal(name, _embedded(layout, structure_BL, stage))
        balanced_L = np.arange(layout.positions) * layout.tokens[stage] // layout.positions
        _check_members(ledger, name, structure_BL, balanced_L)


def _stage_structure(ledger: Ledger) -> Tensor | None:
    """The structure maps that section E embeds, int64 ``[B, S, L]``: from section D, or decoded from ``E.struct_feat_all``."""
    if ledger.has("D.nvg_input_output", "D.latent"):
        return stored_input(ledger)[..., -1].long()
    if not ledger.has("E.struct_feat_all"):
        return None
    stored_BSLK = ledger.given("E.struct_feat_all")
    layout = _layout(ledger, stored_BSLK.shape[2])
    structure_BL = structure_labels(stored_BSLK[:, -1], layout.channels)
    _check_members(ledger, "E.struct_feat_all", structure_BL, np.arange(layout.positions))
    return torch.stack([layout.coarser(structure_BL, layout.last, stage) for stage in range(layout.stages)], 1)


def _check_members(ledger: Ledger, name: str, structure_BL: Tensor, expected_L: np.ndarray) -> None:
    """All clusters have the same size."""
    ours_BL = structure_BL.sort(dim=1).values
    ledger.equal(name, ours_BL, "clusters of one size", stored=np.broadcast_to(expected_L, tuple(ours_BL.shape)))


def _layout(ledger: Ledger, positions: int) -> StageLayout:
    """The layout of section D, or one that doubles the clusters at each stage."""
    return models.layout_of(ledger.fixture) if "D" in ledger.fixture.fact("config") else StageLayout(models.square(positions))


def _embedded(layout: StageLayout, structure_BL: Tensor, stage: int) -> Tensor:
    return structure_embedding(structure_BL, layout.known(stage), layout.channels)


def _check_rope(ledger: Ledger) -> None:
    parts = [part for part in ("content", "structure") if ledger.has(f"E.rope_{part}")]
    ledger.inputs("E.rope_content_pos", "E.rope_structure_pos")
    if ledger.has("E.rope_ids"):
        stored_NA = ledger.fixture.array("E.rope_ids")
        layout = StageLayout(models.square(len(stored_NA) - 1))
        rope = StructureRope(NvgModelConfig(depth=1, head_size=_head_size(ledger)), layout, canvas_condition=False)
        # The stored buffer does not depend on the image: its structure axes are 0, where ours are "undecided".
        ids_NA = rope.ids(torch.zeros(1, layout.positions, layout.channels))[0]
        ledger.equal("E.rope_ids", ids_NA)
    for part in parts:
        se_BLK = _rotated(ledger)
        stored = ledger.fixture.array(f"E.rope_{part}")
        layout = StageLayout(models.square(se_BLK.shape[1]))
        config = NvgModelConfig(depth=1, head_size=2 * stored.shape[1])
        rope = StructureRope(config, layout, canvas_condition=part == "structure").to(se_BLK.device)
        cos, sin = rope(se_BLK).unit_B1NP2[0, 0, ledger.given(f"E.rope_{part}_pos")].unbind(-1)
        ledger.close(f"E.rope_{part}", torch.stack((cos, -sin, sin, cos), -1).unflatten(-1, (2, 2)))


def _rotated(ledger: Ledger) -> Tensor:
    """The embedding ``[1, L, K]`` of the stored rotations: of the first image, at the stage that the settings name.

    Raises:
        InputError: neither the embedding nor a structure map is stored.
    """
    embedded = {found["stage"]: name for name, found in _listed(ledger, "E.struct_feat_stage")}
    stage = ledger.fixture.settings.get("E.rope", {}).get("stage") or next(iter(embedded), _ROPE_STAGE)
    structure_BSL = None if stage in embedded else _stage_structure(ledger)
    if structure_BSL is None:
        se_BLK = ledger.given(embedded.get(stage, "E.struct_feat_all"))[:1]
    else:
        se_BLK = _embedded(_layout(ledger, structure_BSL.shape[-1]), structure_BSL[:1, stage], stage)
    return se_BLK.to(torch.get_default_dtype())


def _head_size(ledger: Ledger) -> int:
    """The model's head size if known; the ids do not depend on it."""
    shapes = ledger.fixture.facts["config"].get("D", {}).get("state_dict", {})
    return shapes.get("content_blocks.0.norm.query_norm.scale", [64])[0]


def _check_filters(ledger: Ledger) -> None:
    ledger.inputs("E.filter_logits")
    for name, found in _listed(ledger, "E.filter"):
        kept = top_p_filter(top_k_filter(ledger.given("E.filter_logits"), found.get("top_k", 0)), found.get("top_p", 1.0))
        ledger.equal(name, torch.isfinite(kept))


def _check_splits(ledger: Ledger) -> None:
    for prefix, found in _listed(ledger, "E.split"):
        ledger.inputs(*(f"{prefix}.{name}" for name in ("labels", "scores", "uniform")))
        parent_BL, scores_BL, stage = ledger.given(f"{prefix}.labels"), ledger.given(f"{prefix}.scores"), found["stage"]
        ledger.equal(f"{prefix}.next", split_clusters(parent_BL, stage, scores_BL))
        if ledger.has(f"{prefix}.next_gumbel"):
            # The reference lists the uniforms by parent and member, split_clusters takes them by position.
            uniforms_BL = torch.empty_like(scores_BL)
            uniforms_BL.scatter_(1, parent_BL.argsort(dim=1, stable=True), ledger.given(f"{prefix}.uniform").flatten(1))
            ledger.equal(f"{prefix}.next_gumbel", split_clusters(parent_BL, stage, scores_BL, uniforms_BL=uniforms_BL))


def _check_constants(ledger: Ledger) -> None:
    """Weights of the loss terms (derivatives of our total) and scale factors of the canvases."""
    if ledger.has("E.loss_weight", "E.loss_weight_structure"):
        sizes = {name: len(array) for name, array in ledger.fixture.arrays.items() if name.startswith("E.loss_weight")}
        stages = sizes.get("E.loss_weight") or sizes["E.loss_weight_structure"] + 2
        count = sizes.get("E.loss_weight_structure", stages - 2)
        terms = [torch.ones(size, requires_grad=True) for size in (stages, stages, stages, count)]
        StageLosses(*terms).total().backward()
        canvas_S, tokens_S, structure_T = (torch.as_tensor(terms[place].grad) for place in (0, 1, 3))
        ledger.close("E.loss_weight", stages * canvas_S)
        ledger.close("E.loss_weight", stages * tokens_S, "of the tokens")
        ledger.close("E.loss_weight_structure", stages * structure_T)
    if ledger.has("E.scale_factors"):
        stored = ledger.fixture.array("E.scale_factors")
        if len(stored) == len(models.PUBLISHED_SCALE_FACTORS):
            ledger.close("E.scale_factors", np.array(models.PUBLISHED_SCALE_FACTORS))
        else:
            ledger.inputs("E.scale_factors")
            ledger.equal("E.scale_factors", np.ones(1), "entry of the first stage, unused", stored=stored[:1])
