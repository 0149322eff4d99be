"""Fine-tuning: what is kept of the trained weights, what is refused, what is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.results.store import ResultStore
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import RunFolder
from nvgbench.training.initial import InitialWeights, class_rows, embed_classes
from nvgbench.training.interrupt import Interrupted
from tests.helpers.training_jobs import small_config, train

EMBEDDINGS = {
    "nvg": ("content.class_embed.weight", "structure.class_embed.weight"),
    "var": ("class_embedding.weight",),
    "ar": ("class_embedding.weight",),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    for family in EMBEDDINGS:
        train(root / family, family, "train.steps=2")
    return root


def weights(run: Path, phase: str = "generator", file: str = ckpt.WEIGHTS) -> dict[str, torch.Tensor]:
    return ckpt.load_tensors(RunFolder(run).checkpoint(phase), file)


def test_classes_of_equal_names_are_the_same_classes() -> None:
    assert class_rows(["cat", "owl", "dog"], ["dog", "cat"]) == (1, None, 0)


def test_new_classes_look_like_known_ones() -> None:
    rng = torch.Generator().manual_seed(0)
    trained_MD = 3 + 2 * torch.randn(401, 64, generator=rng)
    trained_MD[-1] = 100.0  # "no class" must not count
    made_ND = embed_classes(trained_MD, [7] + [None] * 400, rng)
    assert made_ND.shape == (402, 64)
    assert torch.equal(made_ND[0], trained_MD[7])
    assert torch.equal(made_ND[-1], trained_MD[-1])
    # 400 draws per channel: the mean is known to 2 / √400 = 0.1, and the mean over 64 channels far better.
    new_ND = made_ND[1:-1]
    assert (new_ND.mean(dim=0) - 3).abs().max() < 0.6
    assert abs(float(new_ND.std(dim=0).mean()) - 2) < 0.05


def test_a_class_is_drawn_alike_whatever_the_others_are_called() -> None:
    trained_MD = torch.randn(5, 8)
    a, b = (embed_classes(trained_MD, rows, torch.Generator().manual_seed(1)) for rows in ([None, None], [2, None]))
    assert torch.equal(a[1], b[1])


def test_classes_of_an_unconditional_model_start_at_no_class() -> None:
    trained_1D = torch.randn(1, 8)
    assert torch.equal(embed_classes(trained_1D, [None, None], torch.Generator()), trained_1D.expand(3, 8))


def test_embeddings_without_a_row_for_no_class() -> None:
    trained_MD = torch.randn(4, 2, 3)
    made_ND = embed_classes(trained_MD, [3, None, 0], torch.Generator(), has_none=False)
    assert made_ND.shape == (3, 2, 3)
    assert torch.equal(made_ND[[0, 2]], trained_MD[[3, 0]])


@pytest.mark.parametrize("family", EMBEDDINGS)
def test_all_weights_but_the_class_embeddings_are_kept(family: str, sources: Path) -> None:
    config = small_config(family)
    classes = ("one circle", "a new one", "several stars")
    initial = InitialWeights(RunFolder(sources / family), config, classes, ["generator"])
    source = RunFolder(sources / family)
    from nvgbench.runs.models import seeded_generator

    module = seeded_generator(config, source.load_tokenizer(), len(classes), seed=5)
    initial.load(module, seed=5)
    there, here = weights(sources / family, file=ckpt.EMA), module.state_dict()
    assert set(there) == set(here)
    known = source.dataset.classes
    for name in there:
        if name not in EMBEDDINGS[family]:
            assert torch.equal(here[name], there[name]), name
            continue
        assert len(here[name]) == 4
        for row, label in enumerate(classes):
            if label in known:
                assert torch.equal(here[name][row], there[name][known.index(label)])
        assert torch.equal(here[name][-1], there[name][-1])
    assert initial.origin["classes"] == {"kept": 2, "new": 1}
    assert initial.origin["weights"] == source.provenance()["weights"]


def test_the_run_and_its_record_keep_the_origin(sources: Path, tmp_path: Path) -> None:
    train(tmp_path / "tuned", "ar", "train.steps=3", "train.seed=1", init=sources / "ar")
    train(tmp_path / "tuned", "ar", "train.steps=3", "train.seed=1", init=sources / "ar")  # finished: nothing to do
    run, source = RunFolder(tmp_path / "tuned"), RunFolder(sources / "ar")
    assert run.origins["generator"]["run"] == "ar"
    assert run.origins["generator"]["step"] == 2
    assert run.provenance()["origins"] == run.origins
    assert run.tokenizer_fingerprint() == source.tokenizer_fingerprint(), "the tokenizer is used as it is"
    (record,) = ResultStore(run.records_path).records()
    assert record.provenance["origins"] == run.origins
    assert record.provenance["tokenizer_from"]["run"] == "ar"
    train(tmp_path / "scratch", "ar", "train.steps=3", "train.seed=1", tokenizer=sources / "ar")
    assert RunFolder(tmp_path / "scratch").replicate["of"] != run.replicate["of"], "not a repetition of a training from scratch"
    with pytest.raises(InputError, match="was started from random weights"):
        train(tmp_path / "scratch", "ar", "train.steps=3", "train.seed=1", init=sources / "ar")


def test_the_tokenizer_alone_can_be_tuned(sources: Path, tmp_path: Path) -> None:
    frozen = 'train.tokenizer.frozen=["encoder.*"]'
    train(tmp_path / "run", "var", frozen, phases=["tokenizer"], init=sources / "var")
    there, here = weights(sources / "var", "tokenizer", ckpt.EMA), weights(tmp_path / "run", "tokenizer")
    assert all(torch.equal(here[name], there[name]) for name in there if name.startswith("encoder."))
    assert not torch.equal(here["decoder.stem.weight"], there["decoder.stem.weight"])
    assert RunFolder(tmp_path / "run").origins["tokenizer"]["run"] == "var"
    said: list[str] = []
    train(tmp_path / "run", "var", frozen, init=sources / "var", progress=lambda event: said.append(str(event.get("message"))))
    assert any("trained with another tokenizer" in text for text in said)


def test_an_interrupted_start_wants_the_same_weights_again(sources: Path, tmp_path: Path) -> None:
    def stop(event: dict) -> None:
        if event.get("phase") == "generator":
            raise Interrupted

    with pytest.raises(Interrupted):
        train(tmp_path / "run", "ar", init=sources / "ar", progress=stop)
    with pytest.raises(InputError, match="give that again as `init=`"):
        train(tmp_path / "run", "ar")
    train(tmp_path / "run", "ar", init=sources / "ar")
    train(tmp_path / "unbroken", "ar", init=sources / "ar")
    assert all(torch.equal(a, b) for a, b in zip(*(weights(tmp_path / n).values() for n in ("run", "unbroken")), strict=True))


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("var", (), "it is of family 'nvg'"),
        ("nvg", ("model.depth=2",), "missing: content.blocks.1"),
        ("nvg", ("tokenizer.codebook_size=64",), "codebook_size differ"),
    ],
)
def test_misfits_are_refused_before_the_run_exists(
    family: str, settings: tuple[str, ...], message: str, sources: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        train(tmp_path / "run", family, *settings, init=sources / "nvg")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
