"""Section D, sampling: whole samples stage by stage, and single steps from encoded canvases.

Shape letters: B batch, S stages, L positions, C latent channels, K structure channels, V codebook size, n clusters of a stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.sampler import NvgSampler, Sample
from nvgbench.nvg.structure import split_clusters
from nvgbench.nvg.verification import models
from nvgbench.nvg.verification.generators import kept_columns, stored_input
from nvgbench.parity.ledger import CHAINED_CHOICES, SINGLE_CHOICES, Ledger
from nvgbench.sampling.schedules import guidance_schedule

_SAMPLE, _STEP = re.compile(r"D\.(?!step\b)\w+\."), "D.step."


def check(ledger: Ledger) -> None:
    """Every sample of the configuration, and the single steps."""
    prefixes = [prefix for prefix in ledger.fixture.fact("config") if _SAMPLE.fullmatch(prefix) and ledger.named(prefix)]
    for prefix in prefixes:
        _check_sample(ledger, prefix)
    if ledger.named(_STEP):
        _check_steps(ledger)


def _sampler(ledger: Ledger, settings: Mapping[str, Any], steps: int) -> NvgSampler:
    """A sampler with the fixture's guidance, which can be any list.

    Raises:
        InputError: the sample needs random numbers, which fixtures do not store.
    """
    if settings.get("top_k", 1) != 1 or settings.get("use_gumbel_topk"):
        raise InputError("samples of fixtures use argmax (top_k 1, no Gumbel noise); random numbers are not stored")
    sampler = NvgSampler(
        models.generator(ledger), models.generator_quantizer(ledger), NvgSamplingConfig(flow_steps=steps, top_k=1)
    )
    stages = sampler.generator.layout.stages
    none = [1.0] * stages
    guided = settings.get("cfg", True)
    sampler.content_guidance = list(settings["content_cfg"]) if guided else none
    sampler.structure_guidance = list(settings["structure_cfg"]) if guided else none
    if len(sampler.content_guidance) != stages or len(sampler.structure_guidance) != stages:
        raise InputError(f"guidance of {len(sampler.content_guidance)} stages for a model of {stages}")
    return sampler


def _check_guidance(ledger: Ledger, prefix: str, settings: Mapping[str, Any]) -> None:
    """The schedules rise linearly; the reference stores them in bfloat16."""
    for name in ("content_cfg", "structure_cfg"):
        if settings.get(name):
            scales = settings[name]
            linear = torch.tensor(guidance_schedule(scales[0], scales[-1], len(scales))).bfloat16()
            ledger.equal(f"{prefix}{name}", linear.double(), "guidance schedule", stored=scales)


def _no_draw(batch: int, device: torch.device) -> Any:
    return lambda count: torch.zeros(batch, count, device=device)


def _check_sample(ledger: Ledger, prefix: str) -> None:
    settings = ledger.fixture.fact("config", prefix)
    _check_guidance(ledger, prefix, settings)
    ledger.inputs(f"{prefix}class", f"{prefix}noise")
    labels_B, noise_BLK = ledger.given(f"{prefix}class"), ledger.given(f"{prefix}noise")
    sampler = _sampler(ledger, settings, settings["n"])
    with torch.inference_mode():
        sample = sampler.sample(labels_B, noise_BLK, _no_draw(len(labels_B), labels_B.device), keep_stages=True)
    states = sample.stages
    decided = [f"{prefix}structure", f"{prefix}content"]
    ledger.equal(decided[0], torch.stack([state.structure_BL for state in states], 1), rounded=CHAINED_CHOICES)
    placed = [index.gather(1, state.structure_BL) for index, state in zip(sample.tokens.indices, states, strict=True)]
    ledger.equal(decided[1], torch.stack(placed, 1), rounded=CHAINED_CHOICES)
    ledger.close(f"{prefix}canvas", torch.stack([state.canvas_BLC for state in states], 1), follows=decided)
    _check_decisions(
        ledger,
        prefix,
        [state.scores_BLb for state in states if state.scores_BLb is not None],
        [state.logits_BnV for state in states],
        decided,
    )
    ledger.close(f"{prefix}x0_hat", states[-1].final_BLC, follows=decided)
    _check_result(ledger, prefix, sample, decided)


def _check_result(ledger: Ledger, prefix: str, sample: Sample, decided: list[str]) -> None:
    """The sample's final canvas and structure map are those of its last stage."""
    if ledger.has(f"{prefix}canvas"):
        stored_BLC = ledger.fixture.array(f"{prefix}canvas")[:, -1]
        ledger.close(f"{prefix}canvas", sample.canvas_BLC, "of the sample", stored=stored_BLC, follows=decided)
    if ledger.has(decided[0]):
        structure_BL = sample.tokens.structure_BL
        assert structure_BL is not None
        stored_BL = ledger.fixture.array(decided[0])[:, -1]
        ledger.equal(decided[0], structure_BL, "of the sample", stored=stored_BL, rounded=CHAINED_CHOICES)


