"""Fine-tuning: a training that starts from trained weights, also for other classes.

Shape letters: M and N classes of the trained and of the new model, D width.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import Phase, RunFolder
from nvgbench.runs.seeding import mix_seed
from nvgbench.training.plan import planned_modules, tokenizer_differences
from nvgbench.weights.fit import check_fit


class InitialWeights:
    """The trained weights of a run, for the first step of another training.

    The tokenizer is used as it is, unless it alone is trained. Of the generator all weights are kept but the class embeddings,
    see `class_rows`; parts that serve training alone (the projector of a feature alignment) start anew.

    Args:
        source: a run with a trained generator (or tokenizer, if only that is trained), possibly unfinished.
        config: of the new training.
        classes: its classes.
        phases: what is trained.
        own_tokenizer: whether the new training takes its tokenizer from elsewhere.
        only: `fnmatch` patterns for the generator's tensors that are taken, if it is a teacher; the others stay as they are.

    Raises:
        InputError: another family, nothing trained, or weights of other shapes.
    """

    def __init__(
        self,
        source: RunFolder,
        config: RunConfig,
        classes: Sequence[str],
        phases: Sequence[Phase],
        *,
        own_tokenizer: bool = False,
        only: Sequence[str] = (),
    ) -> None:
        self._only = tuple(only)
        self.source, self._config, self._classes = source, config, tuple(classes)
        self.phase: Phase = "generator" if "generator" in phases else "tokenizer"
        if source.config.family != config.family:
            raise self._misfit(f"it is of family {source.config.family!r}, and {config.name} of {config.family!r}")
        state = source.state(self.phase)
        if state is None:
            hint = "; to use its tokenizer, give it as `tokenizer=`" if self.phase == "generator" else ""
            raise InputError(f"`{self._argument}={source.path}` has no trained {self.phase}{hint}")
        if self.phase == "generator" and not own_tokenizer and (differing := tokenizer_differences(config, source.config)):
            raise self._misfit(f"{', '.join(differing)} differ; set them to the same values")
        self._rows = self._known_classes(published="sha256" in state.source) if self.phase == "generator" else ()
        self._check_shapes()
        self.origin = self._origin(state)

    @property
    def tokenizer(self) -> RunFolder | None:
        """The run whose tokenizer is used as it is, unless another one is given."""
        return self.source if self.phase == "generator" else None

    def load(self, module: nn.Module, seed: int) -> None:
        """Overwrite the weights of the new, still plain model.

        Args:
            module: tokenizer or generator, whichever `phase` says, before its objective is built.
            seed: of the embeddings of new classes.
        """
        rng = torch.Generator().manual_seed(mix_seed(seed, "weights", "new classes"))
        tensors = self._tensors()
        for name in (name for name in self._embeddings() if name in tensors):
            has_none = self._shapes()[name][0] > len(self._classes)
            tensors[name] = embed_classes(tensors[name], self._rows, rng, has_none=has_none)
        module.load_state_dict(tensors, strict=not self._only)

    def describe(self) -> str:
        """One line for the user."""
        text = f"{self.phase}: starts from {self.source.name} at step {self.origin['step']}"
        if self.phase == "tokenizer":
            return text
        kept, new = (self.origin["classes"][key] for key in ("kept", "new"))
        return f"{text}; of {kept + new} class embeddings, {kept} are kept and {new} are new"

    def _known_classes(self, published: bool) -> tuple[int | None, ...]:
        """For each class its row among the trained classes, or None."""
        known = self.source.dataset.classes
        # Published weights come without names; those of ImageNet's classes are in the order of the synsets.
        synsets = all(re.fullmatch(r"n\d{8}", name) for name in self._classes)
        if published and synsets and len(known) == len(self._classes):
            return tuple(range(len(known)))
        return class_rows(self._classes, known)

    def _origin(self, state: ckpt.CheckpointState) -> dict[str, Any]:
        kept = sum(row is not None for row in self._rows)
        found: dict[str, Any] = {
            "run": self.source.name,
            "config_hash": self.source.hash,
            "step": state.step,
            "weights": state.digest(self._file()),
        }
        found |= {key: state.source[key] for key in ("file", "sha256") if key in state.source}
        return found | ({"classes": {"kept": kept, "new": len(self._rows) - kept}} if self.phase == "generator" else {})

    def _file(self) -> str:
        return ckpt.model_file(self.source.checkpoint(self.phase))

    def _tensors(self) -> dict[str, Tensor]:
        found = self.source.checkpoint(self.phase)
        parts = set(ckpt.read_state(found).parameters) - {self.phase}  # counted apart because sampling does not need them
        tensors = ckpt.load_tensors(found, self._file())
        return {
            name: tensor
            for name, tensor in tensors.items()
            if name.partition(".")[0] not in parts
            and (not self._only or any(fnmatch.fnmatch(name, pattern) for pattern in self._only))
        }

    def _shapes(self, extra_classes: int = 0) -> dict[str, Sequence[int]]:
        modules = planned_modules(self._config, len(self._classes) + extra_classes)
        return _shapes(modules[self.phase == "generator"].state_dict())

    def _embeddings(self) -> list[str]:
        """Names of the tensors with one row per class, and often one for "no class": those whose length follows the classes."""
        here, more = self._shapes(), self._shapes(extra_classes=1)
        return [name for name in here if list(more[name]) == [here[name][0] + 1, *here[name][1:]]]

    def _check_shapes(self) -> None:
        given, wanted = _shapes(self._tensors()), self._shapes()
        for name in self._embeddings():
            if name in given:
                given[name] = [wanted[name][0], *given[name][1:]]
        if self._only:
            wanted = {name: shape for name, shape in wanted.items() if name in given}
        try:
            check_fit(given, wanted)
        except InputError as error:
            raise self._misfit(str(error)) from None

    def _misfit(self, reason: str) -> InputError:
        return InputError(f"`{self._argument}={self.source.path}` does not fit: {reason}")

    @property
    def _argument(self) -> str:
        return "teacher" if self._only else "init"


def class_rows(classes: Sequence[str], known: Sequence[str]) -> tuple[int | None, ...]:
    """For each class, the trained class of the same name; None for a new one."""
    places = {name: row for row, name in enumerate(known)}
    return tuple(places.get(name) for name in classes)


def embed_classes(trained_MD: Tensor, rows: Sequence[int | None], rng: torch.Generator, *, has_none: bool = True) -> Tensor:
    """Embeddings of other classes, ``[N + 1, D]``, from trained ones, ``[M + 1, D]``; D may be several axes.

    A class with a row keeps it, as does "no class", the last row. A new class starts at the mean of the trained classes plus
    normal noise with their standard deviation, channel by channel, so that it looks like one of them to the rest of the model.
    From a model without classes, every class starts at "no class".

    Args:
        trained_MD: of the trained classes.
        rows: one per class: its trained row, None for a new class.
        rng: of the noise.
        has_none: whether there is a row for "no class" at all; without it, the shapes are ``[N, D]`` and ``[M, D]``.
    """
    known_MD = trained_MD[:-1] if has_none and len(trained_MD) > 1 else trained_MD
    mean_D, deviation_D = known_MD.float().mean(dim=0), known_MD.float().std(dim=0, correction=0)
    noise_ND = torch.randn(len(rows), *trained_MD.shape[1:], generator=rng)  # for all, so that it does not depend on names
    found_ND = [
        mean_D + deviation_D * noise_ND[place] if row is None else trained_MD[row].float() for place, row in enumerate(rows)
    ]
    return torch.stack([*found_ND, *trained_MD[-1:].float()][: len(rows) + has_none]).to(trained_MD.dtype)


def check_origin(run: RunFolder, initial: InitialWeights | None, phases: Sequence[Phase]) -> None:
    """Refuse to resume a run as if it had started from other weights than it did.

    Raises:
        InputError: it started otherwise; or it started from weights that are needed again, because it has no checkpoint yet.
    """
    origins = run.origins
    if initial is None:
        for phase in phases:
            if phase in origins and run.state(phase) is None:
                before = origins[phase]["run"]
                raise InputError(f"{run.path} was started from {before} and has no checkpoint yet; give that again as `init=`")
        return
    there, started = origins.get(initial.phase), run.state(initial.phase) is not None
    if there["weights"] != initial.origin["weights"] if there else started:
        before = f"{there['run']} at step {there['step']}" if there else "random weights"
        resume = "leave `init=` out to resume it, or " if started else ""
        raise InputError(f"`init={initial.source.path}`: {run.path} was started from {before}; {resume}use another `name=`")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
