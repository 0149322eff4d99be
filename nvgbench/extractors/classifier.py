"""A small convolutional classifier, trained on the data set that is scored: a feature extractor that needs no download.

Its scores compare samples with each other and with the reference on THIS data set; they are not comparable with scores of
Inception features, nor between data sets. Shape letters: B batch, N images, K classes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nvgbench.data.selection import random_indices
from nvgbench.data.source import ImageDataset, open_dataset
from nvgbench.errors import InputError
from nvgbench.extractors.classifier_network import CODE_VERSION, MAX_SIDE, SmallResNet, preprocess
from nvgbench.extractors.classifier_training import LabelledImages, Recipe, accuracy, train_classifier
from nvgbench.extractors.registry import ExtractorEntry, ExtractorRequest
from nvgbench.files import StrPath, file_sha256

TRAINING_IMAGES = 20_000
"""The classifier learns from at most this many training images, a random subset with a fixed seed."""
_WEIGHTS, _CARD = "weights.safetensors", "card.json"


class ClassifierExtractor:
    """The trained classifier as a `nvgbench.interfaces.FeatureExtractor`: 128 features before the last layer, and its logits.

    Attributes:
        name: ``classifier``.
        fingerprint: SHA-256 of the SHA-256 of the weights and the version of this code.
        provenance: the card: training data, recipe, held-out accuracy, SHA-256 of the weights, preprocessing.
    """

    name = "classifier"

    def __init__(self, network: SmallResNet, card: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.network = network
        self.device = device
        self.fingerprint = hashlib.sha256(f"classifier/{CODE_VERSION}/{card['weights_sha256']}".encode()).hexdigest()
        self.provenance: Mapping[str, Any] = {
            "extractor": self.name,
            **card,
            "preprocessing": f"x / 127.5 - 1; area average to {MAX_SIDE} px where larger",
        }

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features [B, 128], logits [B, K])``, float32 on the CPU."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features, logits = self.network(preprocess(images_B3HW.to(self.device)))
        return features.float().cpu(), logits.float().cpu()


def open_classifier(request: ExtractorRequest) -> ClassifierExtractor:
    """The classifier of the request's data set, trained if that has not been done before.

    It learns from the whole training split, whatever part of it a run uses, so that all runs on one data set share a
    classifier and can be compared.

    Raises:
        InputError: no data source, or one whose images are not suitable.
        OSError: the request's folder cannot be written.
    """
    data = request.data
    if data is None:
        raise InputError(
            "the classifier is trained on a data source, and none is known here; give one as `reference=` (e.g. cifar10, "
            "imagefolder:PATH, npz:PATH), or use `extractor='inception'`"
        )
    train = open_dataset(data.source, image_size=data.image_size, split="train", seed=data.seed)
    if not train.classes:
        raise InputError(f"{train.name} has no classes for a classifier to learn; use `extractor='inception'`")
    held_out = open_dataset(data.source, image_size=data.image_size, split="eval", seed=data.seed)
    identity = {
        "fingerprint": train.fingerprint,
        "name": train.name,
        "image_size": data.image_size,
        "images": TRAINING_IMAGES,
    }
    with request.report("training the classifier") as update:
        return obtain_classifier(
            request.folder,
            identity,
            lambda: (_in_memory(train), _in_memory(held_out)),
            len(train.classes),
            device=request.device,
            progress=update,
        )


EXTRACTOR = ExtractorEntry(make=open_classifier, summary="a classifier trained on the data set itself, needs no download")


def _in_memory(dataset: ImageDataset) -> LabelledImages:
    indices = random_indices(len(dataset), TRAINING_IMAGES)
    return LabelledImages(dataset.images(indices), torch.from_numpy(dataset.labels[indices]))


def obtain_classifier(
    folder: StrPath,
    identity: Mapping[str, Any],
    load: Callable[[], tuple[LabelledImages, LabelledImages]],
    classes: int,
    *,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> ClassifierExtractor:
    """The classifier of a data set: read from ``folder`` if it was trained before, else trained and stored there.

    Args:
        folder: parent of the classifiers' folders, ``<runs>/_extractors``.
        identity: what determines the training data (fingerprint, image size, number of images), and its name, which is kept
            but does not matter: a folder may be moved, or be written in another way.
        load: returns training and held-out images; only called for a training.
        classes: number of classes.
        recipe: how it is trained.
        device: where it is trained and used.
        progress: as in `train_classifier`.

    Raises:
        InputError: images that no classifier can be trained on, or a stored classifier that cannot be read.
        OSError: the folder cannot be written.
    """
    recipe = recipe or Recipe()
    content = {"data": dict(identity), "classes": classes, "recipe": asdict(recipe), "code": CODE_VERSION}
    determined = content | {"data": {key: value for key, value in identity.items() if key != "name"}}
    digest = hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:16]
    home = Path(folder) / f"classifier-{digest}"
    if not home.exists():
        train, held_out = load()
        network = train_classifier(train, held_out, classes, recipe, device=device, progress=progress)
        card = content | {
            "held_out_accuracy": accuracy(network, held_out, device=device),
            "held_out_images": len(held_out),
            "training_images": len(train),
        }
        save_classifier(network, card, home)
    return load_classifier(home, device=device)


def save_classifier(network: SmallResNet, card: Mapping[str, Any], home: StrPath) -> None:
    """Write weights and card into the folder ``home``, which appears complete or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    home = Path(home)
    home.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, temporary / _WEIGHTS)
        digest = file_sha256(temporary / _WEIGHTS)
        (temporary / _CARD).write_text(json.dumps(dict(card) | {"weights_sha256": digest}, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        try:
            os.rename(temporary, home)
        except OSError:
            if not home.exists():  # otherwise another process has just written the same classifier
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_classifier(home: StrPath, *, device: torch.device | str = "cpu") -> ClassifierExtractor:
    """Read what `save_classifier` wrote.

    Raises:
        InputError: files are missing, truncated or modified.
    """
    home = Path(home)
    try:
        card = json.loads((home / _CARD).read_text(encoding="utf-8"))
        if file_sha256(home / _WEIGHTS) != card["weights_sha256"]:
            raise ValueError("the weights are not the ones named in its card")
        network = SmallResNet(card["classes"], card["recipe"]["width"])
        network.load_state_dict(load_file(home / _WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the classifier in {home} cannot be read ({error}); delete it to train it again") from None
    network.to(device=device).to(memory_format=torch.channels_last).eval()
    return ClassifierExtractor(network, card, device)
