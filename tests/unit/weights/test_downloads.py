"""Loss networks with published weights: found in torch hub's folder, downloaded, or refused in one line."""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path

import pytest
import torch

from nvgbench.autoencoder import dino
from nvgbench.autoencoder.dino import DinoFeatures
from nvgbench.autoencoder.discriminator import PatchDiscriminator, build_adversary
from nvgbench.autoencoder.perceptual import load_perceptual
from nvgbench.errors import InputError
from nvgbench.weights.downloads import Pretrained


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty torch cache and no network; gives the folder of the checkpoints."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def test_lpips_offline_names_file_folder_and_way_out(offline: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_perceptual("lpips")
    for part in ("vgg16-397923af.pth", str(offline), "`tokenizer.losses.perceptual=none`"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    network, note = load_perceptual("auto")
    assert network is None
    assert "none" in note
    assert "vgg16-397923af.pth" in note
    assert load_perceptual("none") == (None, "perceptual loss: none")


def test_dino_offline_names_file_folder_and_way_out(offline: Path) -> None:
    with pytest.raises(InputError) as caught:
        build_adversary("dino", 32)
    for part in ("dino_deitsmall16_pretrain.pth", str(offline), "`tokenizer.losses.adversarial=patch`"):
        assert part in str(caught.value)
    adversary, _, note = build_adversary("auto", 32)
    assert adversary is not None
    assert isinstance(adversary.judge, PatchDiscriminator)
    assert "PatchGAN, because" in note
    assert build_adversary("none", 32)[0] is None


def test_a_damaged_file_is_refused(offline: Path) -> None:
    offline.mkdir()
    (offline / "dino_deitsmall16_pretrain.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match="does not hold the weights"):
        build_adversary("dino", 32)
    torch.save({"other": torch.zeros(1)}, offline / "dino_deitsmall16_pretrain.pth")
    with pytest.raises(InputError, match="does not hold the weights"):
        build_adversary("dino", 32)


def dino_keys() -> set[str]:
    """Keys of the published checkpoint, written down independently of the module."""
    layers = [
        f"{layer}.{kind}"
        for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    ]
    blocks = {f"blocks.{index}.{name}" for index in range(12) for name in layers}
    return blocks | {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}


def test_dino_loads_the_published_layout_and_passes_gradients_to_images_only(offline: Path) -> None:
    torch.manual_seed(0)
    state = {key: 0.02 * torch.randn(value.shape) for key, value in DinoFeatures().state_dict().items()}
    assert set(state) == dino_keys()
    assert sum(value.numel() for value in state.values()) == 21_665_664  # ViT-S/16 without a classifier
    offline.mkdir()
    torch.save(state, offline / "dino_deitsmall16_pretrain.pth")
    adversary, features, note = build_adversary("dino", 32)
    assert adversary is not None
    assert "SHA-256" in note
    images_B3HW = torch.rand(1, 3, 32, 32, requires_grad=True)
    levels = features(images_B3HW)
    assert [tuple(level.shape) for level in levels] == [(1, 196, dino.CHANNELS)] * 4
    logits_BN = adversary(levels)
    assert logits_BN.shape == (1, 4 * 196)
    logits_BN.sum().backward()
    assert images_B3HW.grad is not None
    assert images_B3HW.grad.abs().max().item() > 0
    assert all(parameter.grad is None for parameter in features.parameters())
    assert not any(key.startswith("blocks") for key in adversary.state_dict())


def test_lpips_is_zero_for_equal_images_and_grows_with_noise(offline: Path) -> None:
    lpips = pytest.importorskip("lpips")
    widths = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
    widths |= {17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}
    rng = torch.Generator().manual_seed(0)
    state = {}
    for index, (below, width) in widths.items():
        state[f"features.{index}.weight"] = torch.randn(width, below, 3, 3, generator=rng) * (2 / (9 * below)) ** 0.5
        state[f"features.{index}.bias"] = torch.zeros(width)
    offline.mkdir()
    torch.save(state, offline / "vgg16-397923af.pth")
    network, note = load_perceptual("lpips")
    assert isinstance(network, lpips.LPIPS)
    assert "SHA-256" in note
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images_B3HW = torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1
    noise_B3HW = torch.randn(2, 3, 32, 32, generator=rng)
    near, far = ((images_B3HW + size * noise_B3HW).requires_grad_() for size in (0.05, 0.5))
    assert network(images_B3HW, images_B3HW).abs().max().item() < 1e-6
    distance = network(far, images_B3HW).mean()
    assert 0 < network(near, images_B3HW).mean().item() < distance.item()
    distance.backward()
    assert far.grad is not None
    assert far.grad.abs().max().item() > 0


def test_a_download_is_whole_and_checked_or_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From a file:// address; a wrong hash or a missing file leaves nothing behind."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    source = tmp_path / "weights.pth"
    source.write_bytes(b"some weights")
    digest = hashlib.sha256(b"some weights").hexdigest()
    about = {"url": source.as_uri(), "what": "a test", "without": "a.b=none"}
    with pytest.raises(InputError, match=r"the download failed .*invalid hash"):
        Pretrained(**about, sha256="0" * 8).fetch()
    with pytest.raises(InputError, match="the download failed"):
        Pretrained(**about | {"url": (tmp_path / "absent.pth").as_uri()}).fetch()
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())
    fetched = Pretrained(**about, sha256=digest[:8]).fetch()
    assert fetched.read_bytes() == b"some weights"
    source.unlink()
    assert Pretrained(**about).fetch() == fetched, "it is downloaded once"
