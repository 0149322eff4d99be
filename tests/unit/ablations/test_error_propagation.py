"""The study of given stages and injected noise: what is given, what the noise changes, and the study on a run of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nvgbench.ablations.error_propagation import BOTH, CONTENT, STRUCTURE, give, givens, repairs
from nvgbench.ablations.real_stages import RealStages, WithRealStructure, noisy_codes, noisy_structure
from nvgbench.ablations.runner import StudyRequest, plan_study, run_study
from nvgbench.data.images import to_uint8
from nvgbench.errors import InputError
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.results.study import study_page
from nvgbench.runs.folder import RunFolder
from nvgbench.types import SampleRequest, TokenSequence
from tests.helpers.pooled_features import Pooled
from tests.helpers.small_models import Small
from tests.helpers.training_jobs import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(small: Callable) -> Small:
    return small("nvg")


@pytest.fixture(scope="module")
def real(model: Small) -> RealStages:
    rng = torch.Generator().manual_seed(2)
    structure_NL = torch.stack([torch.randperm(16, generator=rng) for _ in range(4)])
    return RealStages(structure_NL, model.tokens(4).indices, torch.arange(4))


def request(labels: list[int]) -> SampleRequest:
    return SampleRequest(labels_B=torch.tensor(labels), seeds_B=torch.arange(len(labels)))


def test_all_stages_given_are_the_real_image(model: Small, real: RealStages) -> None:
    images = give(model.images(), real, BOTH, 5).generate(request([0, 1, 2, 3])).images_B3HW
    with torch.no_grad():
        expected = to_uint8(model.tokenizer.decode(TokenSequence(real.indices, real.structure_NL)))
    # Sums of the canvas are rounded in another order, which can move a value to the next level.
    assert (images.int() - expected.int()).abs().max() <= 1


def test_given_codes_and_structure_are_used_and_the_rest_is_sampled(model: Small, real: RealStages) -> None:
    generator: Any = model.images()

    def tokens(what: str, stages: int) -> TokenSequence:
        last = 0 if what == CONTENT else stages - 1
        indices = () if what == STRUCTURE else real.indices[:stages]
        return generator.tokens(request([0, 1, 2, 3]), GivenStructure(real.map(last), last, indices))

    plain = generator.tokens(request([0, 1, 2, 3]))
    content, both, structure = (tokens(what, 3) for what in (CONTENT, BOTH, STRUCTURE))
    for found in (content, both):
        assert all(torch.equal(a, b) for a, b in zip(found.indices[:3], real.indices[:3], strict=True))
        assert not torch.equal(found.indices[3], real.indices[3])
    for found in (both, structure):
        assert torch.equal(found.structure_BL // 4, real.map(2))
        assert not torch.equal(found.structure_BL, real.structure_NL)
    assert not torch.equal(content.structure_BL // 4, real.map(2))
    assert torch.equal(structure.indices[0], plain.indices[0])


def test_codes_of_other_stages_are_refused(model: Small, real: RealStages) -> None:
    with pytest.raises(InputError, match="expected those of the first stages"):
        model.images().generate(request([0, 1, 2, 3]), GivenStructure(real.map(0), 0, real.indices[1:3]))  # type: ignore[call-arg]


def test_noise_changes_one_stage(real: RealStages) -> None:
    rng = torch.Generator().manual_seed(0)
    codes = noisy_codes(real, 3, 0.25, 10_000, rng)
    assert [not torch.equal(a, b) for a, b in zip(codes.indices, real.indices, strict=True)] == [False] * 3 + [True, False]
    assert ((codes.indices[3] != real.indices[3]).sum(1) == 2).all()  # two of eight; a draw of 10,000 repeats none
    assert (noisy_codes(real, 0, 0.25, 10_000, rng).indices[0] != real.indices[0]).all()
    maps = noisy_structure(real, 3, 0.5, rng)
    assert torch.equal(maps.map(2), real.map(2))
    assert not torch.equal(maps.map(3), real.map(3))
    assert torch.equal(maps.structure_NL.sort(1).values, torch.arange(16).expand(4, -1))
    assert (maps.structure_NL != real.structure_NL).sum(1).max() <= 8


def test_changes_are_counted_from_the_same_stages_without_noise() -> None:
    given = [
        {"given": BOTH, "given stages": stages, "value": value} for stages, value in ((0, 9.0), (1, 8.0), (2, 7.0), (3, 1.0))
    ]
    noise = [{"noise": CONTENT, "stage": 1, "later stages": later, "value": 7.5} for later in ("generated", "real")]
    assert [row["change"] for row in repairs(given, noise)] == [0.5, 6.5]


def test_what_is_given_in_five_stages() -> None:
    found = list(givens(5))
    assert found[0] == (STRUCTURE, 0)
    assert [count for what, count in found[1:] if what == STRUCTURE] == [2, 3, 4, 5]
    assert [count for what, count in found if what == BOTH] == [1, 2, 3, 4, 5]


def test_the_study_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.ablations.scoring.open_extractor", lambda *_: Pooled())
    train(tmp_path / "nvg", "nvg", "data.eval_images=16", "train.steps=2", "tokenizer.quantizer.group_size=4")
    targets = [RunFolder(tmp_path / "nvg")]
    asked = StudyRequest(study="error-propagation", root=tmp_path, device=CPU, targets=targets, samples=16, images=16)
    record = run_study(plan_study(asked))
    rows = [row for row in record.tables["given_stages"] if row["metric"] == "FD[pooled]"]
    for what, first in ((STRUCTURE, 2), (CONTENT, 1), (BOTH, 1)):
        own = [row for row in rows if row["given"] == what]
        assert sorted(row["given stages"] for row in own) == [0, *range(first, 4)]  # three stages, of a grid of 4 x 4
        assert len({row["value"] for row in own}) == len(own)
    places = [(row["noise"], row["stage"]) for row in record.tables["repair"] if row["later stages"] == "real"]
    assert places == [(CONTENT, 0), (CONTENT, 1), (STRUCTURE, 1)]
    page = study_page(record)
    assert page is not None
    assert [finding.subject for finding in page.findings] == ["nvg"] * 5
    assert "with the content and structure of real images at all stages" in page.findings[2].text


def test_runs_without_structure_are_refused(tmp_path: Path) -> None:
    train(tmp_path / "ar", "ar", "data.eval_images=16", "train.steps=1")
    asked = StudyRequest(study="error-propagation", root=tmp_path, device=CPU, targets=[RunFolder(tmp_path / "ar")])
    with pytest.raises(InputError, match="is no NVG run"):
        run_study(plan_study(asked))


def test_real_structure_is_of_images_of_the_class_in_turn() -> None:
    asked: list[list[int]] = []

    class Model:
        spec = None

        def generate(self, request: Any, structure: Any) -> None:
            asked.append(structure.structure_BL[:, 0].tolist())

    model: Any = WithRealStructure(Model(), torch.arange(5)[:, None], torch.tensor([0, 1, 0, 1, 0]), 1)  # type: ignore[arg-type]
    for labels in ([0, 1, 0], [0, 0, 1, 2]):
        model.generate(SampleRequest(labels_B=torch.tensor(labels), seeds_B=torch.zeros(len(labels))))
    assert asked == [[0, 1, 2], [4, 0, 3, 0]]
