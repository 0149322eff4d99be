"""``nvgbench verify`` on fixtures of other sizes, and on altered, incomplete and mixed-up ones."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nvgbench.cli.app import main
from nvgbench.registry import get_family
from tests.helpers.parity_fixtures import nvg_template, record, var_template, write


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fixtures")
    templates = {"var": var_template, "nvg": nvg_template}
    return {
        family: record(get_family(family).verification, *make(), folder, f"{family}_other")  # type: ignore[attr-defined]
        for family, make in templates.items()
    }


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["verify", *map(str, arguments)])
        shown = capsys.readouterr()
        return int(done.value.code or 0), shown.out, shown.err

    return run


Run = Callable[..., tuple[int, str, str]]


def changed(source: Path, folder: Path, **arrays: np.ndarray | None) -> Path:
    """A copy with some arrays replaced, or arrays and facts removed from both files (None)."""
    facts = {name: fact for name, fact in json.loads(source.read_text()).items() if arrays.get(name, fact) is not None}
    with np.load(source.with_suffix(".npz")) as archive:
        held = {name: archive[name] for name in archive.files}
    kept = {name: array for name, array in {**held, **arrays}.items() if array is not None}
    del facts["arrays"]
    return write(facts, kept, folder / source.name)


def array(source: Path, name: str) -> np.ndarray:
    with np.load(source.with_suffix(".npz")) as archive:
        return archive[name].copy()


@pytest.mark.parametrize(("family", "count"), [("var", 44), ("nvg", 75)])
def test_other_sizes_pass_in_single_and_double_precision(others: dict[str, Path], verify: Run, family: str, count: int) -> None:
    for dtype in ("float32", "float64"):
        code, shown, _ = verify(family, "--fixture", others[family], "--json", "--dtype", dtype)
        report = json.loads(shown)
        assert code == 0, [check for check in report["fixtures"][0]["checks"] if check["verdict"] == "fail"]
        assert {check["verdict"] for check in report["fixtures"][0]["checks"]} == {"pass", "input"}
        assert len(report["fixtures"][0]["checks"]) >= count
        assert not report["failed"]
        assert report["dtype"] == dtype


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("var", "idx_BL"), ("var", "act_block2"), ("var", "uncond_logits_rows"), ("var", "grad/head.bias"),
        ("var", "rng3_tokens"), ("var", "ar_cfg2.5_fhat"), ("var", "sched_1_3_idx"), ("var", "label_B"),
        ("nvg", "A.small_16x3.raw"), ("nvg", "A.image_flat_16x3.labels"), ("nvg", "B.odd.grad_z"),
        ("nvg", "D.nvg_input_output"),
        ("nvg", "D.loss_terms"), ("nvg", "D.sample_cfg.structure"), ("nvg", "D.step.scores"), ("nvg", "E.rope_ids"),
        ("nvg", "D.u"), ("nvg", "E.split2.next_gumbel"),
    ],
)  # fmt: skip
def test_one_altered_number_fails(others: dict[str, Path], verify: Run, tmp_path: Path, family: str, name: str) -> None:
    values = array(others[family], name)
    place = values.size // 2
    step = 1 if np.issubdtype(values.dtype, np.integer) else 0.01 * float(np.abs(values[np.isfinite(values)]).max())
    values.reshape(-1)[place] += -step if values.reshape(-1)[place] == values.max() else step
    code, shown, _ = verify(family, "--fixture", changed(others[family], tmp_path, **{name: values}))
    assert code == 1
    failing = [line for line in shown.splitlines() if line.startswith("fail ")]
    assert failing
    if name not in ("label_B", "D.u"):  # inputs: what follows from them fails
        assert any(line.split()[1] == name for line in failing), failing
    assert shown.splitlines()[-1].startswith("FAILED")


def failing(shown: str) -> set[str]:
    return {line.split()[1] for line in shown.splitlines() if line.startswith("fail ")}


@pytest.mark.parametrize(
    ("place", "value"), [(0, 2), (2, 3), (3, 6), (1, 0), (2, 5), (5, 14), (0, -1)],
)  # fmt: skip
def test_one_altered_row_fails(others: dict[str, Path], verify: Run, tmp_path: Path, place: int, value: int) -> None:
    """Another position gives other logits; rows that do not rise or are out of range are invalid."""
    rows = array(others["var"], "rows")
    rows[place] = value
    code, shown, _ = verify("var", "--fixture", changed(others["var"], tmp_path, rows=rows))
    assert code == 1
    assert "logits_rows" in failing(shown)
    rising = rows.min() >= 0 and rows.max() < 14 and bool((np.diff(rows) > 0).all())
    assert ("rows" in failing(shown)) == (not rising)


@pytest.mark.parametrize("place", [None, 0, 21, 29])
def test_as_many_rows_as_positions_are_all_of_them(verify: Run, tmp_path: Path, place: int | None) -> None:
    source = next(iter(get_family("var").verification.shipped))
    with np.load(source.with_suffix(".npz")) as archive:
        gone = {name: None for name in archive.files if name not in ("img", "rows", "label_B", "logits_rows", "idx_BL")}
    # The tokenizer's training steps take ten seconds and have no rows.
    gone |= {name: None for name in json.loads(source.read_text()) if name.startswith("vqtrain_")}
    rows = array(source, "rows")
    if place is not None:
        rows[place] += 1
    code, shown, _ = verify("var", "--fixture", changed(source, tmp_path, **{**gone, "rows": rows}))
    assert (code, failing(shown)) == ((0, set()) if place is None else (1, {"rows"}))


@pytest.mark.parametrize(("apart", "expected"), [(0.0, 0), (2e-6, 0), (-2e-6, 1), (1e-3, 1), (math.nan, 1)])
def test_the_two_ways_to_an_image_differ_by_rounding(
    others: dict[str, Path], verify: Run, tmp_path: Path, apart: float, expected: int
) -> None:
    name = "rec_from_tokens_vs_rec_maxdiff"
    path = changed(others["var"], tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), name: apart}))
    code, shown, _ = verify("var", "--fixture", path)
    assert (code, failing(shown)) == (expected, {name} if expected else set())
    assert len([line for line in shown.splitlines() if name in line]) == 1


def test_without_the_image_the_two_ways_to_it_are_not_compared(others: dict[str, Path], verify: Run, tmp_path: Path) -> None:
    path = changed(others["var"], tmp_path, rec_img=None)
    path.write_text(json.dumps({**json.loads(path.read_text()), "rec_from_tokens_vs_rec_maxdiff": 1.0}))
    assert verify("var", "--fixture", path)[0] == 0


def test_absent_arrays_are_reported(others: dict[str, Path], verify: Run, tmp_path: Path) -> None:
    path = changed(others["var"], tmp_path, rec_img=None)
    facts = json.loads(path.read_text())
    facts["arrays"]["rec_img"] = ["float32", [2, 3, 12, 12]]
    path.write_text(json.dumps(facts))
    code, shown, _ = verify("var", "--fixture", path)
    assert code == 0
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("absent")] == [["absent", "rec_img"]]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("var", ["f", "idx_BL", "x_BLCv", "act_block0", "ar_tokens", "rng3_tokens"]),
        ("nvg", ["D.nvg_input_output", "D.final_target", "A.small_16x3.labels", "D.sample_cfg.structure", "B.odd.indices"]),
        ("nvg", ["E.struct_feat_stage3", "E.loss_weight", "D.nvg_input_output"]),
        ("nvg", ["E.struct_feat_all", "E.struct_feat_stage3", "E.loss_weight_structure"]),
    ],
)
def test_what_follows_from_the_inputs_may_be_absent(
    others: dict[str, Path], verify: Run, tmp_path: Path, family: str, names: list[str]
) -> None:
    assert verify(family, "--fixture", changed(others[family], tmp_path, **dict.fromkeys(names)))[0] == 0


@pytest.mark.parametrize("gone", [(), ("E.struct_feat_all",), ("E.struct_feat_stage3",)])
def test_section_e_stands_alone(others: dict[str, Path], verify: Run, tmp_path: Path, gone: tuple[str, ...]) -> None:
    """Without the generators' section, embeddings must decode to balanced maps and encode to themselves."""
    with np.load(others["nvg"].with_suffix(".npz")) as archive:
        rest = {name: None for name in archive.files if name.startswith("D.") or name in gone}
    (tmp_path / "whole").mkdir()
    path = changed(others["nvg"], tmp_path / "whole", **rest)
    facts = json.loads(path.read_text())
    facts["config"] = {key: value for key, value in facts["config"].items() if not key.startswith("D")}
    path.write_text(json.dumps(facts))
    assert verify("nvg", "--fixture", path)[0] == 0
    for name in {"E.struct_feat_all", "E.struct_feat_stage3", "E.rope_content"} - set(gone):
        values = array(path, name)
        # The last channel read: another child of the same parent.
        place = (0, -1, 3, -1) if name.endswith("all") else (0, 3, 1) if name.endswith("3") else (1, 2, 0, 0)
        values[place] = 2 - values[place] if name.startswith("E.struct") else values[place] + 0.5
        code, shown, _ = verify("nvg", "--fixture", changed(path, tmp_path, **{name: values}))
        assert code == 1
        assert [line for line in shown.splitlines() if line.startswith(f"fail      {name}")]


