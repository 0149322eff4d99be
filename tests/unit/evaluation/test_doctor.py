"""The doctor: ten planted mistakes are found as the first or second cause, and a set in order is met with silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import nvgbench as nb
from nvgbench.cli.app import build_app
from nvgbench.data.image_set import in_memory
from nvgbench.data.moments import StoredMoments
from nvgbench.evaluation.doctor.arithmetic import EXACT, OTHERS, rough_distance
from nvgbench.evaluation.doctor.combinations import nearest_combinations
from nvgbench.evaluation.doctor.diagnosis import Diagnosis, Row
from nvgbench.evaluation.doctor.examination import Examination, ExaminationOptions
from nvgbench.evaluation.doctor.variants import halve, jpeg, linear, shift_half, soften, spread, swap_channels
from nvgbench.evaluation.reference import Reference
from nvgbench.extractors.cache import FeatureCache
from nvgbench.metrics.frechet import frechet_from_features
from nvgbench.results.store import plain
from tests.helpers.doctor_cases import Colours, pictures, rounded

N = 240


@dataclasses.dataclass
class Clinic:
    """Images in order and what they score; examines others with the same extractor."""

    extractor: Colours
    floats: torch.Tensor
    labels: np.ndarray
    samples: torch.Tensor
    reference: torch.Tensor
    score: float
    half_precision: float

    @cached_property
    def in_order(self) -> Examination:
        return self.examine(self.samples, labels=self.labels)

    def examine(self, images: torch.Tensor, reference: torch.Tensor | None = None, labels: np.ndarray | None = None, **more):
        target = Reference(in_memory("reference", self.reference if reference is None else reference))
        samples = in_memory("samples", images, labels)
        options = ExaminationOptions(**more)
        return Examination(samples, target, self.extractor, options, cache=FeatureCache(None))


@pytest.fixture(scope="module")
def clinic() -> Clinic:
    extractor = Colours()
    floats, labels = pictures(N, 1)
    samples, reference = rounded(floats), rounded(pictures(N, 2)[0])
    x, y = (extractor(images)[0].numpy() for images in (samples, reference))
    half = next(one for one in OTHERS if one.name == "moments rounded to float16")
    score, rough = frechet_from_features(x, y), rough_distance(half.of(x), half.of(y))
    return Clinic(extractor, floats, labels, samples, reference, score, rough)


def other_pictures(clinic: Clinic) -> torch.Tensor:
    """Three of the six classes."""
    floats, labels = pictures(2 * N, 5)
    return rounded(floats[labels < 3])


Planted = Callable[[Clinic], Examination]
MISTAKES: dict[str, Planted] = {
    "rounding": lambda clinic: clinic.examine(clinic.floats.floor().to(torch.uint8)),
    "channel order": lambda clinic: clinic.examine(clinic.samples.flip(1)),
    "range": lambda clinic: clinic.examine(linear(clinic.samples, 0, 255, 16, 235)),
    "resize": lambda clinic: clinic.examine(halve(clinic.samples)),
    "JPEG": lambda clinic: clinic.examine(jpeg(clinic.samples, 75)),
    "duplicates": lambda clinic: clinic.examine(clinic.samples[: N // 4].repeat(4, 1, 1, 1)),
    "number of images": lambda clinic: clinic.examine(clinic.samples[: N // 2]),
    "order": lambda clinic: clinic.examine(clinic.samples[np.argsort(clinic.labels, kind="stable")]),
    "other reference": lambda clinic: clinic.examine(clinic.samples, other_pictures(clinic)),
    "precision of moments": lambda clinic: clinic.in_order,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistakes_are_found(clinic: Clinic, mistake: str) -> None:
    examination = MISTAKES[mistake](clinic)
    expected = clinic.half_precision if mistake == "precision of moments" else clinic.score
    causes = [cause.name for cause in examination.diagnose(expected).causes]
    assert mistake in causes[:2], causes
    if mistake == "precision of moments":  # the samples are in order, and nothing is known of the number
        assert examination.diagnose().causes == ()
    else:
        assert mistake in [cause.name for cause in examination.diagnose().causes][:2]


def test_a_set_in_order(clinic: Clinic) -> None:
    found = clinic.in_order.diagnose()
    assert found.causes == ()
    assert found.value == pytest.approx(clinic.score, rel=1e-9)  # the same features, summed in another order
    assert "Nothing found" in str(found)
    assert found.score == "FD[colours]"
    rows = {(row.variant, row.of): row for row in found.rows}
    assert rows["red and blue swapped", "samples"].change > 3 * rows["red and blue swapped", "samples"].error
    assert rows["half of the samples", "number"].change > 0 > rows["twice as many samples (extrapolated)", "number"].change
    assert abs(rows["moments rounded to float32", "statistics"].change) < 1e-4
    assert list(found.to_frame()["variant"]) == [row.variant for row in found.rows]


def test_an_unexplained_number_points_to_another_reference(clinic: Clinic) -> None:
    found = clinic.in_order.diagnose(500.0)
    assert found.causes[0].name == "other reference"
    assert "no variant explains more" in found.causes[0].reasons[0]


def test_the_true_reference_is_recognised(clinic: Clinic) -> None:
    others = {"the other one": Reference(in_memory("y", clinic.reference))}
    wrong = Reference(in_memory("x", other_pictures(clinic)))
    samples = in_memory("samples", clinic.samples)
    doctor = Examination(samples, wrong, clinic.extractor, ExaminationOptions(), cache=FeatureCache(None), others=others)
    found = doctor.diagnose(clinic.score)
    assert found.causes[0].name == "other reference"
    assert found.causes[0].match == pytest.approx(1.0)
    assert found.nearest[0].variants == ("the other one (reference)",)


def test_half_precision_is_seen_in_stored_statistics(clinic: Clinic) -> None:
    class Renamed(Colours):
        name = "inception"  # stored statistics are of Inception features

    x, y = (clinic.extractor(images)[0].numpy() for images in (clinic.samples, clinic.reference))
    mean, covariance = EXACT.of(y)
    stored = StoredMoments(*(values.astype(np.float16).astype(np.float64) for values in (mean, covariance)))
    reference = Reference(in_memory("y", clinic.reference), stored)
    samples = in_memory("x", clinic.samples)
    doctor = Examination(samples, reference, Renamed(), ExaminationOptions(), cache=FeatureCache(None))
    found = doctor.diagnose()
    assert found.score == "FID"
    assert found.value == pytest.approx(rough_distance(EXACT.of(x), (stored.mean_D, stored.covariance_DD)), rel=1e-6)
    assert found.causes[0].name == "precision of moments"
    recomputed = next(row for row in found.rows if row.cause == "stored statistics")
    assert recomputed.value == pytest.approx(clinic.score, rel=1e-9)
    alone = Reference(dataclasses.replace(in_memory("y", clinic.reference), count=0), stored, count=N)
    without = Examination(samples, alone, Renamed(), ExaminationOptions(), cache=FeatureCache(None)).diagnose()
    assert without.value == pytest.approx(found.value, rel=1e-9)
    assert {row.of for row in without.rows} == {"samples", "statistics", "number", "order"}


def test_the_inception_score_of_a_sorted_file(clinic: Clinic) -> None:
    order = np.argsort(clinic.labels, kind="stable")
    examination = clinic.examine(clinic.samples[order], labels=clinic.labels[order], score="IS")
    found = examination.diagnose()
    assert found.score == "IS[colours]"
    assert found.causes[0].name == "order"
    sorted_score = next(row.value for row in found.rows if row.variant == "10 splits in the order given")
    assert sorted_score < found.value / 2
    told = examination.diagnose(sorted_score).causes[0]
    assert (told.name, told.match) == ("order", pytest.approx(1.0))


def test_a_part_stands_for_the_whole(clinic: Clinic) -> None:
    whole, part = clinic.in_order.diagnose(), clinic.examine(clinic.samples, most=N // 2).diagnose()
    assert part.value == pytest.approx(whole.value, rel=1e-9)
    swapped = [next(row for row in one.rows if row.variant == "red and blue swapped") for one in (whole, part)]
    assert swapped[1].value == pytest.approx(swapped[0].value, abs=3 * swapped[1].error)
    assert any("120 images per side" in note for note in part.notes)


def test_combinations_prefer_few_variants() -> None:
    def row(name: str, of: str, change: float) -> Row:
        return Row(variant=name, of=of, cause=name, score="FID", value=10 + change, change=change)

    axes = [[row("a", "samples", -4.0)], [row("b", "reference", -3.0), row("c", "reference", 0.001)]]
    found = nearest_combinations(axes, 10.0, 3.0, lambda rows: 10 + sum(one.change for one in rows))
    assert found[0].variants == ("a (samples)", "b (reference)")
    alone = nearest_combinations(axes, 10.0, 6.0, lambda rows: 10 + sum(one.change for one in rows))
    assert alone[0].variants == ("a (samples)",)
    assert all("c" not in variant for variant in alone[0].variants)


def test_changes_of_pixels(clinic: Clinic) -> None:
    images = clinic.samples[:8]
    assert torch.equal(swap_channels(swap_channels(images)), images)
    inner = images.clamp(1, 254)
    brighter = shift_half(inner, 1).float() - inner.float()
    assert set(brighter.unique().tolist()) == {0.0, 1.0}
    assert brighter.mean().item() == pytest.approx(0.5, abs=0.02)  # 3,072 random halves: standard error 0.009
    assert linear(torch.tensor([[[[16, 235, 5]]]], dtype=torch.uint8), 16, 235, 0, 255).flatten().tolist() == [0, 255, 0]
    for change in (halve, soften, lambda x: jpeg(x, 75)):
        assert change(images).shape == images.shape
        assert 0 < (change(images).float() - images.float()).abs().mean() < 60
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spread(100, 3).tolist() == [0, 50, 99]


@pytest.fixture(scope="module")
def files(clinic: Clinic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    np.savez(folder / "samples.npz", arr_0=clinic.samples[:20].repeat(2, 1, 1, 1).permute(0, 2, 3, 1).numpy())
    np.savez(folder / "reference.npz", arr_0=clinic.reference[:40].permute(0, 2, 3, 1).numpy())
    (folder / "large").mkdir()
    for number, image in enumerate(clinic.samples[:24].permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).resize((48, 48), Image.Resampling.NEAREST).save(folder / "large" / f"{number}.png")
    return folder


def test_from_python(clinic: Clinic, files: Path) -> None:
    found = nb.doctor(files / "samples.npz", files / "reference.npz", extractor=clinic.extractor, expected=5.0)
    assert isinstance(found, Diagnosis)
    assert found.expected == 5.0
    assert plain(found.to_dict())["causes"][0]["weight"] == found.causes[0].weight
    resized = nb.doctor(files / "large", files / "reference.npz", extractor=clinic.extractor, resize=32)
    kernels = {row.variant.split()[2] for row in resized.rows if "instead of bicubic" in row.variant}
    assert kernels == {"nearest", "box", "bilinear", "hamming", "lanczos"}


def test_the_command(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*more: str):
        arguments = ["doctor", "--samples", str(files / "samples.npz"), "--reference", str(files / "reference.npz"), *more]
        return CliRunner().invoke(build_app(), [*arguments, "--runs", str(files / "runs")])

    monkeypatch.setattr("nvgbench.api.doctor._OFFLINE", {})
    monkeypatch.setattr("nvgbench.extractors.inception.torch.hub.get_dir", lambda: str(files), raising=False)
    assert "no extractor works here without a download" in str(call().exception)
    told = call("--extractor", "tests.helpers.doctor_cases:make_colours", "--expected", "1.5")
    assert told.exit_code == 0, told.exception
    assert "Most likely causes:" in told.stdout
    assert ". duplicates (weight 1." in told.stdout
    assert "Nearest to the expected 1.5:" in told.stdout
    assert '"score": "FD[colours]"' in call("--extractor", "tests.helpers.doctor_cases:make_colours", "--json").stdout
    assert "expected `score='FID'`" in str(
        call("--extractor", "tests.helpers.doctor_cases:make_colours", "--score", "KID").exception
    )


def test_the_extractor_that_is_here(clinic: Clinic, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.api.doctor._OFFLINE", {"inception": "json"})  # any module that is installed
    monkeypatch.setattr(
        "nvgbench.api.doctor.PUBLISHED", dataclasses.replace(nb_published(), url="https://x.invalid/absent.pth")
    )
    monkeypatch.setattr("nvgbench.api.doctor.open_extractor", lambda name, request: clinic.extractor)
    found = nb.doctor(files / "samples.npz", files / "reference.npz", expected=3.5)
    assert found.expected is None
    assert "the expected 3.5 is not compared" in found.notes[0]


def nb_published():
    from nvgbench.extractors.inception import PUBLISHED

    return PUBLISHED


def test_protocols_of_other_libraries(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rules:
        def __init__(self, id: str) -> None:
            self.id = id

        def extractor(self, request):
            if self.id == "adm":
                raise nb.InputError("no weights")
            return clinic.extractor

        def pool(self, features):
            return features

        def frechet(self, x, y) -> float:
            return frechet_from_features(x, y) + 2

    monkeypatch.setattr("nvgbench.evaluation.doctor.examination.open_rules", lambda id, device: Rules(id))
    found = clinic.examine(clinic.samples, protocols=["adm", "clean-fid"]).diagnose(clinic.score + 2)
    assert found.causes[0].name == "protocol clean-fid"
    assert found.causes[0].match == pytest.approx(1.0)
    assert "the protocol adm was not tried: no weights" in found.notes
