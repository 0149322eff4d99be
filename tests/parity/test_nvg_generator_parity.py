"""Both generators, their losses and the sampler against the golden numbers of the reference implementation.

float32 on a CPU: indices and structure maps are equal, floats within 1e-4 of the largest reference value (rounding over a few
hundred operations in another order).
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nvgbench.nvg.blocks import timestep_embedding
from nvgbench.nvg.checkpoint import load_published_state, to_published_key
from nvgbench.nvg.config import GranularityConfig, NvgModelConfig, NvgSamplingConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.layout import StageLayout
from nvgbench.nvg.objective import StageLosses, canvases_of, flow_inputs, stage_losses
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.sampler import NvgSampler, Sample
from nvgbench.nvg.structure_flow import flow_times
from nvgbench.parity.filler import fill_nvg, fill_nvg_state
from nvgbench.types import TokenSequence

TOLERANCE = 1e-4
LAYOUT = StageLayout((16, 16))


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    folder = importlib.resources.files("nvgbench.parity").joinpath("fixtures")
    facts = json.loads(folder.joinpath("nvg_public.json").read_text())
    with folder.joinpath("nvg_public.npz").open("rb") as handle:
        archive = np.load(handle)
        arrays = {name: archive[name] for name in archive.files if name[:2] in ("D.", "E.")}
    return {**facts, "arrays": arrays}


@pytest.fixture(scope="module")
def generator(golden: dict[str, Any]) -> NvgGenerator:
    settings = golden["config"]["D"]
    config = NvgModelConfig(depth=settings["depth"], drop_path=0.0)
    model = NvgGenerator(config, LAYOUT, channels=32, codebook_size=64, num_classes=settings["num_classes"])
    state = {key: torch.from_numpy(value) for key, value in fill_nvg_state(settings["state_dict"]).items()}
    state["scale_factors"] = torch.from_numpy(golden["arrays"]["E.scale_factors"])
    load_published_state(model, state)
    return model.eval()


@pytest.fixture(scope="module")
def quantizer() -> GranularityQuantizer:
    module = GranularityQuantizer(GranularityConfig(), 64, 32, (16, 16))
    with torch.no_grad():
        module.codebook.weight.copy_(torch.from_numpy(fill_nvg("quantize.embedding.weight", (64, 32))))
        for stage, refiner in enumerate(module.refiners):
            for name, value in refiner.conv.named_parameters():
                value.copy_(torch.from_numpy(fill_nvg(f"quantize.quant_resi.{stage}.{name}", tuple(value.shape))))
    return module.eval()


def close(ours: Tensor, reference: np.ndarray) -> None:
    assert tuple(ours.shape) == reference.shape
    np.testing.assert_allclose(ours.detach().numpy(), reference, rtol=0, atol=TOLERANCE * np.abs(reference).max())


def teacher_forced(golden: dict[str, Any], generator: NvgGenerator) -> tuple[Any, Any, StageLosses]:
    """Outputs, flow inputs and losses for the stored canvases, indices, noise and times."""
    arrays = golden["arrays"]
    stored_BSLX = torch.from_numpy(arrays["D.nvg_input_output"])
    structure_BL = stored_BSLX[:, -1, :, 33].long()
    tokens = tokens_of(stored_BSLX)
    t_BT = torch.from_numpy(arrays["D.u"]).flatten(1).sigmoid()
    flow = flow_inputs(generator, structure_BL, torch.from_numpy(arrays["D.epsilon"])[:, 0], t_BT)
    output = generator(stored_BSLX[..., :32], structure_BL, flow.z_BTLK, t_BT, torch.from_numpy(arrays["D.class"]))
    losses = stage_losses(output, flow, tokens, torch.from_numpy(arrays["D.final_target"]))
    return output, flow, losses


def tokens_of(stored_BSLX: Tensor) -> TokenSequence:
    """Index a cluster from index and label a position."""
    indices = []
    for stage, clusters in enumerate(LAYOUT.tokens):
        index_BL, labels_BL = stored_BSLX[:, stage, :, 32].long(), stored_BSLX[:, stage, :, 33].long()
        indices.append(torch.zeros(len(index_BL), clusters, dtype=torch.int64).scatter_(1, labels_BL, index_BL))
    return TokenSequence(tuple(indices), stored_BSLX[:, -1, :, 33].long())


def test_canvases_of_the_tokens_are_the_stored_ones(golden: dict[str, Any], quantizer: GranularityQuantizer) -> None:
    stored_BSLX = torch.from_numpy(golden["arrays"]["D.nvg_input_output"])
    before_BSLC, final_BLC = canvases_of(quantizer, tokens_of(stored_BSLX))
    close(before_BSLC, stored_BSLX[..., :32].numpy())
    close(final_BLC, golden["arrays"]["D.final_target"])


def test_teacher_forced_outputs_and_losses(golden: dict[str, Any], generator: NvgGenerator) -> None:
    arrays = golden["arrays"]
    with torch.no_grad():
        output, flow, losses = teacher_forced(golden, generator)
    close(output.final_BSLC, arrays["D.x0_hat"])
    close(flow.noise_BTLK - output.velocity_BTLK, arrays["D.structure_x0"])
    assert np.array_equal(flow.data_BLK.numpy(), arrays["D.structure_target"].astype(np.float32))
    close(output.logits_BNV, arrays["D.content_logits"])
    close(output.logits_BNV.logsumexp(-1), arrays["D.content_logsumexp"])
    assert np.array_equal(output.logits_BNV.argmax(-1).numpy(), arrays["D.content_argmax"])
    terms = arrays["D.loss_terms"]
    close(losses.canvas_S.double(), terms[:, 0])
    close(losses.tokens_S.double(), terms[:, 1])
    close(losses.accuracy_S.double(), terms[:, 2])
    close(losses.structure_T.double(), terms[:7, 3])
    close(losses.total(), arrays["D.loss"])


def test_gradient_norms(golden: dict[str, Any], generator: NvgGenerator) -> None:
    generator.zero_grad()
    teacher_forced(golden, generator)[2].total().backward()
    norms = {to_published_key(name): float(value.grad.norm()) for name, value in generator.named_parameters()}
    assert norms.keys() == golden["grad_norms"].keys()
    for name, reference in golden["grad_norms"].items():
        # A norm sums the roundings of its entries; the smallest are 1e-4 of the largest, so each is held to its own size.
        assert norms[name] == pytest.approx(reference, rel=1e-3), name


def sample(golden: dict[str, Any], generator: NvgGenerator, quantizer: GranularityQuantizer, name: str) -> Sample:
    settings = golden["config"][f"D.{name}."]
    guidance = {"content_guidance": (1.0, 3.5), "structure_guidance": (1.0, 2.5)}
    if not settings["cfg"]:
        guidance = {"content_guidance": (1.0, 1.0), "structure_guidance": (1.0, 1.0)}
    sampler = NvgSampler(generator, quantizer, NvgSamplingConfig(flow_steps=settings["n"], top_k=1, **guidance))
    if settings["cfg"]:
        assert sampler.content_guidance == settings["content_cfg"]
        assert sampler.structure_guidance == settings["structure_cfg"]
    labels_B = torch.from_numpy(golden["arrays"][f"D.{name}.class"])
    noise_BLK = torch.from_numpy(golden["arrays"][f"D.{name}.noise"])
    with torch.inference_mode():
        return sampler.sample(labels_B, noise_BLK, lambda n: torch.zeros(len(labels_B), n), keep_stages=True)


@pytest.mark.parametrize("name", ["sample_cfg", "sample_nocfg"])
def test_sampling(golden: dict[str, Any], generator: NvgGenerator, quantizer: GranularityQuantizer, name: str) -> None:
    arrays = {key.removeprefix(f"D.{name}."): value for key, value in golden["arrays"].items() if f"D.{name}." in key}
    result = sample(golden, generator, quantizer, name)
    assert np.array_equal(torch.stack([state.labels_BL for state in result.stages], 1).numpy(), arrays["structure"])
    placed = [index.gather(1, state.labels_BL) for index, state in zip(result.tokens.indices, result.stages, strict=True)]
    assert np.array_equal(torch.stack(placed, 1).numpy(), arrays["content"])
    close(torch.stack([state.canvas_BLC for state in result.stages], 1), arrays["canvas"])
    scores = [state.scores_BLb for state in result.stages]
    assert scores.pop() is None
    close(torch.cat(scores, -1).transpose(1, 2), arrays["scores"])
    close(torch.cat([state.logits_BnV for state in result.stages], 1), arrays["logits"])
    close(result.stages[-1].final_BLC, arrays["x0_hat"])
    assert torch.equal(result.canvas_BLC, result.stages[-1].canvas_BLC)
    assert torch.equal(result.tokens.labels_BL, result.stages[-1].labels_BL)


def test_single_steps_from_encoded_canvases(
    golden: dict[str, Any], generator: NvgGenerator, quantizer: GranularityQuantizer
) -> None:
    arrays = golden["arrays"]
    stored_BSLX = torch.from_numpy(arrays["D.nvg_input_output"])
    labels_B = torch.from_numpy(arrays["D.class"])
    noise_BLK = torch.from_numpy(arrays["D.step.noise"])
    sampler = NvgSampler(generator, quantizer, NvgSamplingConfig(flow_steps=4, top_k=1))
    logits, scores = [], []
    with torch.inference_mode():
        for stage in range(LAYOUT.stages):
            canvas_BLC, structure_BL = stored_BSLX[:, stage, :, :32], stored_BSLX[:, stage, :, 33].long()
            logits_BnV, final_BLC = sampler.content_logits(canvas_BLC, structure_BL, stage, labels_B)
            logits.append(logits_BnV)
            tokens_Bn = logits_BnV.argmax(-1)
            assert np.array_equal(tokens_Bn.gather(1, structure_BL).numpy(), arrays["D.step.content"][:, stage])
            after_BLC = canvas_BLC + quantizer.refine(tokens_Bn, structure_BL, stage)
            close(after_BLC, arrays["D.step.canvas"][:, stage])
            if stage == 4:
                close(final_BLC, arrays["D.step.x0_hat_stage4"])
            if stage < LAYOUT.last:
                scores_BLb = sampler.structure_scores(after_BLC, structure_BL, stage, labels_B, noise_BLK)
                scores.append(scores_BLb)
                split_BL = sampler._split(structure_BL, stage, scores_BLb, lambda n: torch.zeros(2, n))
                assert np.array_equal(split_BL.numpy(), arrays["D.step.next_structure"][:, stage])
    close(torch.cat(logits, 1), arrays["D.step.logits"])
    close(torch.cat(scores, -1).transpose(1, 2), arrays["D.step.scores"])


@pytest.mark.parametrize("steps", [5, 25, 50])
def test_flow_times(golden: dict[str, Any], steps: int) -> None:
    np.testing.assert_allclose(flow_times(steps, "shifted", 256), golden["arrays"][f"E.schedule_{steps}_256"], atol=1e-6)


def test_timestep_embedding(golden: dict[str, Any]) -> None:
    close(timestep_embedding(torch.from_numpy(golden["arrays"]["E.t"])), golden["arrays"]["E.timestep_embedding_64"])


def test_rope_ids_and_rotations(golden: dict[str, Any], generator: NvgGenerator) -> None:
    arrays = golden["arrays"]
    undecided_BLK = torch.ones(1, 256, 8)
    # The stored buffer holds what does not depend on the image: its structure axes are not set.
    ids = generator.content.rope.ids(undecided_BLK)[0].numpy()
    stored = arrays["E.rope_ids"]
    fixed = [0, 9, 10]
    assert np.array_equal(ids[:, fixed], stored[:, fixed])
    assert np.array_equal(ids[0], stored[0])
    se_BLK = torch.from_numpy(arrays["E.struct_feat_stage3"]).float()
    for part in ("content", "structure"):
        positions = torch.from_numpy(arrays[f"E.rope_{part}_pos"]).long()
        unit = getattr(generator, part).rope(se_BLK).unit_B1NP[0, 0, positions]
        cos, sin = unit.real, unit.imag
        close(torch.stack((cos, -sin, sin, cos), -1).unflatten(-1, (2, 2)), arrays[f"E.rope_{part}"])


def test_stage_embeddings(golden: dict[str, Any], generator: NvgGenerator) -> None:
    stored_BSLX = torch.from_numpy(golden["arrays"]["D.nvg_input_output"])
    se_BSLK = generator.stage_embeddings(stored_BSLX[:, -1, :, 33].long())
    for stage in range(9):
        labels_BL = stored_BSLX[:, stage, :, 33].long()
        assert torch.equal(LAYOUT.coarser(stored_BSLX[:, -1, :, 33].long(), 8, stage), labels_BL)
    assert np.array_equal(se_BSLK.numpy(), golden["arrays"]["E.struct_feat_all"].astype(np.float32))
