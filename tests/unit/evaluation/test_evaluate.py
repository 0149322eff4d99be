"""Evaluation end to end with small stand-ins: right scores under right names, refusals, and records that are whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nvgbench.config.load import to_dict
from nvgbench.config.schema import DataConfig, TokenizerConfig
from nvgbench.data import catalog
from nvgbench.data.image_set import in_memory
from nvgbench.data.moments import StoredMoments
from nvgbench.errors import InputError
from nvgbench.evaluation import evaluate, scorer
from nvgbench.evaluation.anchors import class_means
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.scores import ScoreSettings, evaluate_samples
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.sets import ExtractorSet
from nvgbench.gates.environment import environment_of
from nvgbench.metrics.frechet import frechet_distance, frechet_from_features
from nvgbench.metrics.frechet_extrapolated import fewest_images
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.results.compare import Scored, why_not_comparable
from nvgbench.results.store import ResultStore
from nvgbench.results.weights import unfinished
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, TokenSequence
from tests.helpers.evaluation_jobs import noted

SETTINGS = ScoreSettings()
CACHE = FeatureCache(None)


class Thumbnails:
    """Stands in for a network: features are a 2x2 thumbnail, logits tell bright red, green and blue."""

    fingerprint = "f" * 64

    def __init__(self, name: str = "classifier", classes: int = 3) -> None:
        self.name = name
        self.classes = classes
        self.provenance = {"weights_sha256": "0" * 64}

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2)
        logits = torch.nn.functional.pad(10 * small.mean(dim=(2, 3)), (0, self.classes - 3))
        return small.flatten(1), logits


def coloured(n: int, seed: int, side: int = 16) -> tuple[torch.Tensor, np.ndarray]:
    """Noise with one bright channel: its number is the class."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 150, (n, 3, side, side), generator=rng, dtype=torch.uint8)
    labels = np.arange(n) % 3
    images[torch.arange(n), torch.from_numpy(labels)] += 100
    return images, labels


def image_set(n: int, seed: int, *, labels: bool = True, side: int = 16):
    images, classes = coloured(n, seed, side)
    return in_memory(f"set {seed}", images, classes if labels else None)


NEIGHBOURS = ("precision", "recall", "density", "coverage", "clipped-density", "clipped-coverage")


def named(metrics) -> dict:
    return {metric.name: metric for metric in metrics}


def test_scores_their_names_and_intervals() -> None:
    scores = evaluate_samples(
        image_set(60, 1), Reference(image_set(50, 2)), Thumbnails(), ScoreSettings(per_class=True), cache=CACHE
    )
    metrics = named(scores.metrics)
    assert set(metrics) == {
        f"{stem}[classifier]" for stem in ("FD", "IS", "KD", "KD-RBF", "MIND", "Vendi", "accuracy", *NEIGHBOURS)
    }
    x, y = (Thumbnails()(coloured(n, seed)[0])[0] for n, seed in ((60, 1), (50, 2)))
    assert metrics["FD[classifier]"].value == pytest.approx(frechet_from_features(x, y))
    assert metrics["FD[classifier]"].n_reference == 50
    assert metrics["accuracy[classifier]"].value == 1.0
    for metric in metrics.values():
        assert metric.n == 60
        assert metric.interval is not None
        assert metric.interval.low <= metric.value <= metric.interval.high
        assert metric.interval.source == "sampling"
        if metric.name not in ("KD[classifier]", "KD-RBF[classifier]"):
            assert metric.interval.low >= 0
        if metric.name.split("[")[0] in ("precision", "recall", "coverage", "clipped-density", "accuracy"):
            assert metric.interval.high <= 1
    rows = scores.tables["FD[classifier] by class"]
    assert [row["n"] for row in rows] == [20, 20, 20]
    assert scores.provenance["reference"]["n"] == 50
    assert len(scores.provenance["extractor"]["fingerprint"]) == 64


