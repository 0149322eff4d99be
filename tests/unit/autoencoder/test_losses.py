"""Loss terms, augmentation and discriminators."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nvgbench.autoencoder.augment import augment
from nvgbench.autoencoder.discriminator import FeatureDiscriminator, PatchDiscriminator
from nvgbench.autoencoder.losses import LecamRegularizer, generator_loss, hinge_loss


def test_generator_loss_judges_the_mean_logit_of_each_image() -> None:
    fake_BN = torch.tensor([[3.0, -3.0], [1.0, 3.0]])
    expected = (math.log(2) + math.log(1 + math.exp(-2.0))) / 2
    assert generator_loss(fake_BN).item() == pytest.approx(expected, rel=1e-6)


def test_hinge_loss_is_zero_beyond_the_margin() -> None:
    assert hinge_loss(torch.tensor([[1.5]]), torch.tensor([[-1.0]])).item() == 0.0
    assert hinge_loss(torch.tensor([[0.0]]), torch.tensor([[0.5]])).item() == pytest.approx(0.5 * (1 + 1.5))


def test_lecam_follows_the_logits_and_survives_a_checkpoint() -> None:
    lecam = LecamRegularizer(decay=0.5)
    real_BN, fake_BN = torch.full((2, 3), 4.0, requires_grad=True), torch.full((2, 3), -2.0)
    value = lecam(real_BN, fake_BN)
    assert (lecam.real_mean.item(), lecam.fake_mean.item()) == (2.0, -1.0)
    assert value.item() == pytest.approx((4 + 1) ** 2 + (2 + 2) ** 2)
    value.backward()
    assert real_BN.grad is not None
    restored = LecamRegularizer()
    restored.load_state_dict(lecam.state_dict())
    assert restored.real_mean.item() == 2.0


def test_augmentation_depends_on_the_generator_alone_and_passes_gradients() -> None:
    images_B3HW = torch.rand(4, 3, 16, 16, requires_grad=True)
    first = augment(images_B3HW, torch.Generator().manual_seed(3))
    assert torch.equal(first, augment(images_B3HW, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, augment(images_B3HW, torch.Generator().manual_seed(4)))
    assert first.shape == images_B3HW.shape
    first.sum().backward()
    assert images_B3HW.grad is not None
    assert images_B3HW.grad.abs().amax((1, 2, 3)).min().item() > 0


def test_augmentation_moves_and_cuts_as_far_as_it_says() -> None:
    images_B3HW = torch.ones(256, 3, 16, 16)
    moved = augment(images_B3HW, torch.Generator().manual_seed(0), shift=0.25, cutout=0.0)
    empty_rows = (moved == 0).all(1).all(2).sum(1)
    assert set(empty_rows.tolist()) == {0, 1, 2, 3, 4}
    cut = augment(images_B3HW, torch.Generator().manual_seed(0), shift=0.0, cutout=0.5)
    # A shift of 0 still moves by up to one pixel; the hole covers at most half the side.
    assert int((cut == 0).all(1).sum((1, 2)).max()) <= 64 + 2 * 16
    assert int((cut == 0).all(1).sum((1, 2)).max()) >= 64


def test_colours_of_a_grey_image_stay_grey() -> None:
    grey = torch.rand(8, 1, 16, 16).expand(-1, 3, -1, -1)
    changed = augment(grey, torch.Generator().manual_seed(1))
    torch.testing.assert_close(changed[:, 0], changed[:, 1])


@pytest.mark.parametrize(("size", "halvings", "logits"), [(32, 2, 64), (64, 3, 64)])
def test_patch_discriminator_judges_patches(size: int, halvings: int, logits: int) -> None:
    network = PatchDiscriminator(channels=8, halvings=halvings)
    assert network(torch.rand(2, 3, size, size)).shape == (2, logits)


def test_discriminators_learn_to_tell_two_kinds_apart() -> None:
    torch.manual_seed(0)
    real, fake = torch.rand(16, 3, 16, 16), torch.rand(16, 3, 16, 16).round()
    features_real, features_fake = ([torch.randn(16, 9, 32) + shift for _ in range(2)] for shift in (1.0, -1.0))
    cases: list[tuple[nn.Module, object, object]] = [
        (PatchDiscriminator(channels=8, halvings=2), real, fake),
        (FeatureDiscriminator(32, 2), features_real, features_fake),
    ]
    for network, yes, no in cases:
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(30):
            loss = hinge_loss(network(yes), network(no))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.3
