"""One Inception file with random weights, given to nvgbench and to the libraries: images in, the same scores out.

The tests of 1,000 against 1,000 images are marked slow: Inception makes about five images a second on a core. With
NVGBENCH_AGREEMENT set to a folder they keep weights, pictures and features there, so that a second run takes seconds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor

from nvgbench.data.image_set import in_memory
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.scores import ScoreSettings, evaluate_samples
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.clean_fid import MODES, SCRIPT, CleanFidExtractor
from nvgbench.extractors.inception import InceptionExtractor
from nvgbench.metrics.frechet import frechet_from_features
from nvgbench.metrics.kernel import kernel_distance
from nvgbench.types import MetricValue
from tests.helpers.agreement_inputs import Pictures, image_pair, write_random_inception, write_scripted_inception

FEW, MANY = 4, 1000
HUB_FILE = "pt_inception-2015-12-05-6726825d.pth"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``random.pth``, whose statistics were measured on few images."""
    home = tmp_path_factory.mktemp("few")
    write_random_inception(home / "random.pth", image_pair(FEW)[1])
    return home


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``few``, kept where the environment says so."""
    given = os.environ.get("NVGBENCH_AGREEMENT")
    home = Path(given) if given else tmp_path_factory.mktemp("many")
    if not (home / "random.pth").is_file():
        write_random_inception(home / "random.pth", image_pair(MANY)[1][:24])
    return home


def nvgbench_scores(id: str, weights: Path, home: Path, count: int) -> dict[str, MetricValue]:
    rules = open_rules(id)
    extractor = InceptionExtractor(weights) if rules is None else rules.extractor(weights, "cpu")
    samples, reference = (in_memory(name, images) for name, images in zip("xy", image_pair(count), strict=True))
    cache = FeatureCache(home / "features", batch_size=50)
    settings = ScoreSettings()
    found = evaluate_samples(samples, Reference(reference), extractor, settings, cache=cache, rules=rules)
    return {metric.name: metric for metric in found.metrics}


def clean_fid_features(mode: str, home: Path, name: str, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What clean-fid makes of a folder of PNG files, its weights where it looks for them."""
    from cleanfid.features import feature_extractor
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    kept = home / f"{mode}-{name}-{len(images)}.npy"
    if kept.is_file():
        return np.load(kept)
    pictures = home / f"{name}-{len(images)}"
    if not pictures.is_dir():
        pictures.mkdir()
        for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(pictures / f"{number:05}.png")
    network: Any
    if mode == "legacy_pytorch":
        checkpoints = home / "hub" / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        shutil.copy(home / "random.pth", checkpoints / HUB_FILE)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(home / "hub"))
        network = feature_extractor("pytorch_inception", torch.device("cpu"), use_dataparallel=False)
    else:
        if not (home / SCRIPT.name).is_file():
            write_scripted_inception(home / "random.pth", home / SCRIPT.name)
        network = InceptionV3W(str(home), download=False, resize_inside=mode == "legacy_tensorflow").eval()
    found = get_folder_features(
        str(pictures), network, num_workers=0, batch_size=50, device=torch.device("cpu"), mode=mode, verbose=False
    )
    np.save(kept, found)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_features_are_clean_fids(mode: str, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_pair(FEW)[0]
    theirs = clean_fid_features(mode, few, "x", images, monkeypatch)
    weights = few / ("random.pth" if mode == "legacy_pytorch" else SCRIPT.name)
    extractor = CleanFidExtractor(mode, weights)
    ours, logits = extractor(images)
    assert logits.shape == (FEW, 0)
    assert np.array_equal(ours.numpy(), theirs)
    assert extractor.provenance["weights_published"] is (False if mode == "legacy_pytorch" else None)
    if mode != "legacy_pytorch":
        # The state dict holds the same weights; the resize of the TorchScript file is another formula for the same pixels.
        np.testing.assert_allclose(CleanFidExtractor(mode, few / "random.pth")(images)[0].numpy(), theirs, atol=1e-3)


def test_spatial_features_are_of_the_layer_that_adm_names(few: Path) -> None:
    images = image_pair(FEW)[0]
    extractor, seen = InceptionExtractor(few / "random.pth", spatial=True), []
    convolution: Any = extractor.network
    convolution.Mixed_6d.branch1x1.bn.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    features, _ = extractor(images)
    assert features.shape == (FEW, 2048 + 2023)
    expected = np.transpose(seen[0].numpy(), (0, 2, 3, 1))[..., :7].clip(min=0).reshape(FEW, -1)
    assert np.array_equal(features[:, 2048:].numpy(), expected)
    assert (expected > 0).mean() > 0.1
    plain = InceptionExtractor(few / "random.pth")
    torch.testing.assert_close(plain(images)[0], features[:, :2048])
    assert plain.fingerprint != extractor.fingerprint


def test_files_that_are_no_weights_of_clean_fid(few: Path, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / "other.pt")
    (tmp_path / "text.pt").write_bytes(b"hello")
    for name in ("other.pt", "text.pt", "absent.pt"):
        with pytest.raises(InputError) as raised:
            CleanFidExtractor("clean", tmp_path / name)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="needs the state dict"):
        CleanFidExtractor("legacy_pytorch", tmp_path / "other.pt")


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_torch_fidelity_and_nvgbench_agree(many: Path) -> None:
    import torch_fidelity

    x, y = image_pair(MANY)
    theirs = torch_fidelity.calculate_metrics(
        input1=Pictures(x),
        input2=Pictures(y),
        input1_cache_name=f"samples-{MANY}",
        input2_cache_name=f"reference-{MANY}",
        cache_root=str(many / "theirs"),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(many / "random.pth"),
        isc=True, fid=True, kid=True, prc=True, cuda=False, save_cpu_ram=True, verbose=False, batch_size=50,
    )  # fmt: skip
    for id in ("torch-fidelity", "nvgbench"):
        ours = nvgbench_scores(id, many / "random.pth", many, MANY)
        difference = {
            name: ours[name].value / theirs[key] - 1
            for name, key in (
                ("FID", "frechet_inception_distance"),
                ("KID", "kernel_inception_distance_mean"),
                ("IS", "inception_score_mean"),
            )
        }
        print(id, difference, ours["precision"].value, ours["recall"].value)
        assert abs(difference["FID"]) < 1e-6
        assert abs(difference["KID"]) < 1e-5
        assert abs(difference["IS"]) < 1e-5
        for name in ("precision", "recall"):
            assert round(ours[name].value * MANY) == round(theirs[name] * MANY)
            assert ours[name].value == pytest.approx(theirs[name], abs=1e-7)  # theirs is a float32 mean


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("mode", MODES)
def test_clean_fid_agrees(mode: str, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleanfid import fid

    x, y = (
        clean_fid_features(mode, many, name, images, monkeypatch) for name, images in zip("xy", image_pair(MANY), strict=True)
    )
    plain = scipy.linalg.sqrtm
    # Its call with ``disp`` fails with newer versions of scipy.
    monkeypatch.setattr(fid, "linalg", SimpleNamespace(sqrtm=lambda matrix, disp=True: (plain(matrix), 0.0)))
    theirs = fid.fid_from_feats(x, y), fid.kernel_distance(x, y)
    weights = many / ("random.pth" if mode == "legacy_pytorch" else SCRIPT.name)
    id = "clean-fid" if mode == "clean" else f"clean-fid:{mode}"
    ours = nvgbench_scores(id, weights, many, MANY)
    # clean-fid's protocol computes with the library's functions, so that it holds the features; our own formulas hold theirs.
    own = frechet_from_features(x, y), kernel_distance(x, y).mean
    for distances in ((ours["FID"].value, ours["KID"].value), own):
        print(mode, distances[0] / theirs[0] - 1, distances[1] / theirs[1] - 1)
        assert distances[0] == pytest.approx(theirs[0], rel=1e-6)
        assert distances[1] == pytest.approx(theirs[1], rel=1e-5)