def test_bare_names_are_for_inception_alone_and_stored_moments_count() -> None:
    moments = StoredMoments(np.zeros(12), np.eye(12))
    reference = Reference(image_set(50, 2), moments)
    found = named(evaluate_samples(image_set(60, 1), reference, Thumbnails("inception"), SETTINGS, cache=CACHE).metrics)
    assert {"FID", "IS", "KID", "KID-RBF", "MIND", "Vendi", *NEIGHBOURS} == set(found)
    x = Thumbnails()(coloured(60, 1)[0])[0].double().numpy()
    expected = frechet_distance(x.mean(axis=0), np.cov(x, rowvar=False), np.zeros(12), np.eye(12))
    assert found["FID"].value == pytest.approx(expected)
    assert "stored" in found["FID"].note
    other = named(evaluate_samples(image_set(60, 1), reference, Thumbnails(), SETTINGS, cache=CACHE).metrics)
    assert "stored" not in other["FD[classifier]"].note


def test_stored_moments_are_part_of_the_reference_where_they_are_used() -> None:
    """The same images with other moments are another reference: FID is computed from the moments."""

    def origin(moments: StoredMoments | None, extractor: str = "inception") -> dict:
        reference = Reference(images, moments)
        scores = evaluate_samples(image_set(60, 1), reference, Thumbnails(extractor), SETTINGS, cache=CACHE)
        return scores.provenance["reference"]

    images = image_set(50, 2)
    plain, unit, wide = origin(None), *(origin(StoredMoments(np.zeros(12), scale * np.eye(12))) for scale in (1, 2))
    assert [one["stored_moments"] for one in (plain, unit, wide)] == [False, True, True]
    assert len({one["fingerprint"] for one in (plain, unit, wide)}) == 3
    assert {one["images_fingerprint"] for one in (plain, unit, wide)} == {plain["fingerprint"]}
    assert origin(StoredMoments(np.zeros(12), np.eye(12))) == unit
    assert origin(StoredMoments(np.zeros(12), np.eye(12)), "classifier") == plain
    spatial = Reference(images, spatial_moments=StoredMoments(np.zeros(3), np.eye(3)))
    assert spatial.identity("a", "adm", "inception")["stored_moments"]
    assert not spatial.identity("a", "nvgbench", "inception")["stored_moments"]
    assert not Reference(images, spatial.spatial_moments).identity("a", "clean-fid", "inception")["stored_moments"]


def test_memorised_images_are_noticed() -> None:
    training, fresh = image_set(80, 1), image_set(60, 3)
    name = "nearest-training-ratio[classifier]"
    values = {}
    for label, samples in (("copies", image_set(80, 1)), ("fresh", fresh)):
        scores = evaluate_samples(samples, Reference(image_set(50, 2)), Thumbnails(), SETTINGS, cache=CACHE, training=training)
        values[label] = named(scores.metrics)[name].value
    assert values["copies"] < 0.01
    assert values["fresh"] == pytest.approx(1, abs=0.3)


