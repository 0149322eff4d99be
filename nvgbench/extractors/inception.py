"""The Inception-v3 of the original FID and Inception Score, in torch-fidelity's port. Shape letters: B batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.extractors.registry import ExtractorEntry
from nvgbench.extractors.spatial import SpatialTap
from nvgbench.files import StrPath, file_sha256
from nvgbench.weights.downloads import Pretrained

PUBLISHED = Pretrained(
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
    what="the extractor inception",
    argument="extractor_weights",
    without="extractor='classifier'",
)
_CODE_VERSION = 1


class InceptionExtractor:
    """torch-fidelity's ``inception-v3-compat``: the 2015 TensorFlow Inception, TF1 bilinear resize to 299, (x - 128) / 128.

    Features are the 2048 of the last pooling layer, logits the 1008 without bias, as in the original FID and IS.

    Args:
        weights: file of the weights; if not given, the published ones from torch hub's folder, downloaded if needed.
        device: where the network runs.
        spatial: append the 2023 spatial features of sFID (`nvgbench.extractors.spatial`) to the 2048.

    Attributes:
        name: ``inception``.
        fingerprint: SHA-256 of the SHA-256 of the weights, the version of this code and which features are taken.
        provenance: SHA-256 of the weights, whether they are the published ones, preprocessing.

    Raises:
        InputError: no weights, or a file that does not hold them.
    """

    name = "inception"

    def __init__(self, weights: StrPath | None = None, device: torch.device | str = "cpu", *, spatial: bool = False) -> None:
        path = find_inception_weights(weights)
        digest = file_sha256(path)
        self.network = _load_inception(path).to(device)
        self.device = device
        self._tap = SpatialTap(self.network) if spatial else None
        kind = "inception+spatial" if spatial else "inception"
        self.fingerprint = hashlib.sha256(f"{kind}/{_CODE_VERSION}/{digest}".encode()).hexdigest()
        self.provenance: Mapping[str, Any] = {
            "extractor": self.name,
            "network": "torch-fidelity inception-v3-compat, features 2048, logits_unbiased"
            + (", 7 channels of Mixed_6d.branch1x1" if spatial else ""),
            "weights_sha256": digest,
            "weights_published": is_published(digest),
            "preprocessing": "TF1 bilinear resize to 299 px, (x - 128) / 128",
        }

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features [B, 2048 or 4071], logits [B, 1008])``, float32 on the CPU."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features, logits = self.network(images_B3HW.to(self.device))
        if self._tap is not None:
            features = torch.cat([features, self._tap.take()], dim=1)
        return features.float().cpu(), logits.float().cpu()


EXTRACTOR = ExtractorEntry(
    make=lambda request: InceptionExtractor(request.weights, request.device),
    summary="Inception-v3, the network of FID and IS",
    weights=f"the file {PUBLISHED.name}",
)


def is_published(digest: str) -> bool:
    """Whether a SHA-256 (hex) is that of the published state dict."""
    return digest.startswith(PUBLISHED.sha256)


def find_inception_weights(weights: StrPath | None) -> Path:
    """The given file of Inception weights, or else the published one.

    Raises:
        InputError: the given file does not exist, or the download failed.
    """
    if weights is None:
        return PUBLISHED.fetch()
    if not Path(weights).is_file():
        raise InputError(f"`extractor_weights={weights}`: no such file; expected {PUBLISHED.name} from {PUBLISHED.url}")
    return Path(weights)


def _load_inception(path: Path) -> torch.nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity unpickles whatever is in the file; reading it here first refuses everything but tensors.
    read_inception_state(path)
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
    except RuntimeError:
        raise InputError(_wrong_weights(path)) from None


def read_inception_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict; nothing else is unpickled.

    Raises:
        InputError: not a state dict of the Inception network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{_wrong_weights(path)} ({type(error).__name__})") from None
    if not isinstance(state, dict) or "fc.weight" not in state:
        raise InputError(_wrong_weights(path))
    return state


def _wrong_weights(path: Path) -> str:
    return f"{path} does not hold the Inception weights; expected {PUBLISHED.name} from {PUBLISHED.url}"
