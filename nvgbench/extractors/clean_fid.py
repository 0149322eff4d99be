"""clean-fid's own resizing and networks (Parmar, Zhang and Zhu 2022) as a feature extractor, with our choice of weights.

clean-fid looks for its weights in a temporary folder or at a fixed address. Here its constructors get what they would have
loaded: a folder with the file under the expected name, or the state dict in place of the download. The extractor serves the
rules of clean-fid and has no name in the registry: its features are Inception's under another preprocessing.
Shape letters: B batch.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.extractors.inception import PUBLISHED, find_inception_weights, is_published, read_inception_state
from nvgbench.files import StrPath, file_sha256
from nvgbench.weights.downloads import Pretrained

MODES = ("clean", "legacy_pytorch", "legacy_tensorflow")
SCRIPT = Pretrained(  # clean-fid states no digest of it
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    what="clean-fid",
    argument="extractor_weights",
    without="protocol='nvgbench'",
)
_CODE_VERSION = 1
_SIDE = 299
_PREPROCESSING = {
    "clean": "clean-fid's PIL bicubic resize of each float channel to 299 px, (x - 128) / 128",
    "legacy_pytorch": "clean-fid's bilinear resize without antialiasing to 299 px, 2 x / 255 - 1",
    "legacy_tensorflow": "TF1 bilinear resize to 299 px inside the network, (x - 128) / 128",
}


class CleanFidExtractor:
    """Features as clean-fid computes them in one of its modes; there are no logits.

    ``clean`` and ``legacy_tensorflow`` run StyleGAN's TorchScript file through clean-fid's wrapper, ``legacy_pytorch`` the
    state dict that torch-fidelity publishes too. The other two also accept that state dict: it holds the same weights, and
    clean-fid's PyTorch network runs them with the normalisation of the mode.

    Args:
        mode: one of `MODES`.
        weights: file of the weights; if not given, the published ones from torch hub's folder, downloaded if needed.
        device: where the network runs.

    Attributes:
        name: ``inception``.
        fingerprint: SHA-256 of the mode, the SHA-256 of the weights and the version of this code.
        provenance: SHA-256 of the weights, whether they are the published ones (None: unknown), preprocessing.

    Raises:
        InputError: no weights, or a file that does not hold them.
    """

    name = "inception"

    def __init__(self, mode: str, weights: StrPath | None = None, device: torch.device | str = "cpu") -> None:
        from cleanfid.resize import build_resizer

        assert mode in MODES, mode
        path = _find_weights(mode, weights)
        scripted = _is_script(path)
        digest = file_sha256(path)
        self.device = device
        self._resize = build_resizer(mode)
        self._network = _scripted_network(mode, path, device) if scripted else _network(mode, path, device)
        self.fingerprint = hashlib.sha256(f"clean-fid/{mode}/{_CODE_VERSION}/{digest}".encode()).hexdigest()
        # Without a published digest, a given TorchScript file may be any.
        published = (True if weights is None else None) if scripted else is_published(digest)
        self.provenance: Mapping[str, Any] = {
            "extractor": self.name,
            "network": f"clean-fid {'InceptionV3W (TorchScript)' if scripted else 'InceptionV3 (state dict)'}, features 2048",
            "weights_sha256": digest,
            "weights_published": published,
            "preprocessing": _PREPROCESSING[mode],
        }

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features [B, 2048], logits [B, 0])``, float32 on the CPU."""
        from torchvision.transforms import ToTensor

        convert, batch = ToTensor(), []
        for image in images_B3HW.cpu().permute(0, 2, 3, 1).numpy():
            resized = self._resize(image)
            # clean-fid's data set scales uint8 images to [0, 1] and back.
            batch.append(convert(resized) * 255 if resized.dtype == "uint8" else convert(resized))
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features = self._network(torch.stack(batch).to(self.device))
        return features.float().cpu(), torch.empty(len(features), 0)


def _find_weights(mode: str, weights: StrPath | None) -> Path:
    return SCRIPT.fetch() if weights is None and mode != "legacy_pytorch" else find_inception_weights(weights)


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _scripted_network(mode: str, path: Path, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    from cleanfid.inception_torchscript import InceptionV3W

    if mode == "legacy_pytorch":
        raise InputError(f"{path} is a TorchScript file; clean-fid:legacy_pytorch needs the state dict {PUBLISHED.name}")
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(path.resolve(), Path(folder) / SCRIPT.name)
        try:
            network = InceptionV3W(folder, download=False, resize_inside=mode == "legacy_tensorflow").to(device)
            network.layers  # noqa: B018 - what the other mode calls
        except (RuntimeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{path} is not clean-fid's network ({reason}); expected {SCRIPT.name} from {SCRIPT.url}"
            ) from None
    return network


def _network(mode: str, path: Path, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    from cleanfid import inception_pytorch
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    state = read_inception_state(path)
    with replaced(inception_pytorch, "load_state_dict_from_url", lambda *_, **__: state):
        try:
            network = inception_pytorch.InceptionV3(
                output_blocks=[3], resize_input=False, normalize_input=mode == "legacy_pytorch"
            )
        except RuntimeError:
            raise InputError(f"{path} does not hold the Inception weights: some tensors do not fit") from None
    network = network.eval().to(device)

    def run(images_B3HW: Tensor) -> Tensor:
        if mode == "legacy_tensorflow":
            images_B3HW = interpolate_bilinear_2d_like_tensorflow1x(images_B3HW, size=(_SIDE, _SIDE), align_corners=False)
        ready = images_B3HW / 255 if mode == "legacy_pytorch" else (images_B3HW - 128) / 128
        return network(ready)[0].flatten(1)

    return run


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a library's module within the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
