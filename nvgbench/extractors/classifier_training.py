"""Training of the classifier that serves as an extractor. Shape letters: B batch, N images, H and W pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.extractors.classifier_network import SmallResNet, preprocess


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the classifier is trained.

    Attributes:
        cycles: epochs in each cycle of the learning rate; training stops after the first cycle with a held-out accuracy of at
            least ``enough``.
        enough: see ``cycles``.
        batch_size: images per step.
        learning_rate: peak of the one-cycle schedule (SGD, Nesterov momentum 0.9).
        weight_decay: of weights with two or more dimensions.
        smoothing: label smoothing.
        width: channels of the first layer.
        flip: mirror half of the images at random.
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
    """Train a classifier; the same data, recipe, device and number of threads give the same weights.

    Args:
        train: training images.
        held_out: images whose accuracy decides when to stop.
        classes: number of classes.
        recipe: see `Recipe`.
        device: where it is trained.
        progress: called with (images done, images of this cycle) every ten steps.

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
    """Train for some epochs with one cycle of the learning rate."""
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
    """Fraction of the peak learning rate: linear increase over the first fifth, then linear decrease to almost zero."""
    position = (step + 1) / (steps + 1)
    return position / 0.2 if position < 0.2 else (1 - position) / 0.8


def augment(images_B3HW: Tensor, rng: torch.Generator, *, flip: bool) -> Tensor:
    """Shift every image by up to an eighth of its side (edges reflected), and mirror half of them if ``flip``."""
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
    """Accuracy on the held-out images; leaves the network in evaluation mode."""
    network.eval()
    correct = 0
    for images, labels in zip(held_out.images_N3HW.split(batch_size), held_out.labels_N.split(batch_size), strict=True):
        correct += int((network(preprocess(images.to(device)))[1].argmax(dim=1).cpu() == labels).sum())
    return correct / max(len(held_out), 1)
