from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from typer.testing import CliRunner

from nvgbench.errors import InputError

# main() with this command group alone, as the console script runs it.
_MAIN = "import nvgbench.cli.groups as groups; groups.COMMANDS = ('data',); import nvgbench.cli.app as app; app.main()"


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _MAIN, "data", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_list_names_every_source(app: typer.Typer):
    result = CliRunner().invoke(app, ["data", "list"])
    assert result.exit_code == 0
    for form in ("shapes", "cifar10[:PATH]", "cifar100[:PATH]", "imagefolder:PATH", "npz:PATH", "imagenet:PATH"):
        assert form in result.output


def test_show_writes_samples_with_masks(app: typer.Typer, tmp_path: Path):
    out = tmp_path / "sub" / "x.png"
    result = CliRunner().invoke(app, ["data", "show", "shapes", "-n", "4", "--size", "32", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == str(out)
    sheet = np.asarray(Image.open(out))
    # Four samples in one row, each three cells (image, objects, parts) of 32 px, three times enlarged, 2 px apart.
    assert sheet.shape[1] == 12 * (96 + 2) + 2
    assert len(np.unique(sheet[-98:-2, 100:196].reshape(-1, 3), axis=0)) == 2, "one object on its background"


def test_show_without_masks(app: typer.Typer, tmp_path: Path):
    np.savez(tmp_path / "x.npz", np.zeros((20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 2)
    result = CliRunner().invoke(
        app, ["data", "show", f"npz:{tmp_path}/x.npz", "-n", "6", "--split", "eval", "--out", str(tmp_path / "x.png")]
    )
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "x.png").width == 2 * 98 + 2, "two images are held out"


def test_show_refuses_other_formats(app: typer.Typer, tmp_path: Path):
    result = CliRunner().invoke(app, ["data", "show", "shapes", "--out", str(tmp_path / "x.jpg")])
    assert isinstance(result.exception, InputError)
    assert not list(tmp_path.iterdir())


def test_exit_codes(tmp_path: Path):
    good = _run("show", "shapes", "-n", "1", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "shapes-train-32px.png").is_file()
    bad = _run("show", "shapse", cwd=tmp_path)
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.splitlines() == [bad.stderr.strip()], "one line"
    assert "did you mean 'shapes'?" in bad.stderr


def test_listing_does_not_import_torch(tmp_path: Path):
    script = (
        f"import sys; sys.argv = ['nvgbench', 'data', 'list']\ntry:\n    {_MAIN}\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_check_reads_everything(app: typer.Typer, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    noise[4] = 0
    (tmp_path / "a").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number:02}.png")
    result = CliRunner().invoke(app, ["data", "check", f"imagefolder:{tmp_path}"])
    assert result.exit_code == 0, result.output
    assert "1 image in which every pixel is black" in result.output
    for number in (7, 8):
        path = tmp_path / "a" / f"{number:02}.png"
        path.write_bytes(path.read_bytes()[:200])
    result = CliRunner().invoke(app, ["data", "check", f"imagefolder:{tmp_path}"])
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.startswith("unreadable:")]
    assert len(lines) == 2
    assert all(f"{number:02}.png cannot be read" in line for number, line in zip((7, 8), sorted(lines), strict=True))