def test_labels_may_be_in_the_json_file_only(others: dict[str, Path], verify: Run, tmp_path: Path) -> None:
    for labels, expected in (([6, 2], 0), ([6, 3], 1)):
        path = changed(others["var"], tmp_path, label_B=None)
        path.write_text(json.dumps({**json.loads(path.read_text()), "labels": labels}))
        assert verify("var", "--fixture", path)[0] == expected


def test_any_number_of_kept_columns(others: dict[str, Path], verify: Run, tmp_path: Path) -> None:
    """Every third of 40 codes are 14 columns, and 40 / 14 is no whole number."""
    with np.load(others["nvg"].with_suffix(".npz")) as archive:
        names = ["D.content_logits", "D.sample_cfg.logits"]
        kept = {name: np.repeat(archive[name], 2, axis=-1)[..., ::3] for name in names}
    path = changed(others["nvg"], tmp_path, **kept)
    shapes = [line for line in verify("nvg", "--fixture", path)[1].splitlines() if "recomputed as" in line]
    assert shapes == []


def refused(verify: Run, words: str, *arguments: str | Path) -> None:
    code, _, said = verify(*arguments)
    assert code == 2
    assert words in said
    assert said.count("\n") == 1


def test_incomplete_and_unknown_layouts_are_refused(others: dict[str, Path], verify: Run, tmp_path: Path) -> None:
    refused(verify, "'img'", "var", "--fixture", changed(others["var"], tmp_path, img=None))
    refused(verify, "'B.odd.z'", "nvg", "--fixture", changed(others["nvg"], tmp_path, **{"B.odd.z": None}))
    refused(verify, "nobody_knows", "var", "--fixture", changed(others["var"], tmp_path, nobody_knows=np.zeros(3)))
    refused(verify, "patch_nums", "var", "--fixture", others["nvg"])
    refused(verify, "unknown layout", "nvg", "--fixture", others["var"])
    refused(verify, "is inconsistent", "var", "--fixture", changed(others["var"], tmp_path, x_BLCv=np.zeros((2, 3, 8))))


