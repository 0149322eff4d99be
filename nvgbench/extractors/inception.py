"""Feature extractors by name: the Inception-v3 of the original papers, and the look-up of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError, did_you_mean
from nvgbench.extractors.spatial import SpatialTap

EXTRACTORS = ("inception", "classifier", "dinov2", "clip")
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
_PUBLISHED_PREFIX = "6726825d"  # the file's name ends with the first digits of its SHA-256
_CODE_VERSION = 1


def check_extractor(name: str) -> str:
    """``name`` if there is such an extractor.

    Raises:
        InputError: there is none.
    """
    if name not in EXTRACTORS:
        raise InputError(f"no extractor {name!r}{did_you_mean(name, EXTRACTORS)}; known: {', '.join(EXTRACTORS)}")
    return name


class InceptionExtractor:
    """torch-fidelity's ``inception-v3-compat``: the 2015 TensorFlow Inception, TF1 bilinear resize to 299, (x - 128) / 128.

    Features are the 2048 of the last pooling layer, logits the 1008 without bias, as the original FID and IS take them.

    Args:
        weights: the weights' file; where not given, torch hub's folder is searched and then a download is tried.
        device: where the network runs.
        spatial: append the 2023 spatial features of sFID (`nvgbench.extractors.spatial`) to the 2048.

    Attributes:
        name: ``inception``.
        fingerprint: SHA-256 of the weights' own SHA-256, the version of this code and which features are taken.
        provenance: SHA-256 of the weights, whether they are the published ones, preprocessing.

    Raises:
        InputError: no weights to be had, or a file that does not hold them.
    """

    name = "inception"

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu", *, spatial: bool = False) -> None:
        path = find_inception_weights(weights)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
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


def is_published(digest: str) -> bool:
    """Whether a SHA-256 (hex) is that of the published state dict, whose name ends with the first digits."""
    return digest.startswith(_PUBLISHED_PREFIX)


def find_inception_weights(weights: Path | None) -> Path:
    """The file of the Inception weights: the one given, the one in torch hub's folder, or a fresh download.

    Raises:
        InputError: the file given does not exist, or there is none and the download failed.
    """
    if weights is not None:
        if not weights.is_file():
            raise InputError(f"--inception-weights {weights}: no such file; expected {INCEPTION_FILE} from {INCEPTION_URL}")
        return weights
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(INCEPTION_URL, str(path), hash_prefix=_PUBLISHED_PREFIX, progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"the Inception weights cannot be downloaded ({error}); put {INCEPTION_FILE} into {path.parent}, or name it by "
                "--inception-weights, or use --extractor classifier, which needs no download"
            ) from None
    return path


def _load_inception(path: Path) -> torch.nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity unpickles whatever the file says; reading it here first refuses everything but tensors.
    read_inception_state(path)
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
    except RuntimeError:
        raise InputError(_wrong_weights(path)) from None


def read_inception_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, unpickling nothing else.

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
    return f"{path} does not hold the Inception weights; expected {INCEPTION_FILE} from {INCEPTION_URL}"
