"""The Inception network is torch-fidelity's, and its weights are found, downloaded or refused in one line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.extractors.inception import PUBLISHED, InceptionExtractor


def test_missing_inception_weights_name_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(InputError, match=rf"{PUBLISHED.name}.*checkpoints.*`extractor_weights=`.*`extractor='classifier'`"):
        InceptionExtractor()
    with pytest.raises(InputError, match="no such file"):
        InceptionExtractor(tmp_path / "absent.pth")


class _Attack:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("planted",)


def test_inception_weights_are_never_unpickled_blindly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"attack.pth": pickle.dumps(_Attack()), "text.pth": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="does not hold the Inception weights"):
            InceptionExtractor(tmp_path / name)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="does not hold the Inception weights"):
        InceptionExtractor(tmp_path / "other.pth")
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "part.pth")
    with pytest.raises(InputError, match="does not hold the Inception weights"):
        InceptionExtractor(tmp_path / "part.pth")
    assert not (tmp_path / "planted").exists()


@pytest.mark.slow
def test_inception_is_torch_fidelitys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    torch.save({}, tmp_path / "empty.pth")
    with monkeypatch.context() as patch:
        patch.setattr(Theirs, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        theirs = Theirs("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(tmp_path / "empty.pth"))
    torch.save(theirs.state_dict(), tmp_path / "random.pth")
    ours = InceptionExtractor(tmp_path / "random.pth")
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    features, logits = ours(images)
    assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
    expected = theirs(images)
    assert torch.equal(features, expected[0])
    assert torch.equal(logits, expected[1])
    assert ours.provenance["weights_published"] is False