def test_what_cannot_be_scored_is_refused() -> None:
    reference = Reference(image_set(50, 2))
    for samples, settings, message in (
        (image_set(5, 1), SETTINGS, "5 images are too few; use at least 6"),
        (image_set(60, 1, side=32), SETTINGS, "32 px, the reference set 2 has 16 px"),
        (image_set(60, 1, labels=False), ScoreSettings(per_class=True), "need labels.*have none; add arr_1"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_samples(samples, reference, Thumbnails(), settings, cache=CACHE)
    with pytest.raises(InputError, match="too few"):
        evaluate_samples(image_set(60, 1), Reference(image_set(3, 2)), Thumbnails(), SETTINGS, cache=CACHE)
    unknown = in_memory("other classes", coloured(60, 1)[0], np.full(60, 7))
    with pytest.raises(InputError, match="class 7"):
        evaluate_samples(unknown, reference, Thumbnails(), SETTINGS, cache=CACHE)


class Painter:
    """A model whose images are a shape in its class's brightness."""

    spec = ModelSpec(name="painter", family="nvg", image_size=16, num_classes=10, provenance={"step": 3})

    def generate(self, request: SampleRequest) -> SampleResult:
        images = torch.zeros(len(request.labels_B), 3, 16, 16, dtype=torch.uint8)
        for image, label, seed in zip(images, request.labels_B.tolist(), request.seeds_B.tolist(), strict=True):
            # torch's generator takes the lower 32 bits of a seed alone, and the job's seed is above them.
            rng = torch.Generator().manual_seed(seed % (2**31 - 1))
            image += torch.randint(0, 100 + 10 * label, image.shape, generator=rng, dtype=torch.uint8)
        return SampleResult(images)


class Rounding:
    """A tokenizer that keeps the mean brightness in 4 levels."""

    grid, codebook_size, stage_tokens = (1, 1), 4, (1,)

    def encode(self, images_B3HW: torch.Tensor) -> TokenSequence:
        level = images_B3HW.mean(dim=(1, 2, 3)).add(1).mul(2).floor().clamp(0, 3).long()
        return TokenSequence((level[:, None],))

    def decode(self, source: TokenSequence) -> torch.Tensor:
        return ((source.indices[0].float() + 0.5) / 2 - 1)[:, :, None, None].expand(-1, 3, 16, 16)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "open_extractor", lambda name, *_, **__: Thumbnails(name, 10))
    monkeypatch.setattr("nvgbench.evaluation.reconstructions.load_lpips", lambda device: (None, "LPIPS: not here"))
    monkeypatch.setattr(evaluate, "config_hash", lambda config: "0123456789abcdef")
    monkeypatch.setattr(evaluate, "changed_settings", lambda config: {})


def stub_run(root: Path, model: Mapping[str, Any] | None = None) -> SimpleNamespace:
    """A run of `Painter`; ``model`` is its provenance."""
    folder = root / "painter"
    painter = Painter()
    painter.spec = dataclasses.replace(Painter.spec, provenance=model or Painter.spec.provenance)
    config = SimpleNamespace(
        data=DataConfig(source="shapes", image_size=16, train_images=40, eval_images=30),
        family="nvg",
        name="nvg-tiny",
        tokenizer=TokenizerConfig(),
        model=None,
        sampling=NvgSamplingConfig(top_k=7),
    )
    return SimpleNamespace(
        name="painter",
        path=folder,
        config=config,
        dataset=noted(config.data),
        samples_path=folder / "samples",
        records_path=folder / "records.jsonl",
        replicate={"of": "0123456789abcdef", "seed": 0},
        load_generator=lambda device, **chosen: painter,
        load_tokenizer=lambda device: Rounding(),
    )


@pytest.mark.usefixtures("offline")
def test_a_run_is_sampled_scored_drawn_and_recorded(tmp_path: Path) -> None:
    options = EvaluationOptions(n=40, extractor="classifier", batch_size=16)
    run = stub_run(tmp_path)
    record = Evaluator(tmp_path, options).run(run)
    assert ResultStore(run.records_path).records() == [record]
    metrics = named(record.metrics)
    assert {"FD[classifier]", "rFD[classifier]", "PSNR", "SSIM", "codebook-use", "codebook-perplexity"} <= set(metrics)
    assert "LPIPS" not in metrics
    assert metrics["FD[classifier]"].n == 40
    assert metrics["PSNR"].n == 30
    assert [row["stage"] for row in record.tables["codebook by stage"]] == ["0", "all"]
    assert {artifact.kind for artifact in record.artifacts} == {"samples", "reference"}  # this model has no trace
    for artifact in record.artifacts:
        assert (run.records_path.parent / artifact.path).stat().st_size > 0
    assert record.provenance["config_hash"] == "0123456789abcdef"
    assert record.provenance["seeds"] == {"sampling": 0, "scores": 0}
    assert record.provenance["model"] == {"step": 3}
    assert record.provenance["n"] == 40
    assert record.provenance["settings"]["top_k"] == 7  # in full, not the overrides alone
    assert record.provenance["precision"] == "float32"
    device = record.provenance["device"]
    assert (device["device"], device["threads"]) == ("cpu", torch.get_num_threads())
    assert device["matmul_precision"]
    assert {"threads", "matmul_precision", "precision"} <= environment_of(record).keys()
    again = Evaluator(tmp_path, options).run(run)
    assert named(again.metrics) == metrics
    assert len(ResultStore(run.records_path).records()) == 2


@pytest.mark.usefixtures("offline")
def test_sampling_settings_are_recorded_with_their_overrides(tmp_path: Path) -> None:
    options = EvaluationOptions(n=40, extractor="classifier", settings={"top_k": 3})
    record = Evaluator(tmp_path, options).run(stub_run(tmp_path))
    assert record is not None
    resolved = {"precision": "fp32", "compile": False}  # what "auto" is on the CPU
    assert record.provenance["settings"] == {**to_dict(NvgSamplingConfig()), "top_k": 3, **resolved}


@pytest.mark.usefixtures("offline")
def test_too_few_images_for_an_extrapolation_are_refused_before_any_is_drawn(tmp_path: Path) -> None:
    run, path = stub_run(tmp_path), tmp_path / "theirs.npz"
    np.savez(path, arr_0=coloured(40, 5)[0].permute(0, 2, 3, 1).numpy())
    fewest = fewest_images(12)
    options = EvaluationOptions(n=fewest - 1, extractor="inception", fid_infinity=True)
    with pytest.raises(InputError, match=f"`fid_infinity=True` with {fewest - 1} images: .* needs at least {fewest}"):
        Evaluator(tmp_path, options).run(run)
    assert not run.samples_path.exists()
    with pytest.raises(InputError, match="`fid_infinity=True` with 40 images"):
        Evaluator(tmp_path, dataclasses.replace(options, reference="shapes")).files(path)
    record = Evaluator(tmp_path, dataclasses.replace(options, n=fewest)).run(run)
    assert record is not None
    assert "FID∞" in named(record.metrics)


@pytest.mark.usefixtures("offline")
def test_reconstructions_are_compared_by_the_held_out_images(tmp_path: Path) -> None:
    """--reference says what samples are held against; reconstructions are of the run's own held-out images in any case."""
    path = tmp_path / "theirs.npz"
    np.savez(path, arr_0=coloured(40, 5)[0].permute(0, 2, 3, 1).numpy())

    def scored(eval_images: int, reference: str | None) -> dict[str, Scored]:
        run = stub_run(tmp_path)
        run.config.data = DataConfig(source="shapes", image_size=16, train_images=40, eval_images=eval_images)
        options = EvaluationOptions(n=40, extractor="classifier", reference=reference)
        record = Evaluator(tmp_path, options).run(run)
        assert record is not None
        assert record.provenance["reconstruction_reference"]["n"] == eval_images
        return {metric.name: Scored(metric, record) for metric in record.metrics}

    own, theirs, fewer = scored(30, None), scored(30, str(path)), scored(29, str(path))
    for name in ("rFD[classifier]", "PSNR", "codebook-use"):
        assert why_not_comparable(own[name], theirs[name]) is None
        few = dataclasses.replace(fewer[name], metric=own[name].metric)  # the number of images alone would tell otherwise
        assert "reference differs" in (why_not_comparable(theirs[name], few) or "")
    assert "reference" in (why_not_comparable(own["FD[classifier]"], theirs["FD[classifier]"]) or "")


@pytest.mark.usefixtures("offline")
def test_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "theirs.npz"
    images, labels = coloured(40, 5)
    np.savez(path, arr_0=images.permute(0, 2, 3, 1).numpy(), arr_1=labels)
    options = EvaluationOptions(extractor="classifier", reference="shapes")
    record = Evaluator(tmp_path, options).files(path)
    assert (record.subject, record.family) == ("theirs", "external")
    assert record.provenance["n"] == 40
    assert record.provenance["seeds"] == {"scores": 0}, "nobody knows the seed of their images"
    assert "settings" not in record.provenance
    assert ResultStore(tmp_path / "_external").records() == [record]
    with pytest.raises(InputError, match="need a `reference=`"):
        Evaluator(tmp_path, EvaluationOptions(extractor="classifier")).files(path)
    same = Evaluator(tmp_path, EvaluationOptions(extractor="inception", reference=str(path))).files(path, "own")
    assert named(same.metrics)["FID"].value == pytest.approx(0, abs=1e-9)
    assert same.subject == "own"


@pytest.mark.usefixtures("offline")
def test_unfinished_weights_are_reported_and_recorded(tmp_path: Path) -> None:
    warned: list[str] = []
    options = EvaluationOptions(n=40, extractor="classifier")
    run = stub_run(tmp_path, {"step": 11, "total_steps": 600, "finished": False})
    record = Evaluator(tmp_path, options, warn=warned.append).run(run)
    assert record is not None
    assert record.provenance["model"]["step"] == 11
    assert any("unfinished, step 11 of 600" in line for line in warned)
    samples = next(tmp_path.rglob("samples-40.npz"))
    theirs = Evaluator(tmp_path, dataclasses.replace(options, extractor="inception", reference=str(samples))).files(samples)
    assert theirs is not None
    assert unfinished(theirs.provenance["model"]) == "unfinished, step 11 of 600"


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("protocol", "extractor", "warned"),
    [("nvgbench", "inception", ["number"]), ("clean-fid", "inception", []), ("nvgbench", "classifier", ["extractor"])],
)
def test_stored_statistics_are_warned_of_where_they_are_used(
    tmp_path: Path, protocol: str, extractor: str, warned: list[str]
) -> None:
    evaluator = Evaluator(tmp_path, EvaluationOptions(protocol=protocol, extractor=extractor))
    reference = Reference(image_set(50, 2), StoredMoments(np.zeros(12), np.eye(12)))
    found = evaluator._lint(image_set(60, 1), reference, ExtractorSet("", (Thumbnails(extractor),)))
    assert [finding.check for finding in found if "stored" in finding.message] == warned


