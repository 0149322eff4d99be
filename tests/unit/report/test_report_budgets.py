"""Training budgets in the report: what a taken tokenizer saw before counts as its budget."""

from __future__ import annotations

import dataclasses
from typing import Any

from nvgbench.reporting.costs import budget_statements, budget_table
from nvgbench.results.schema import RunRecord
from tests.helpers.report_records import train_record


def taken(subject: str, images: int) -> RunRecord:
    record = train_record(subject, "nvg", 0)
    tokenizer: dict[str, Any] = {**record.tables["training"][0], "images": images, "taken_from": "elsewhere"}
    return dataclasses.replace(record, tables={**record.tables, "training": [tokenizer, record.tables["training"][1]]})


def plain(text: str) -> str:
    """With usual spaces before units."""
    return text.replace("\u202f", " ")


def test_a_taken_tokenizer_shows_what_it_was_trained_on_and_not_its_time() -> None:
    own, other = budget_table([train_record("own", "nvg", 0), taken("other", 192_000)]).groups[0].rows
    assert (plain(own[1].text), own[1].sub) == ("384 k", "6,000 steps")
    assert (plain(other[1].text), other[1].sub) == ("192 k", "taken from elsewhere")
    assert plain(own[3].text) == "50.0 min"
    assert plain(other[3].text) == "35.0 min"


def test_published_weights_saw_an_unknown_number() -> None:
    (row,) = budget_table([taken("published", 0)]).groups[0].rows
    assert (row[1].text, row[1].sub) == ("unknown", "taken from elsewhere")


def test_tokenizers_trained_for_unequal_times_are_unequal_budgets() -> None:
    (said,) = budget_statements([train_record("own", "nvg", 0), taken("other", 192_000)], ["own", "other"])
    assert said.word == "Unequal budgets"
    assert "tokenizers saw different numbers of images" in said.text
