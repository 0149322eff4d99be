"""The tokenizer's training objective: which gradients go where, what is logged, what a checkpoint restores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nvgbench.autoencoder.objective import TokenizerObjective, codebook_use
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import DataConfig, PhaseConfig, RunConfig, TokenizerConfig, TokenizerLossConfig, TrainConfig
from nvgbench.errors import InputError
from nvgbench.nvg.config import GranularityConfig
from nvgbench.nvg.tokenizer import build_tokenizer
from nvgbench.types import ImageBatch, TokenSequence


def make_config(**losses: Any) -> RunConfig:
    phase = PhaseConfig(steps=10, batch_size=4, learning_rate=1e-3)
    tokenizer = TokenizerConfig(
        base_channels=16,
        norm_groups=4,
        channel_multipliers=(1, 2),
        encoder_blocks=1,
        decoder_blocks=1,
        latent_channels=4,
        codebook_size=16,
        quantizer=GranularityConfig(),
        losses=TokenizerLossConfig(**losses),
    )
    data = DataConfig(source="shapes", image_size=16)
    return RunConfig(
        name="t", family="nvg", data=data, tokenizer=tokenizer, train=TrainConfig(tokenizer=phase, generator=phase)
    )


def make_objective(**losses: Any) -> TokenizerObjective:
    torch.manual_seed(0)
    config = make_config(**losses)
    return TokenizerObjective(config, build_tokenizer(config), total_steps=10)


BATCH = ImageBatch(
    torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1, torch.zeros(4, dtype=torch.int64)
)


def run(objective: TokenizerObjective, step: int = 5) -> list[tuple[str, Tensor, dict[str, Tensor]]]:
    return list(objective.losses(BATCH, torch.Generator().manual_seed(2), step))


def touched(module: nn.Module) -> set[str]:
    return {
        name for name, parameter in module.named_parameters() if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


def test_each_loss_reaches_its_own_module_only() -> None:
    objective = make_objective(adversarial="patch")
    tokenizer, discriminator = objective.modules["tokenizer"], objective.modules["discriminator"]
    source = objective.losses(BATCH, torch.Generator().manual_seed(2), 5)

    name, loss, _ = next(source)
    assert name == "tokenizer"
    loss.backward()
    assert "encoder.stem.weight" in touched(tokenizer)
    assert "decoder.head.weight" in touched(tokenizer)
    assert not touched(discriminator)

    tokenizer.zero_grad()
    name, loss, _ = next(source)
    assert name == "discriminator"
    loss.backward()
    assert not touched(tokenizer)
    assert touched(discriminator)
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_the_adversarial_gradient_reaches_the_encoder() -> None:
    objective = make_objective(adversarial="patch", l1=0, codebook_weight=0, adversarial_weight=1.0)
    name, loss, logged = run(objective)[0]
    assert name == "tokenizer"
    assert loss.item() == pytest.approx(logged["adversarial"].item())
    loss.backward()
    assert "encoder.stem.weight" in touched(objective.modules["tokenizer"])


def test_adversarial_terms_begin_at_their_step() -> None:
    objective = make_objective(adversarial="patch", adversarial_start=3)
    assert [name for name, _, _ in run(objective, step=2)] == ["tokenizer"]
    assert "adversarial" not in run(objective, step=2)[0][2]
    assert [name for name, _, _ in run(objective, step=3)] == ["tokenizer", "discriminator"]


def test_the_total_is_the_weighted_sum_of_the_logged_terms() -> None:
    weights = {"l1": 0.5, "l2": 2.0, "codebook_weight": 3.0, "entropy_weight": 0.1}
    _, loss, logged = run(make_objective(**weights))[0]
    expected = 0.5 * logged["l1"] + 2.0 * logged["l2"] + 3.0 * logged["codebook"] + 0.1 * logged["entropy"]
    torch.testing.assert_close(loss.detach(), expected)
    assert not any(value.requires_grad for value in logged.values())


def test_soft_quantization_ends_with_its_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = make_objective(soft_fraction=0.3)
    seen = []
    original = ConvTokenizer.forward

    def spy(self: ConvTokenizer, images: Tensor, soft: bool = False) -> Any:
        seen.append(soft)
        return original(self, images, soft)

    monkeypatch.setattr(ConvTokenizer, "forward", spy)
    for step in (0, 2, 3, 9):
        run(objective, step)
    assert seen == [True, True, False, False]


def test_saturated_pixels_get_no_gradient() -> None:
    objective = make_objective(codebook_weight=0)
    with torch.no_grad():
        objective.modules["tokenizer"].decoder.head.bias.fill_(50.0)
    _, loss, _ = run(objective)[0]
    loss.backward()
    assert not touched(objective.modules["tokenizer"])


def test_running_statistics_of_the_discriminator_are_in_its_state() -> None:
    objective = make_objective(adversarial="patch")
    run(objective)
    state = objective.modules["discriminator"].state_dict()
    assert state["lecam.real_mean"].item() != 0
    assert state["lecam.fake_mean"].item() != 0


def test_the_same_generator_gives_the_same_losses() -> None:
    objective = make_objective(adversarial="patch", lecam_weight=0.0)
    first, second = run(objective), run(objective)
    for (_, loss, _), (_, again, _) in zip(first, second, strict=True):
        assert torch.equal(loss, again)


def test_an_objective_without_loss_networks_notes_it() -> None:
    objective = make_objective()
    assert list(objective.modules) == ["tokenizer"]
    assert objective.notes == ("perceptual loss: none", "adversarial loss: none")


def test_an_entropy_weight_needs_a_quantizer_with_entropy() -> None:
    config = make_config(entropy_weight=0.1)
    tokenizer = build_tokenizer(config)
    tokenizer.quantizer.entropy = False
    with pytest.raises(InputError, match="entropy_weight=0"):
        run(TokenizerObjective(config, tokenizer, total_steps=10))


def test_codebook_use() -> None:
    tokens = TokenSequence((torch.tensor([[0], [1]]), torch.tensor([[0, 1], [0, 1]])))
    use = codebook_use(tokens, 8)
    assert use["codes_used"].item() == pytest.approx(0.25)
    assert use["perplexity"].item() == pytest.approx(2.0, rel=1e-5)


def test_a_small_tokenizer_learns_and_its_codebook_stays_alive() -> None:
    objective = make_objective(soft_fraction=0.1)
    optimizer = torch.optim.AdamW(objective.modules["tokenizer"].parameters(), 3e-3, weight_decay=0.0)
    rng = torch.Generator().manual_seed(0)
    # Two flat halves of random colours per image: one code is not enough, and learning is quick.
    halves = (torch.rand(64, 3, 1, 2, generator=rng) * 2 - 1).repeat_interleave(8, dim=3).expand(-1, -1, 16, -1)
    history = []
    for step in range(80):
        rows = torch.randint(64, (16,), generator=rng)
        _, loss, logged = next(objective.losses(ImageBatch(halves[rows], rows), rng, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(logged)
    first, last = (sum(entry["l1"].item() for entry in part) / 5 for part in (history[:5], history[-5:]))
    assert last < 0.75 * first
    assert history[-1]["codes_used"].item() > 0.5
