"""Targets of the alignment: preprocessing, order of patches, messages without weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from nvgbench.config.load import load_preset
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.nvg import FAMILY
from nvgbench.nvg.alignment_target import PatchFeatures, find_target, load_target
from nvgbench.weights.efficientnet import EfficientNetLite

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class PatchMeans(nn.Module):
    """A "DINOv2" whose patch tokens are the mean colours of the patches."""

    config = SimpleNamespace(hidden_size=3, patch_size=14)

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        patches_BLC = nn.functional.avg_pool2d(pixel_values, 14).flatten(2).transpose(1, 2)
        class_token = torch.full((len(patches_BLC), 1, 3), 99.0)
        return SimpleNamespace(last_hidden_state=torch.cat((class_token, patches_BLC), dim=1))


def config(*settings: str, preset: str = "nvg-tiny") -> RunConfig:
    online = () if any("cache_tokens" in setting for setting in settings) else ("train.cache_tokens=false",)
    return load_preset(preset, ["model.alignment_block=2", *online, *settings])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake file of weights and a fake transformers package."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"cut")
    return tmp_path / "weights"


def test_patches_follow_the_grid() -> None:
    grey_BL = torch.linspace(-0.9, 0.9, 12).reshape(2, 6)
    images = grey_BL.reshape(2, 1, 2, 3).repeat_interleave(21, 2).repeat_interleave(21, 3).expand(-1, 3, -1, -1).contiguous()
    target = PatchFeatures(PatchMeans(), (2, 3))
    found = target(images)
    assert (target.features, found.shape, found.dtype) == (3, (2, 6, 3), torch.float32)
    expected = ((grey_BL[..., None] + 1) / 2 - MEAN) / STD
    # The bicubic filter rounds the edges between the patches.
    torch.testing.assert_close(found, expected, atol=0.08, rtol=0)
    even = PatchFeatures(PatchMeans(), (2, 3))(torch.zeros(1, 3, 9, 9))
    torch.testing.assert_close(even, ((0.5 - MEAN) / STD).expand(1, 6, 3))


def test_features_are_the_networks_own(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(tmp_path)
    target, notes = load_target(config("model.alignment=dinov2", f"model.alignment_folder={tmp_path}"), (8, 8))
    assert target is not None
    assert target.features == 16
    (note,) = notes
    assert note.startswith("feature alignment: DINOv2 of width 16 (SHA-256 ")
    assert note.endswith("…), content block 2, weight 0.5")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = target(images)
    pixels = torch.nn.functional.interpolate((images + 1) / 2, size=(112, 112), mode="bicubic")
    model = transformers.Dinov2Model.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(pixel_values=(pixels - MEAN[:, None, None]) / STD[:, None, None]).last_hidden_state
    torch.testing.assert_close(found, expected[:, 1:], rtol=1e-3, atol=1e-4)
    # The last layer norm of a new network has gain 1 and offset 0.
    torch.testing.assert_close(found.mean(dim=-1), torch.zeros(3, 64), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(dim=-1, correction=0), torch.ones(3, 64), atol=1e-2, rtol=0)
    assert not found.requires_grad


def test_a_stage_of_efficientnet_needs_no_download(tmp_path: Path) -> None:
    target, (note,) = load_target(config("model.alignment=efficientnet-lite0"), (2, 3))
    assert target is not None
    assert note.startswith("feature alignment: efficientnet-lite0 of width 112 (SHA-256 57934424")
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = target(images)  # 16 px per position already, so the resize changes nothing
    (map_Fhw,) = EfficientNetLite("efficientnet-lite0", "a test").stages((images + 1) * 127.5)[3]
    assert (target.features, found.shape, found.requires_grad) == (112, (1, 6, 112), False)
    torch.testing.assert_close(found[0, 4], map_Fhw[:, 1, 1], atol=1e-4, rtol=1e-3)
    with pytest.raises(InputError, match=r"alignment_folder=.* goes with model\.alignment = dinov2") as e:
        FAMILY.check_training(config("model.alignment=efficientnet-lite0", f"model.alignment_folder={tmp_path}"))
    one_line(e)


def test_off_by_default_and_on_where_the_paper_aligns() -> None:
    for preset in ("nvg-tiny", "nvg-cifar10", "nvg-cifar10-cpu"):
        assert load_preset(preset).model.alignment == "none"
    for depth in (12, 16, 20, 24):
        model = load_preset(f"nvg-d{depth}").model
        assert (model.alignment, model.alignment_weight, model.alignment_block) == ("auto", 0.5, 8)
    assert load_target(load_preset("nvg-tiny"), (8, 8)) == (None, ())
    assert load_target(config("model.alignment=dinov2", "model.alignment_weight=0"), (8, 8)) == (None, ())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.alignment=dino", "'dinov2', 'efficientnet-lite0', 'auto' or 'none'"),
        ("model.alignment_weight=-1", "greater than or equal to 0"),
        ("model.alignment_block=0", "greater than or equal to 1"),
        ("model.alignement=auto", "did you mean 'alignment'"),
    ],
)
def test_bad_settings_are_refused(setting: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_preset("nvg-d16", [setting])


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_weights_are_refused_if_required(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demanded = config("model.alignment=dinov2", f"model.alignment_folder={folder}")
    assert find_target(demanded) == (folder / "model.safetensors", "")
    empty = config("model.alignment=dinov2", f"model.alignment_folder={tmp_path}")
    with pytest.raises(InputError, match=r"model\.alignment_folder=.*expected a folder with .*dinov2-base") as e:
        FAMILY.check_training(empty)
    assert one_line(e).endswith("go without: `model.alignment=none`")
    deep = dataclasses.replace(demanded, model=dataclasses.replace(demanded.model, alignment_block=9))
    with pytest.raises(InputError, match=r"alignment_block = 9 is beyond the 4 blocks") as e:
        FAMILY.check_training(deep)
    one_line(e)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"the feature alignment needs the package transformers.*nvgbench\[vision\]") as e:
        FAMILY.check_training(demanded)
    one_line(e)


def test_auto_notes_why_it_does_not_align(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auto = config("model.alignment=auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    FAMILY.check_training(auto)
    target, (note,) = load_target(auto, (8, 8))
    assert target is None
    assert note.startswith("feature alignment: none, because the feature alignment needs the package transformers")
    # A short trial of one of the paper's presets.
    assert "beyond the 2 blocks" in find_target(load_preset("nvg-d16", ["model.depth=2"]))[1]
    # An explicit folder makes the weights required.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="expected a folder"):
        find_target(config("model.alignment=auto", f"model.alignment_folder={tmp_path}"))


def test_a_token_cache_has_no_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = config("model.alignment=auto", f"model.alignment_folder={folder}", "train.cache_tokens=true")
    with pytest.raises(InputError, match=r"use `train\.cache_tokens=false`, or go without: `model\.alignment=none`") as e:
        FAMILY.check_training(cached)
    one_line(e)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    FAMILY.check_training(config("model.alignment=auto", "train.cache_tokens=true"))
    FAMILY.check_training(config("train.cache_tokens=true"))


def test_weights_of_something_else(folder: Path) -> None:
    pytest.importorskip("transformers")
    demanded = config("model.alignment=dinov2", f"model.alignment_folder={folder}")
    with pytest.raises(InputError, match="not the weights of facebook/dinov2-base") as e:
        load_target(demanded, (8, 8))
    assert one_line(e).endswith("`model.alignment=none`")
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "hidden_size": 16}))
    with pytest.raises(InputError, match="not the weights of facebook/dinov2-base"):
        load_target(demanded, (8, 8))
