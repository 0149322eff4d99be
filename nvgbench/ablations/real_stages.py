"""First stages of real images, given to a model that generates the rest; as they are, or with noise at one stage.

Shape letters: B batch, N images, L positions, n clusters of a stage, S stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nvgbench.ablations.study import Context
from nvgbench.data.loader import sequential_batches
from nvgbench.data.source import training_set
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.runs.folder import RunFolder
from nvgbench.types import SampleRequest, SampleResult

_BATCH = 64


@dataclass(frozen=True)
class RealStages:
    """Tokens of real images.

    Attributes:
        structure_NL: int64, the last structure map.
        indices: codes ``[N, n]`` of every stage.
        labels_N: classes.
    """

    structure_NL: Tensor
    indices: tuple[Tensor, ...]
    labels_N: Tensor

    def map(self, stage: int) -> Tensor:
        """The structure map ``[N, L]`` of a stage."""
        return self.structure_NL // (self.structure_NL.shape[1] // self.indices[stage].shape[1])


class WithRealStructure:
    """A model whose images get the first structure maps, or codes, of real images of their class, in turn.

    Args:
        base: the model.
        structure_NL: maps of one stage, int64.
        labels_N: classes of the real images.
        stage: which; 0 if only codes are given.
        indices: codes ``[N, n]`` of the first stages, if they are given as well.
    """

    def __init__(
        self, base: NvgImageGenerator, structure_NL: Tensor, labels_N: Tensor, stage: int, indices: Sequence[Tensor] = ()
    ) -> None:
        self.spec = base.spec
        self._base, self._given = base, GivenStructure(structure_NL, stage, tuple(indices))
        self._of_class = {label: (labels_N == label).nonzero()[:, 0].tolist() for label in set(labels_N.tolist())}
        self._images, self._used = len(labels_N), dict[int, int]()

    def generate(self, request: SampleRequest) -> SampleResult:
        rows = [self._next(label) for label in request.labels_B.tolist()]
        return self._base.generate(request, structure=self._given.rows(torch.tensor(rows)))

    def _next(self, label: int) -> int:
        """The next real image of the class; of any class if there is none, as for models without classes."""
        images = self._of_class.get(label) or list(range(self._images))
        turn = self._used.get(label, 0)
        self._used[label] = turn + 1
        return images[turn % len(images)]


def real_stages(run: RunFolder, generator: NvgImageGenerator, context: Context) -> RealStages:
    """Tokens of training images: those of held-out ones belong to the images that samples are compared with."""
    maps, labels, codes = [], [], []
    for batch in sequential_batches(training_set(run.config.data), _BATCH, limit=context.samples):
        with torch.no_grad():
            tokens = generator.tokenizer.encode(batch.images_B3HW.to(context.device))
        assert tokens.structure_BL is not None
        maps.append(tokens.structure_BL.cpu())
        codes.append([indices_Bn.cpu() for indices_Bn in tokens.indices])
        labels.append(batch.labels_B)
    return RealStages(torch.cat(maps), tuple(map(torch.cat, zip(*codes, strict=True))), torch.cat(labels))


def noisy_codes(real: RealStages, stage: int, share: float, codes: int, rng: torch.Generator) -> RealStages:
    """A share of one stage's codes, at least one per image, replaced by random ones of a codebook of ``codes``."""
    indices_Nn = real.indices[stage]
    count = max(1, round(share * indices_Nn.shape[1]))
    chosen_Nm = torch.rand(indices_Nn.shape, generator=rng).argsort(1)[:, :count]
    noisy_Nn = indices_Nn.scatter(1, chosen_Nm, torch.randint(codes, chosen_Nm.shape, generator=rng))
    return dataclasses.replace(real, indices=(*real.indices[:stage], noisy_Nn, *real.indices[stage + 1 :]))


def noisy_structure(real: RealStages, stage: int, share: float, rng: torch.Generator) -> RealStages:
    """A share of the positions shuffled within the clusters of the stage before, so that coarser maps stay as they are."""
    parent_NL = real.map(stage - 1)
    structure_NL = real.structure_NL.clone()
    for parent_L, structure_L in zip(parent_NL, structure_NL, strict=True):
        chosen = torch.randperm(len(parent_L), generator=rng)[: round(share * len(parent_L))]
        shuffled = chosen[torch.randperm(len(chosen), generator=rng)]
        # Both orders list the chosen positions of each parent together, once as drawn and once shuffled.
        place = chosen[parent_L[chosen].argsort(stable=True)]
        source = shuffled[parent_L[shuffled].argsort(stable=True)]
        structure_L[place] = structure_L[source]
    return dataclasses.replace(real, structure_NL=structure_NL)
