"""The extractors that transformers runs, with tiny networks of random weights; without transformers, only that message."""

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
from nvgbench.extractors.convnext import ConvNextExtractor
from nvgbench.extractors.dinov2 import Dinov2Extractor
from nvgbench.extractors.mae import MaeExtractor
from nvgbench.extractors.siglip2 import Siglip2Extractor
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


def test_the_networks_of_fdr6_give_their_own_features(tmp_path: Path) -> None:
    """MAE's encoder sees all patches in order; ViT's own class with the same weights is the witness."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    convnext = transformers.ConvNextV2Config(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1])
    mae = transformers.ViTMAEConfig(**small, image_size=224, patch_size=56)
    siglip2 = transformers.SiglipVisionConfig(**small, image_size=256, patch_size=64)
    transformers.ConvNextV2Model(convnext).save_pretrained(tmp_path / "convnext")
    transformers.ViTMAEModel(mae).save_pretrained(tmp_path / "mae")
    transformers.SiglipVisionModel(siglip2).save_pretrained(tmp_path / "siglip2")
    for extractor in (
        ConvNextExtractor(tmp_path / "convnext"),
        MaeExtractor(tmp_path / "mae"),
        Siglip2Extractor(tmp_path / "siglip2"),
    ):
        features, logits = extractor(IMAGES)
        assert (features.shape, logits.shape, features.dtype) == ((3, 16), (3, 0), torch.float32)
        assert torch.equal(extractor(IMAGES)[0], features)
        folder, side = tmp_path / extractor.name, 256 if extractor.name == "siglip2" else 224
        pixels = torch.nn.functional.interpolate(IMAGES / 255, size=side, mode="bicubic", antialias=True)
        normal = (pixels - torch.tensor(extractor.mean)[:, None, None]) / torch.tensor(extractor.std)[:, None, None]
        with torch.no_grad():
            if extractor.name == "convnext":
                model = transformers.ConvNextV2Model.from_pretrained(folder).eval()
                expected = model(normal).last_hidden_state.mean((2, 3))
            elif extractor.name == "siglip2":
                expected = transformers.SiglipVisionModel.from_pretrained(folder).eval()(normal).pooler_output
            else:
                witness = transformers.ViTModel(transformers.ViTConfig(**small, image_size=224, patch_size=56,
                                                layer_norm_eps=mae.layer_norm_eps), add_pooling_layer=False)  # fmt: skip
                witness.load_state_dict(transformers.ViTMAEModel.from_pretrained(folder).state_dict())
                expected = witness.eval()(normal).last_hidden_state[:, 0]
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
