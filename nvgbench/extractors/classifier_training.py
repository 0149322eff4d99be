"""Training of the data set's own classifier and its folder on disk. Shape letters: B batch, N images, H and W pixels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.extractors.classifier import CODE_VERSION, ClassifierExtractor, SmallResNet, preprocess

_WEIGHTS, _CARD = "weights.safetensors", "card.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the classifier is trained.

    Attributes:
        cycles: passes over the training images in each cycle of the learning rate; the next cycle is run only where fewer than
            ``enough`` of the held-out images are classified rightly after the one before.
        enough: see ``cycles``.
        batch_size: images a step.
        learning_rate: peak of the one-cycle schedule (SGD, Nesterov momentum 0.9).
        weight_decay: on weights of two or more dimensions.
        smoothing: label smoothing.
        width: channels of the first layer.
        flip: mirror images at random.
        seed: of the initial weights, the order of the images and the augmentation.
    """

    cycles: tuple[int, ...] = (4, 8)
    enough: float = 0.95
    batch_size: int = 128
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    width: int = 16
    flip: bool = True
    seed: int = 0


@dataclass(frozen=True)
class LabelledImages:
    """uint8 images ``[N, 3, H, W]`` and int64 labels ``[N]`` in memory."""

    images_N3HW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


def train_classifier(
    train: LabelledImages,
    held_out: LabelledImages,
    classes: int,
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> SmallResNet:
    """Train on ``train``; the same data, recipe, device and number of threads give the same weights.

    Args:
        train: training images.
        held_out: images that decide when it is enough.
        classes: number of classes.
        recipe: see `Recipe`.
        device: where it is trained.
        progress: called with (images done, images of this cycle) now and then.

    Returns:
        The network in evaluation mode on ``device``.

    Raises:
        InputError: fewer than two classes, no images, a label out of range.
    """
    if classes < 2 or len(train) < 1:
        raise InputError(
            f"a classifier needs images of at least 2 classes, got {len(train)} images of {classes}; use another extractor"
        )
    if train.labels_N.min() < 0 or train.labels_N.max() >= classes:
        raise InputError(f"labels from {int(train.labels_N.min())} to {int(train.labels_N.max())} do not fit {classes} classes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = SmallResNet(classes, recipe.width)
    network.to(device=device).to(memory_format=torch.channels_last)
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    rest = [weight for weight in network.parameters() if weight.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    rng = torch.Generator().manual_seed(recipe.seed)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for epochs in recipe.cycles:
            _run_cycle(network, optimizer, train, epochs, recipe, rng, device, progress)
            if accuracy(network, held_out, device=device) >= recipe.enough:
                break
    return network.eval()


def _run_cycle(
    network: SmallResNet,
    optimizer: torch.optim.Optimizer,
    train: LabelledImages,
    epochs: int,
    recipe: Recipe,
    rng: torch.Generator,
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train for some epochs, the learning rate going up and down once."""
    network.train()
    batch = min(recipe.batch_size, len(train))
    in_epoch = len(train) // batch
    for step in range(epochs * in_epoch):
        if step % in_epoch == 0:
            order = torch.randperm(len(train), generator=rng)
        rows = order[step % in_epoch * batch :][:batch]
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * one_cycle(step, epochs * in_epoch)
        images = augment(train.images_N3HW[rows], rng, flip=recipe.flip)
        labels = train.labels_N[rows].to(device)
        _, logits = network(preprocess(images.to(device)))
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if progress is not None and (step % 10 == 9 or step + 1 == epochs * in_epoch):
            progress((step + 1) * batch, epochs * in_epoch * batch)


def one_cycle(step: int, steps: int) -> float:
    """Fraction of the peak learning rate: up linearly over the first fifth, down linearly to almost nothing."""
    position = (step + 1) / (steps + 1)
    return position / 0.2 if position < 0.2 else (1 - position) / 0.8


def augment(images_B3HW: Tensor, rng: torch.Generator, *, flip: bool) -> Tensor:
    """Shift every image by up to an eighth of its side (edges mirrored) and mirror half of them."""
    count, _, height, width = images_B3HW.shape
    reach = max(height // 8, 1)
    padded = F.pad(images_B3HW.float(), (reach,) * 4, mode="reflect").to(torch.uint8)
    top, left = torch.randint(2 * reach + 1, (2, count), generator=rng)
    columns = torch.arange(width).expand(count, width)
    if flip:
        mirrored = torch.rand(count, generator=rng) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows = top[:, None] + torch.arange(height)
    columns = columns + left[:, None]
    image = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(
    network: SmallResNet, held_out: LabelledImages, *, device: torch.device | str = "cpu", batch_size: int = 256
) -> float:
    """Share of held-out images that the network classifies rightly; leaves the network in evaluation mode."""
    network.eval()
    right = 0
    for images, labels in zip(held_out.images_N3HW.split(256), held_out.labels_N.split(256), strict=True):
        right += int((network(preprocess(images.to(device)))[1].argmax(dim=1).cpu() == labels).sum())
    return right / max(len(held_out), 1)


def obtain_classifier(
    folder: Path,
    identity: Mapping[str, Any],
    load: Callable[[], tuple[LabelledImages, LabelledImages]],
    classes: int,
    *,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> ClassifierExtractor:
    """The classifier of a data set: read from ``folder`` where it has been trained before, else trained and kept there.

    Args:
        folder: parent of the classifiers' folders, ``<runs>/_extractors``.
        identity: what determines the training data (fingerprint, image size, number of images).
        load: returns training and held-out images; called only where training is needed.
        classes: number of classes.
        recipe: how it is trained.
        device: where it is trained and used.
        progress: as `train_classifier`.

    Raises:
        InputError: the data do not do for a classifier, or the folder holds something that cannot be read.
        OSError: the folder cannot be written to.
    """
    recipe = recipe or Recipe()
    content = {"data": dict(identity), "classes": classes, "recipe": asdict(recipe), "code": CODE_VERSION}
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    home = folder / f"classifier-{name}"
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


def save_classifier(network: SmallResNet, card: Mapping[str, Any], home: Path) -> None:
    """Write weights and card into the folder ``home``, which appears whole or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        save_file(weights, temporary / _WEIGHTS)
        digest = hashlib.sha256((temporary / _WEIGHTS).read_bytes()).hexdigest()
        (temporary / _CARD).write_text(json.dumps(dict(card) | {"weights_sha256": digest}, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        try:
            os.rename(temporary, home)
        except OSError:
            if not home.exists():  # otherwise another process was first, with the same classifier
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_classifier(home: Path, *, device: torch.device | str = "cpu") -> ClassifierExtractor:
    """Read what `save_classifier` wrote.

    Raises:
        InputError: files missing, cut short or changed.
    """
    try:
        card = json.loads((home / _CARD).read_text(encoding="utf-8"))
        digest = hashlib.sha256((home / _WEIGHTS).read_bytes()).hexdigest()
        if digest != card["weights_sha256"]:
            raise ValueError("the weights are not the ones its card names")
        network = SmallResNet(card["classes"], card["recipe"]["width"])
        network.load_state_dict(load_file(home / _WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the classifier in {home} cannot be read ({error}); delete it and it is trained again") from None
    network.to(device=device).to(memory_format=torch.channels_last).eval()
    return ClassifierExtractor(network, card, device)
