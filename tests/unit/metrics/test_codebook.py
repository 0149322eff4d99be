"""Use and perplexity of a codebook."""

from __future__ import annotations

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.metrics.codebook import CodebookUse, perplexity
from nvgbench.types import TokenSequence


def tokens(*stages: list[list[int]]) -> TokenSequence:
    return TokenSequence(tuple(torch.tensor(stage) for stage in stages))


def test_rows_by_hand() -> None:
    use = CodebookUse(8, 2)
    use.update(tokens([[0], [0]], [[1, 2], [3, 4]]))
    other = CodebookUse(8, 2)
    other.update(tokens([[0]], [[1, 2]]))
    use.merge(other)
    first, second, everything = use.rows()
    assert (first["stage"], first["tokens"], first["used"], first["perplexity"]) == ("0", 3, 1, pytest.approx(1))
    assert (second["used"], second["use"], second["used_at_most"]) == (4, 0.5, 6)
    assert second["perplexity"] == pytest.approx(perplexity([2, 2, 1, 1]))
    assert (everything["stage"], everything["tokens"], everything["used"]) == ("all", 9, 5)


def test_perplexity_bounds() -> None:
    assert perplexity([5, 5, 5, 5, 0]) == pytest.approx(4)
    assert perplexity([7, 0]) == pytest.approx(1)
    assert perplexity([0, 0]) == 0


def test_refuses_bad_input() -> None:
    use = CodebookUse(4, 1)
    with pytest.raises(InputError, match="outside"):
        use.update(tokens([[4]]))
    with pytest.raises(InputError, match="stages"):
        use.update(tokens([[1]], [[1]]))
    with pytest.raises(InputError, match="merge"):
        use.merge(CodebookUse(5, 1))
    with pytest.raises(InputError, match="at least 1"):
        CodebookUse(0, 1)
