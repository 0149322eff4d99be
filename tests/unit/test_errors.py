"""Messages: arguments as Python spells them, and as options of the command line."""

from __future__ import annotations

import errno

import pytest

from nvgbench.cli.options import as_options
from nvgbench.errors import did_you_mean, file_error


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("write elsewhere (`runs=`, `out=`)", "write elsewhere (--runs, --out)"),
        ("use `extractor='classifier'`", "use --extractor classifier"),
        ('got `extractor="clip"`', "got --extractor clip"),
        ("`reference='a b.npz'`: no such file", "--reference 'a b.npz': no such file"),
        ("`extractor_weights=/a/b`: no such file", "--extractor-weights /a/b: no such file"),
        ("`n=50` is too few", "-n 50 is too few"),
        ("score with `force=True`, not `keep_samples=False`", "score with --force, not --no-keep-samples"),
        ("go without: `tokenizer.losses.perceptual=none`", "go without: --set tokenizer.losses.perceptual=none"),
        ("`x` and a = b stay, and `f(x=1)` too", "`x` and a = b stay, and `f(x=1)` too"),
    ],
)
def test_arguments_become_options(said: str, printed: str) -> None:
    assert as_options(said) == printed


def test_errors_of_the_file_system_name_the_remedy() -> None:
    line = file_error(OSError(errno.ENOSPC, "No space left on device", "/a/b"))
    assert line.startswith("/a/b: No space left on device; make room there, or write elsewhere (`runs=`, `out=`)")
    assert file_error(OSError("two\nlines")) == "two lines"
    assert file_error(OSError(errno.EPIPE, "Broken pipe", "x")) == "x: Broken pipe"


def test_did_you_mean() -> None:
    assert did_you_mean("shapse", ["shapes", "npz"]) == " (did you mean 'shapes'?)"
    assert did_you_mean("zzz", ["shapes"]) == ""