@pytest.mark.usefixtures("offline")
def test_anchors_are_ordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.evaluation.anchors.untrained", lambda *_: Painter())
    monkeypatch.setattr(catalog, "SHAPES", dataclasses.replace(catalog.SHAPES, train_images=300))
    monkeypatch.setattr("nvgbench.evaluation.evaluate.UNTRAINED_IMAGES", 30)
    options = EvaluationOptions(n=40, extractor="classifier")
    config = stub_run(tmp_path).config
    configs = [config, SimpleNamespace(data=config.data, name="another", sampling=config.sampling)]
    records = list(Evaluator(tmp_path, options).anchors(configs))
    real, means, *untrained = (named(record.metrics)["FD[classifier]"].value for record in records)
    subjects = ["real images (shapes)", "class means (shapes)", "untrained nvg-tiny", "untrained another"]
    assert [record.subject for record in records] == subjects, "the data set's own anchors once"
    assert {record.family for record in records} == {"anchor"}
    assert [set(record.provenance["seeds"]) for record in records[:3]] == [
        {"selection", "scores"},
        {"scores"},
        {"sampling", "scores"},
    ]
    assert [record.provenance.get("settings", {}).get("top_k") for record in records[:3]] == [None, None, 7]
    assert all(real < means < blank for blank in untrained)
    assert [named(record.metrics)["FD[classifier]"].n for record in records] == [40, 40, 30, 30]
    assert len(ResultStore(tmp_path / "_anchors").records()) == 4


