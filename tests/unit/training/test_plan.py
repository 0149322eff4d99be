"""What a machine makes of a preset, and what it would cost."""

from __future__ import annotations

import pytest
import torch

from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.runs.seeding import mix_seed, reseed
from nvgbench.training.dry_run import describe, estimate
from nvgbench.training.plan import phase_steps, resolve_config
from nvgbench.training.precision import resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_large_batches_are_reduced_on_a_cpu_only() -> None:
    config = load_preset("nvg-d16", ["train.generator.micro_batch_size=64"])
    same, warnings = resolve_config(config, CUDA)
    assert (same, warnings) == (config, [])
    cut, warnings = resolve_config(config, CPU)
    limit = config.train.cpu_batch_size
    assert (cut.train.tokenizer.batch_size, cut.train.generator.batch_size) == (limit, limit)
    assert cut.train.generator.micro_batch_size is None
    assert len(warnings) == 2
    assert f"reduced from 768 to {limit}" in warnings[1]
    assert resolve_config(cut, CPU) == (cut, [])


def test_small_batches_stay() -> None:
    batches = ["train.cpu_batch_size=16", "train.tokenizer.batch_size=32", "train.generator.batch_size=16"]
    config = load_preset("nvg-tiny", batches)
    cut, warnings = resolve_config(config, CPU)
    assert (cut.train.tokenizer.batch_size, cut.train.generator.batch_size) == (16, 16)
    assert len(warnings) == 1


def test_steps_follow_from_epochs_unless_they_are_given() -> None:
    # the paper: 200 epochs at batch 768 are 333K steps
    assert phase_steps(load_preset("nvg-d16"), "generator", 1_281_167) == 333_637
    assert phase_steps(load_preset("nvg-d16", ["train.steps=7"]), "generator", 1_281_167) == 7
    assert phase_steps(load_preset("nvg-d16", ["train.generator.steps=9"]), "generator", 1_281_167) == 9
    assert phase_steps(load_preset("nvg-d16", ["train.generator.epochs=0.001"]), "generator", 10) == 1


def test_frozen_parameters_need_memory_for_their_weights_alone() -> None:
    whole = estimate(load_preset("nvg-tiny"), CPU)
    part = estimate(load_preset("nvg-tiny", ["train.generator.frozen=['content.*']"]), CPU)
    content = whole.parameters["content"]
    before, after = whole.phases["generator"].memory, part.phases["generator"].memory
    saved = {what: before[what] - after[what] for what in before if not what.startswith("activations")}
    expected = {"weights": 0, "gradients": 4 * content, "optimizer (two moments)": 8 * content, "average (EMA)": 4 * content}
    assert saved == expected


def test_estimate_of_the_papers_model() -> None:
    found = estimate(load_preset("nvg-d16"), CPU)
    assert (found.images, found.classes) == (1_281_167, 1000)
    assert found.parameters["content"] == pytest.approx(255e6, rel=0.01)
    assert found.parameters["structure"] == pytest.approx(64e6, rel=0.01)
    assert found.phases["generator"].flops == pytest.approx(found.training_flops * 333_637 * 768)
    assert found.phases["tokenizer"].memory["weights"] == 4 * found.parameters["tokenizer"]
    text = describe(found)
    for part in ("1,281,167 training images", "333,637 steps", "estimate", "EFLOP"):
        assert part in text, part
    assert "training on this CPU would reduce the generator batch from 768 to" in text
    assert "would reduce" not in describe(estimate(load_preset("nvg-d16"), CUDA))


@pytest.mark.parametrize(
    ("name", "flops", "passes", "whole", "training"),
    [
        ("nvg-d16", 19.07e12, "325 passes: 7 stages x 25, twice where guided", "21.5 TFLOP", "3 forward passes"),
        ("nvg-d16-onestep", 0.763e12, "13 passes: 7 stages x 1, twice where guided", "3.21 TFLOP", "4 forward passes"),
    ],
)
def test_the_cost_of_structure_is_explained(name: str, flops: float, passes: str, whole: str, training: str) -> None:
    found = estimate(load_preset(name), CPU)
    assert found.sampling_flops["structure"] == pytest.approx(flops, rel=1e-3)
    assert f"({passes})" in describe(found)
    assert f"{whole}\nFLOPs of generator training" in describe(found)  # the last of the parts is their sum
    assert f"(the structure takes {training} per stage)" in describe(found)


@pytest.mark.parametrize("name", ["var-tiny", "ar-tiny"])
def test_estimate_of_other_families(name: str) -> None:
    found = estimate(load_preset(name, ["data.train_images=100"]), CPU)
    assert (found.images, found.classes) == (100, 10)
    assert all(phase.flops for phase in found.phases.values())


def test_estimate_of_a_folder_that_is_not_there() -> None:
    with pytest.raises(InputError, match="nowhere"):
        estimate(load_preset("nvg-tiny", data="imagefolder:/nowhere"), CPU)


def test_precision_on_a_cpu() -> None:
    assert [resolve_precision(choice, CPU) for choice in ("auto", "fp32", "bf16")] == ["fp32", "fp32", "bf16"]


def test_seeds_differ_in_every_part_and_are_the_same_in_every_process() -> None:
    seeds = {mix_seed(seed, rank, phase, step) for seed in (0, 1) for rank in (0, 1) for phase in "ab" for step in range(50)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_seed(0, 0, "tokenizer", 0) == mix_seed(0, 0, "tokenizer", 0)
    assert mix_seed(1, 23) != mix_seed(12, 3)


def test_reseeding_repeats_both_streams() -> None:
    rng = torch.Generator()
    draws = []
    for _ in range(2):
        reseed(rng, 1, 2, 3)
        draws.append((torch.rand(3), torch.rand(3, generator=rng)))
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(*draws[0])