def test_unreadable_files_are_refused(others: dict[str, Path], verify: Run, tmp_path: Path) -> None:
    refused(verify, "nowhere.json", "var", "--fixture", tmp_path / "nowhere.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    refused(verify, "not a JSON file", "var", "--fixture", broken)
    broken.write_text("[1]")
    refused(verify, "list", "var", "--fixture", broken)
    shutil.copy(others["var"], broken)
    refused(verify, "broken.npz", "var", "--fixture", broken)
    broken.with_suffix(".npz").write_bytes(others["var"].with_suffix(".npz").read_bytes()[:5000])
    refused(verify, "complete archive", "var", "--fixture", broken)
    np.savez(broken.with_suffix(".npz"), img=np.array([{}], dtype=object))
    refused(verify, "complete archive", "var", "--fixture", broken)
    np.savez(broken.with_suffix(".npz"), img=np.zeros((1, 3, 8, 8), dtype=np.float32))
    refused(verify, "belong together", "var", "--fixture", broken)


def test_unknown_names_are_refused_with_the_known_ones(verify: Run) -> None:
    refused(verify, "use nvg or var", "ar")
    refused(verify, "did you mean 'nvg'", "nvgg")
    refused(verify, "--device", "nvg", "--device", "gpu")
    code, _, said = verify("nvg", "--dtype", "int8")
    assert code == 2
    assert "int8" in said


@pytest.mark.parametrize("family", ["nvg", "var"])
def test_half_precision_reports_flips(verify: Run, family: str) -> None:
    code, shown, _ = verify(family, "--dtype", "bf16", "--json")
    found = [check for fixture in json.loads(shown)["fixtures"] for check in fixture["checks"]]
    assert code == 0, [check for check in found if check["verdict"] == "fail"]
    flips = [check for check in found if check["verdict"] == "flips"]
    assert flips
    assert all("half precision" in check["remark"] for check in flips)
    # Clusterings and quantizers stay in float32 and stay equal.
    exact = ("A.randn", "B.") if family == "nvg" else ("img", "phi_shared", "phi_nonshared", "sched_")
    assert {check["verdict"] for check in found if check["name"].startswith(exact)} == {"pass", "input"}
