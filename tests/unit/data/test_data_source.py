from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgbench.data.selection import held_out, round_robin
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("shape", {}, r"no data source 'shape' \(did you mean 'shapes'\?\); known: shapes, cifar10"),
        ("", {}, "no data source ''"),
        ("shapes:here", {}, "takes no path"),
        ("imagefolder", {}, "imagefolder:PATH"),
        ("npz:", {}, "npz:PATH"),
        ("shapes", {"image_size": 8}, "image size 8"),
        ("shapes", {"limit": 0}, "limit 0"),
    ],
)
def test_bad_requests_are_refused(source: str, options, message: str):
    with pytest.raises(InputError, match=message):
        open_dataset(source, **{"image_size": 32, "split": "train", **options})


def test_a_bare_path_is_told_its_source(tmp_path: Path):
    with pytest.raises(InputError, match="did you mean 'imagefolder:"):
        open_dataset(str(tmp_path), image_size=32, split="train")
    (tmp_path / "x.npz").touch()
    with pytest.raises(InputError, match="did you mean 'npz:"):
        open_dataset(str(tmp_path / "x.npz"), image_size=32, split="train")


def test_shapes_sizes():
    assert len(open_dataset("shapes", image_size=32, split="train")) == 8192
    assert len(open_dataset("shapes", image_size=32, split="eval")) == 2048
    assert len(open_dataset("shapes", image_size=32, split="eval", limit=7)) == 7


def test_held_out_images_are_never_augmented():
    assert open_dataset("shapes", image_size=32, split="eval", augment="random-crop").augment == "none"
    train = open_dataset("shapes", image_size=32, split="train", augment="random-crop")
    assert train.get(0, np.random.default_rng(0)).masks is None, "masks would not fit the crop"
    assert train[0].masks is not None


@given(st.lists(st.tuples(st.text(max_size=8), st.integers(0, 4)), min_size=1, max_size=120, unique_by=lambda pair: pair[0]))
def test_a_tenth_of_each_class_is_held_out_whatever_the_order(images: list[tuple[str, int]]):
    keys, labels = [key for key, _ in images], np.array([label for _, label in images])
    out = held_out(keys, labels)
    backwards = held_out(keys[::-1], labels[::-1])[::-1]
    assert out.tolist() == backwards.tolist()
    for label in np.unique(labels):
        count, held = int((labels == label).sum()), int(out[labels == label].sum())
        assert held < count, "never the last image of a class"
        assert held == (max(1, round(count / 10)) if count > 1 else 0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50), st.integers(1, 50))
def test_every_beginning_of_a_round_robin_is_balanced(labels: list[int], length: int):
    order = round_robin(np.array(labels))
    assert sorted(order.tolist()) == list(range(len(labels)))
    taken = np.bincount(np.array(labels)[order[:length]], minlength=5)
    available = np.bincount(labels, minlength=5)
    # A class falls behind the fullest one by more than one image only when it has no more.
    assert all(taken[c] == available[c] or taken[c] >= taken.max() - 1 for c in range(5))


def test_a_folder_called_like_a_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert open_dataset("shapes", image_size=16, split="eval", limit=10).remarks == ()
    (tmp_path / "shapes").mkdir()
    remarks = open_dataset("shapes", image_size=16, split="eval", limit=10).remarks
    assert [str(remark) for remark in remarks] == [
        "source: 'shapes' is the data source, not what lies in ./shapes; for that write 'imagefolder:shapes', or './shapes' to "
        "score it"
    ]


@pytest.mark.parametrize("source", ["npz", "imagefolder", "imagenet"])
def test_a_user_without_a_home(source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for such a user
    with pytest.raises(InputError, match=r"^~/x does not exist"):
        open_dataset(f"{source}:~/x", image_size=16, split="train")
