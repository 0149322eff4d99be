"""Sampling and a training step of NVG against plain loops of their published steps: ``pytest benchmarks -k speed -s``.

The plain loops call the networks as the paper writes them: each branch of guidance by itself, modulation and rotation anew at
every flow step, blocks whose operations return new tensors; in training one stage after another, and AdamW parameter by
parameter. Both sides of a ratio run in turns in one process, in CPU time, so that others on the machine disturb both alike.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.config.load import load_preset
from nvgbench.data.images import to_uint8
from nvgbench.nvg import blocks
from nvgbench.nvg.objective import canvases_of
from nvgbench.nvg.quantizer import cluster_means
from nvgbench.nvg.structure import split_clusters, structure_embedding
from nvgbench.runs.models import untrained_generator
from nvgbench.sampling.filters import choose_tokens
from nvgbench.sampling.noise import SeededNoise
from nvgbench.sampling.schedules import guidance_schedule, top_p_schedule
from nvgbench.training.trial import Trial
from nvgbench.types import SampleRequest

CPU = torch.device("cpu")
BATCH, CLASSES, ROUNDS = 8, 10, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images() -> Any:
    return untrained_generator(load_preset("nvg-tiny"), CLASSES, seed=0)


@torch.no_grad()
def plain_samples(images: Any, labels_B: Tensor, seeds_B: Tensor) -> Tensor:
    """Algorithm 2 as a loop, uint8 ``[B, 3, H, W]``."""
    generator, settings = images.generator, images.settings
    content, structure, layout = generator.content, generator.structure, generator.layout
    noise = SeededNoise(seeds_B, labels_B.device)
    noise_BLK = noise.normal(layout.positions, layout.channels)
    scales = [guidance_schedule(*pair, layout.stages) for pair in (settings.content_guidance, settings.structure_guidance)]
    top_p = top_p_schedule(*settings.top_p, layout.stages)
    branches = labels_B, torch.full_like(labels_B, generator.num_classes)
    canvas_BLC = torch.zeros(len(labels_B), *content.start_1LC.shape[1:])
    structure_BL = torch.zeros(len(labels_B), layout.positions, dtype=torch.int64)

    def guided(scale: float, branch: Callable[[Tensor], Tensor]) -> Tensor:
        conditional, unconditional = (branch(labels) for labels in branches)
        return unconditional + scale * (conditional - unconditional)

    for stage in range(layout.stages):
        stage_B = torch.full_like(labels_B, stage)
        se_BLK = structure_embedding(structure_BL, layout.known(stage), layout.channels)

        def logits(labels: Tensor) -> Tensor:
            final_BLC = content(canvas_BLC, se_BLK, stage_B, labels)  # noqa: B023 - called within this round
            return content.token_logits(cluster_means(final_BLC - canvas_BLC, structure_BL, layout.tokens[stage]))  # noqa: B023

        uniforms_Bn = noise.uniform(layout.tokens[stage])
        random_split = settings.gumbel and stage < layout.structure_stages
        gumbel = [noise.uniform(layout.positions) for _ in range(layout.bits if random_split else 0)]
        tokens_Bn = choose_tokens(
            guided(scales[0][stage], logits), uniforms_Bn,
            temperature=settings.temperature, top_k=settings.top_k, top_p=top_p[stage],
        )  # fmt: skip
        canvas_BLC = canvas_BLC + images.quantizer.refine(tokens_Bn, structure_BL, stage)
        if stage == layout.last:
            break
        z_BLK, known = noise_BLK, layout.known(stage)
        if stage < layout.structure_stages:
            z_BLK = torch.cat((se_BLK[..., :known] - 1, z_BLK[..., known:]), dim=-1)
            for now, later in itertools.pairwise(generator.flow.times(settings)):
                t_B = torch.full((len(labels_B),), now)

                def velocity(labels: Tensor) -> Tensor:
                    return structure(z_BLK, t_B, canvas_BLC, se_BLK, stage_B, labels)  # noqa: B023

                z_BLK = z_BLK + (later - now) * guided(scales[1][stage], velocity)
                z_BLK = torch.cat((se_BLK[..., :known] - 1, z_BLK[..., known:]), dim=-1)
        for bit in range(layout.bits):
            uniforms_BL = gumbel[bit] if gumbel else None
            scores_BL = z_BLK[..., known + bit]
            structure_BL = split_clusters(structure_BL, known + bit, scores_BL, uniforms_BL=uniforms_BL)
    return to_uint8(images.tokenizer.decode(canvas_BLC.transpose(1, 2).unflatten(2, layout.grid)))


def test_sampling_speed_against_a_plain_loop(
    images: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order_B = torch.arange(BATCH)
    request = SampleRequest(labels_B=order_B % CLASSES, seeds_B=order_B)

    def plain() -> Tensor:
        with monkeypatch.context() as patched:
            patched.setattr(blocks, "is_plain", lambda x_BNW: False)
            return plain_samples(images, order_B % CLASSES, order_B)

    ours_B3HW, plain_B3HW = images.generate(request).images_B3HW, plain()
    # Products of other shapes round differently: a token near a tie may flip, and with it its image.
    assert ((ours_B3HW.int() - plain_B3HW.int()).abs().amax(dim=(1, 2, 3)) <= 1).float().mean() >= 0.75
    report("sampling, nvg-tiny", ratios(plain, lambda: images.generate(request)), capsys)


def test_training_speed_against_a_plain_loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same losses, forward and backward, and a step of AdamW without clipping and average."""
    config = load_preset("nvg-tiny", ["model.label_drop=0", "model.drop_path=0", "model.alignment=none"])
    trial = Trial(config, CLASSES, CPU)
    objective: Any = trial._objective
    batch, generator, flow = trial._batch(BATCH), trial._generator.train(), objective._flow
    layout, rng = generator.layout, torch.Generator()
    slow = torch.optim.AdamW(generator.parameters(), lr=0.0, foreach=False, fused=False)
    quick = torch.optim.AdamW(generator.parameters(), lr=0.0, fused=True)

    def plain_loss() -> Tensor:
        tokens, labels_B = batch.tokens, batch.labels_B
        noised = flow.draw(tokens.structure_BL, rng.manual_seed(0))
        before_BSLC, final_BLC = canvases_of(objective.tokenizer, tokens)
        se_BSLK = generator.stage_embeddings(tokens.structure_BL)
        total = torch.zeros(())
        for stage in range(layout.stages):
            stage_B = torch.full_like(labels_B, stage)
            predicted_BLC = generator.content(before_BSLC[:, stage], se_BSLK[:, stage], stage_B, labels_B)
            structure_BL = layout.coarser(tokens.structure_BL, layout.last, stage)
            means_BnC = cluster_means(predicted_BLC - before_BSLC[:, stage], structure_BL, layout.tokens[stage])
            entropy = F.cross_entropy(generator.content.token_logits(means_BnC).flatten(0, 1), tokens.indices[stage].flatten())
            total = total + ((predicted_BLC - final_BLC).square().mean() + entropy) / layout.stages
            if stage < layout.structure_stages:
                velocity_BLK = generator.structure(
                    noised.z_BTLK[:, stage],
                    noised.t_BT[:, stage],
                    before_BSLC[:, stage + 1],
                    se_BSLK[:, stage],
                    stage_B,
                    labels_B,
                )
                error_BLK = noised.noise_BTLK[:, stage] - velocity_BLK - noised.data_BLK
                total = total + error_BLK.square().mean() / layout.structure_stages
        return total

    def our_loss() -> Tensor:
        ((_, loss, _),) = objective.losses(batch, rng.manual_seed(0), 0)
        return loss

    def step(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def run() -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run

    assert float(our_loss()) == pytest.approx(float(plain_loss()), rel=1e-5)  # sums in another order

    def plain_step() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(blocks, "is_plain", lambda x_BNW: False)
            step(plain_loss, slow)()

    report("training step, nvg-tiny", ratios(plain_step, step(our_loss, quick)), capsys)


def ratios(plain: Callable[[], object], ours: Callable[[], object]) -> list[float]:
    """Sorted ratios of CPU time, after a call of each."""
    plain(), ours()
    return sorted(_cpu_seconds(plain) / _cpu_seconds(ours) for _ in range(ROUNDS))


def _cpu_seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def report(what: str, found: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{what}: {found[len(found) // 2]:.2f} times as fast as the plain loop ({found[0]:.2f} to {found[-1]:.2f})")
