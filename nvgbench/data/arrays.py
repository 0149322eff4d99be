"""Images that come as arrays: ``npz:PATH``, ``cifar10`` and ``cifar100``."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nvgbench.data.dataset import Augment, ImageDataset, Split
from nvgbench.data.selection import HELD_OUT, held_out, round_robin
from nvgbench.errors import InputError

_MOST_CLASSES = 100_000


class ArrayDataset(ImageDataset):
    """Images of one size held as one array: uint8 ``[N, h, w, 3]``."""

    def __init__(
        self,
        pixels_NHWC: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        name: str,
        image_size: int,
        augment: Augment,
        limit: int | None,
    ) -> None:
        order = round_robin(labels)[:limit]
        self._pixels_NHWC = np.ascontiguousarray(pixels_NHWC[order])
        labels = labels[order]
        digest = hashlib.sha256(f"array {pixels_NHWC.shape[1:]} size={image_size}\n".encode())
        digest.update(labels.tobytes())
        digest.update(self._pixels_NHWC.data)
        super().__init__(
            name=name,
            classes=classes,
            labels=labels,
            image_size=image_size,
            fingerprint=digest.hexdigest(),
            augment=augment,
        )
        if augment == "none" and pixels_NHWC.shape[1:3] == (image_size, image_size):
            # The array is the cache already, whatever its size.
            self.in_memory = True
            self._cache = torch.from_numpy(self._pixels_NHWC).permute(0, 3, 1, 2)
            self._cached[:] = True

    def read(self, index: int) -> np.ndarray:
        return self._pixels_NHWC[index]


def open_npz(location: str, *, image_size: int, split: Split, augment: Augment, limit: int | None) -> ArrayDataset:
    """``arr_0``: uint8 ``[N, H, W, 3]``; ``arr_1`` or ``labels``: integers ``[N]``, one class where neither is there.

    A tenth of the images is held out, chosen by the hash of their positions.

    Raises:
        InputError: the file is missing, is no .npz, or its arrays have another shape or type.
    """
    if not location:
        raise InputError("--data npz needs a file: --data npz:PATH")
    path = Path(location).expanduser()
    images, labels = _read_npz(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InputError(f"{path}: arr_0 is {images.dtype} {list(images.shape)}; expected uint8 images [N, H, W, 3]")
    if len(images) < 2:
        raise InputError(f"{path}: arr_0 holds {len(images)} images; a tenth is held out, which takes at least 2")
    if labels is None:
        labels = np.zeros(len(images), dtype=np.int64)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{path}: the labels are {labels.dtype} {list(labels.shape)}; expected integers [{len(images)}], one an image"
        )
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"{path}: label {wrong} is out of range; labels count from 0 and stay below {_MOST_CLASSES:,}")
    classes = [str(label) for label in range(int(labels.max()) + 1)]
    chosen = held_out([str(i) for i in range(len(images))]) == (split == "eval")
    name = f"npz:{location} ({split}, {HELD_OUT})"
    return ArrayDataset(images[chosen], labels[chosen], classes, name=name, image_size=image_size, augment=augment, limit=limit)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; --data npz:PATH takes a .npz file with arr_0 (uint8 images [N, H, W, 3])")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path} holds a bare array; write it with numpy.savez(path, images, labels)")
        with archive:
            if "arr_0" not in archive:
                raise InputError(f"{path} has no arr_0, only {', '.join(archive.files) or 'nothing'}; name the images arr_0")
            key = next((key for key in ("arr_1", "labels") if key in archive), None)
            return archive["arr_0"], None if key is None else archive[key]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); write it with numpy.savez(path, images, labels)") from None


def open_cifar(
    source: str, location: str, *, image_size: int, split: Split, augment: Augment, limit: int | None, root: Path | None
) -> ArrayDataset:
    """CIFAR-10 or CIFAR-100 as published, downloaded by torchvision where it is not there yet.

    Args:
        source: ``cifar10`` or ``cifar100``.
        location: folder that holds the archive or its contents; empty for ``root``, else ``~/.cache/nvgbench``.

    Raises:
        InputError: the files are not there and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if source == "cifar10" else CIFAR100
    folder = Path(location).expanduser() if location else root or Path.home() / ".cache" / "nvgbench"
    train = split == "train"
    try:
        data = kind(str(folder), train=train, download=False)
    except RuntimeError:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                data = kind(str(folder), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{source} is not in {folder} and cannot be downloaded ({error}); put {kind.filename} there, "
                "or use --data imagefolder:PATH or --data shapes"
            ) from None
    labels = np.array(data.targets, dtype=np.int64)
    name = f"{source} ({split})"
    return ArrayDataset(data.data, labels, data.classes, name=name, image_size=image_size, augment=augment, limit=limit)
