"""clean-fid's own resizing and networks (Parmar, Zhang and Zhu 2022) as a feature extractor, with a file of weights given.

clean-fid looks for its weights in a temporary folder or at an address fixed in its code. Here its constructors are called with
what they would have loaded: a folder that holds the file under the name expected, or a state dict in place of the download.
Shape letters: B batch, H and W pixels.
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
from nvgbench.extractors.inception import INCEPTION_FILE, find_inception_weights, is_published, read_inception_state

MODES = ("clean", "legacy_pytorch", "legacy_tensorflow")
SCRIPT_FILE = "inception-2015-12-05.pt"
SCRIPT_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{SCRIPT_FILE}"
_CODE_VERSION = 1
_SIDE = 299
_PREPROCESSING = {
    "clean": "clean-fid's PIL bicubic resize of each float channel to 299 px, (x - 128) / 128",
    "legacy_pytorch": "clean-fid's bilinear resize without antialiasing to 299 px, 2 x / 255 - 1",
    "legacy_tensorflow": "TF1 bilinear resize to 299 px inside the network, (x - 128) / 128",
}


class CleanFidExtractor:
    """Features as clean-fid computes them in one of its modes; it has no logits.

    ``clean`` and ``legacy_tensorflow`` run StyleGAN's TorchScript file through clean-fid's wrapper, ``legacy_pytorch`` the
    state dict that torch-fidelity publishes too. The former two also take that state dict: it holds the same weights, and
    clean-fid's PyTorch network runs them with the normalisation of the mode.

    Args:
        mode: of `MODES`.
        weights: the file; where not given, torch hub's folder is searched and then a download is tried.
        device: where the network runs.

    Attributes:
        name: ``inception``.
        fingerprint: SHA-256 of the mode, the weights' own SHA-256 and the version of this code.
        provenance: SHA-256 of the weights, whether they are the published ones (None: cannot be told), preprocessing.

    Raises:
        InputError: no weights to be had, or a file that does not hold them.
    """

    name = "inception"

    def __init__(self, mode: str, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        from cleanfid.resize import build_resizer

        assert mode in MODES, mode
        path = _find_weights(mode, weights)
        scripted = _is_script(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.device = device
        self._resize = build_resizer(mode)
        self._network = _scripted_network(mode, path, device) if scripted else _network(mode, path, device)
        self.fingerprint = hashlib.sha256(f"clean-fid/{mode}/{_CODE_VERSION}/{digest}".encode()).hexdigest()
        # clean-fid states no digest of the TorchScript file, so that one given by hand cannot be told from another.
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
            # Its data set scales what is still uint8 to 1 and back.
            batch.append(convert(resized) * 255 if resized.dtype == "uint8" else convert(resized))
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features = self._network(torch.stack(batch).to(self.device))
        return features.float().cpu(), torch.empty(len(features), 0)


def _find_weights(mode: str, weights: Path | None) -> Path:
    if weights is not None or mode == "legacy_pytorch":
        return find_inception_weights(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / SCRIPT_FILE
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(SCRIPT_URL, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"clean-fid's weights cannot be downloaded ({error}); put {SCRIPT_FILE} from {SCRIPT_URL} into {path.parent}, "
                "or name it by --inception-weights"
            ) from None
    return path


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _scripted_network(mode: str, path: Path, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    from cleanfid.inception_torchscript import InceptionV3W

    if mode == "legacy_pytorch":
        raise InputError(f"{path} is a TorchScript file; clean-fid:legacy_pytorch takes the state dict {INCEPTION_FILE}")
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(path.resolve(), Path(folder) / SCRIPT_FILE)
        try:
            network = InceptionV3W(folder, download=False, resize_inside=mode == "legacy_tensorflow").to(device)
            network.layers  # noqa: B018 - the part that the other mode calls
        except (RuntimeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{path} is not clean-fid's network ({reason}); expected {SCRIPT_FILE} from {SCRIPT_URL}"
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
            raise InputError(f"{path} does not hold the Inception weights; some of its tensors do not fit") from None
    network = network.eval().to(device)

    def run(images_B3HW: Tensor) -> Tensor:
        if mode == "legacy_tensorflow":
            images_B3HW = interpolate_bilinear_2d_like_tensorflow1x(images_B3HW, size=(_SIDE, _SIDE), align_corners=False)
        ready = images_B3HW / 255 if mode == "legacy_pytorch" else (images_B3HW - 128) / 128
        return network(ready)[0].flatten(1)

    return run


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Put ``value`` in the place of a library's name for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
