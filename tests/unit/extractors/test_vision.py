"""DINOv2 and CLIP extractors with tiny networks of random weights; where transformers is missing, only that message."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.errors import InputError
from nvgbench.extractors.clip import ClipExtractor
from nvgbench.extractors.dinov2 import Dinov2Extractor
from nvgbench.extractors.vision import VisionExtractor

IMAGES = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**small, image_size=224, patch_size=56))
    clip = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**small, intermediate_size=32, projection_dim=8, image_size=336, patch_size=112)
    )
    for name, model in (("dinov2", dinov2), ("clip", clip)):
        model.save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in ("dinov2", "clip")}


def test_features_are_the_networks_own(folders: dict[str, Path]) -> None:
    import transformers

    extractors: list[tuple[VisionExtractor, int]] = [
        (Dinov2Extractor(folders["dinov2"]), 16),
        (ClipExtractor(folders["clip"]), 8),
    ]
    for extractor, width in extractors:
        name = extractor.name
        features, logits = extractor(IMAGES)
        assert (features.shape, logits.shape, features.dtype) == ((3, width), (3, 0), torch.float32)
        model = getattr(transformers, extractor.model).from_pretrained(folders[name]).eval()
        if name == "dinov2":
            pictures = [Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC) for image in _rows()]
            pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 255
        else:
            pixels = torch.nn.functional.interpolate(IMAGES / 255, size=336, mode="bicubic")
        normal = (pixels - torch.tensor(extractor.mean)[:, None, None]) / torch.tensor(extractor.std)[:, None, None]
        with torch.no_grad():
            made = model(pixel_values=normal)
        if name == "dinov2":
            expected = made.last_hidden_state[:, 0]
        else:
            expected = made.image_embeds / made.image_embeds.norm(dim=1, keepdim=True)
        torch.testing.assert_close(features, expected)
        assert extractor.provenance["weights"] == "given by hand"
        digest = extractor.provenance["weights_sha256"]
        assert digest == hashlib.sha256((folders[name] / "model.safetensors").read_bytes()).hexdigest()
        # The feature cache finds its files by this; it must not change without a change of the features.
        assert extractor.fingerprint == hashlib.sha256(f"{name}/1/{digest}".encode()).hexdigest()


def _rows() -> np.ndarray:
    return IMAGES.permute(0, 2, 3, 1).numpy()


def test_fingerprint_follows_the_weights(folders: dict[str, Path]) -> None:
    before = ClipExtractor(folders["clip"]).fingerprint
    path = folders["clip"] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert ClipExtractor(folders["clip"]).fingerprint != before


def test_what_is_missing_is_named(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"config\.json and model\.safetensors .*facebook/dinov2-large"):
        Dinov2Extractor(tmp_path)
    with pytest.raises(InputError, match="not the weights of facebook/dinov2-large"):
        Dinov2Extractor(folders["clip"])
    (folders["clip"] / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="not the weights of openai/clip"):
        ClipExtractor(folders["clip"])

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network\nand a second line")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"the extractor dinov2 needs .* the download failed .*`extractor_weights=`") as raised:
        Dinov2Extractor()
    assert "\n" not in str(raised.value)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert importlib.util.find_spec("transformers") is None
    with pytest.raises(InputError, match=r"pip install 'nvgbench\[vision\]'"):
        ClipExtractor(tmp_path)