def test_class_means_are_means() -> None:
    from nvgbench.data.source import open_dataset

    dataset = open_dataset("shapes", image_size=16, split="train", limit=30)
    anchor = class_means(dataset, batch_size=7)
    expected = dataset.images(np.arange(4, 30, 10)).double().mean(dim=0).round()
    made = anchor.generate(SampleRequest(labels_B=torch.tensor([4]), seeds_B=torch.tensor([0])))
    assert torch.equal(made.images_B3HW[0].double(), expected)
    with pytest.raises(InputError, match="out of range"):
        anchor.generate(SampleRequest(labels_B=torch.tensor([10]), seeds_B=torch.tensor([0])))
    with pytest.raises(InputError, match="no sampling settings"):
        anchor.generate(SampleRequest(labels_B=torch.tensor([1]), seeds_B=torch.tensor([0]), settings={"top_k": 1}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n": 3}, "too few"), ({"extractor": "clasifier"}, "did you mean 'classifier'"), ({"batch_size": 0}, "at least 1")],
)
def test_options_are_checked_at_once(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EvaluationOptions(**settings)


@pytest.mark.usefixtures("offline")
def test_several_sampling_seeds_end_in_their_mean(tmp_path: Path) -> None:
    run = stub_run(tmp_path)
    evaluator = Evaluator(tmp_path, EvaluationOptions(n=40, extractor="classifier", batch_size=16))
    mean = evaluator.over_seeds(run, [0, 1, 2])
    assert mean is not None
    *single, last = ResultStore(run.records_path).records()
    assert last == mean
    assert [record.provenance["seeds"]["sampling"] for record in single] == [0, 1, 2]
    values = [named(record.metrics)["FD[classifier]"].value for record in single]
    assert len(set(values)) == 3
    found = named(mean.metrics)["FD[classifier]"]
    assert found.value == pytest.approx(np.mean(values))
    assert (found.interval.source, found.interval.method) == ("sampling", "Student's t over 3 sampling seeds")
    # Reconstructions are the same for every seed and keep their own interval.
    assert named(mean.metrics)["PSNR"] == named(single[0].metrics)["PSNR"]