def _check_decisions(
    ledger: Ledger, prefix: str, scores: list[Tensor], logits: list[Tensor], decided: list[str] | tuple[()] = ()
) -> None:
    """Scores of the splits and logits of the tokens."""
    ledger.close(f"{prefix}scores", torch.cat(scores, -1).transpose(1, 2), follows=decided)
    if ledger.has(f"{prefix}logits"):
        columns = ledger.fixture.array(f"{prefix}logits").shape[-1]
        ledger.close(f"{prefix}logits", kept_columns(torch.cat(logits, 1), columns), follows=decided)


def _check_steps(ledger: Ledger) -> None:
    """One content and one structure step per stage, each from the ENCODED canvas and structure of that stage."""
    sampler = _sampler(ledger, *_step_settings(ledger))
    layout = sampler.generator.layout
    packed_BSLX, labels_B, noise_BLK = stored_input(ledger), ledger.given("D.class"), ledger.given(f"{_STEP}noise")
    ledger.inputs(f"{_STEP}noise", "D.class")
    logits, finals, content, canvases, scores, structures = ([] for _ in range(6))
    with torch.inference_mode():
        for stage in range(layout.stages):
            canvas_BLC, structure_BL = packed_BSLX[:, stage, :, :-2], packed_BSLX[:, stage, :, -1].long()
            logits_BnV, final_BLC = sampler.content_logits(canvas_BLC, structure_BL, stage, labels_B)
            tokens_Bn = logits_BnV.argmax(-1)
            after_BLC = canvas_BLC + sampler.quantizer.refine(tokens_Bn, structure_BL, stage)
            logits.append(logits_BnV)
            finals.append(final_BLC)
            content.append(tokens_Bn.gather(1, structure_BL))
            canvases.append(after_BLC)
            if stage < layout.last:
                scores.append(sampler.structure_scores(after_BLC, structure_BL, stage, labels_B, noise_BLK))
                for bit, scores_BL in enumerate(scores[-1].unbind(-1)):
                    structure_BL = split_clusters(structure_BL, layout.known(stage) + bit, scores_BL)
                structures.append(structure_BL)
    ledger.equal(f"{_STEP}content", torch.stack(content, 1), rounded=SINGLE_CHOICES)
    follows = [f"{_STEP}content"]
    ledger.close(f"{_STEP}canvas", torch.stack(canvases, 1), follows=follows)
    ledger.equal(f"{_STEP}next_structure", torch.stack(structures, 1), rounded=SINGLE_CHOICES)
    _check_decisions(ledger, _STEP, scores, logits, follows)
    for name in ledger.named(f"{_STEP}x0_hat_stage"):
        ledger.close(name, finals[ledger.fixture.settings[name]["stage"]])


def _step_settings(ledger: Ledger) -> tuple[Mapping[str, Any], int]:
    """Guidance and flow steps; by default those of the guided sample, and four."""
    own = ledger.fixture.settings.get("D.step", {})
    steps = own.get("n", 4)
    if "cfg" in own:
        return own, steps
    config = ledger.fixture.fact("config")
    guided = next((found for prefix, found in config.items() if _SAMPLE.fullmatch(prefix) and found.get("cfg")), None)
    if guided is None:
        raise InputError(f"{ledger.fixture.name} is incomplete: neither settings of D.step nor a guided sample")
    return guided, steps
