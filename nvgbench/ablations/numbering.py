"""How stable the numbers of clusters are, by the order of the children: the part of a structure map that ARI does not see.

Shape letters: B batch, L positions, C latent channels, h and w the latent grid.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.ablations.clusterings import Maps, nested
from nvgbench.ablations.requantization import summary
from nvgbench.ablations.study import Row
from nvgbench.ablations.subject import Subject
from nvgbench.ablations.views import views
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches
from nvgbench.nvg.clustering import ChildOrder

_BATCH = 32


def numbering(subject: Subject, dataset: ImageDataset, *, seed: int) -> list[Row]:
    """Share of positions whose cluster keeps its number when the features change a little.

    Clusters are greedy in every order. By chance the share is about 1 / tokens.

    Args:
        subject: the tokenizer.
        dataset: images of its size.
        seed: of noise and random orders.

    Returns:
        Rows of perturbation, level, order, tokens, same_mean, same_low, same_high (95 % bootstrap over images), n.
    """
    work = [view for view in views(subject.grid, dataset.image_size) if view.features is not None]
    rng = torch.Generator().manual_seed(seed)
    found: dict[tuple[str, str, str, int], list[NDArray[Any]]] = {}
    for batch in sequential_batches(dataset, _BATCH):
        latent_BChw = subject.latent(batch.images_B3HW)
        for order in get_args(ChildOrder):
            cluster = nested("greedy", child_order=order)
            plain: Maps = cluster(subject, latent_BChw, rng)
            for view in work:
                assert view.features is not None
                changed = cluster(subject, view.features(latent_BChw, rng), rng)
                for tokens, labels_BL in plain.items():
                    same_B = (labels_BL == changed[tokens]).double().mean(1).cpu().numpy()
                    found.setdefault((view.perturbation, view.level, order, tokens), []).append(same_B)
    return [
        {
            "perturbation": perturbation, "level": level, "order": order, "tokens": tokens,
            **summary("same", np.concatenate(parts), highest=1.0), "n": sum(map(len, parts)),
        }
        for (perturbation, level, order, tokens), parts in found.items()
    ]  # fmt: skip
