"""Configuration: presets, overrides, and messages that name the key."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest

from nvgbench.config.identity import CONTINUABLE, FREE
from nvgbench.config.load import (
    changed_settings,
    config_hash,
    load_file,
    load_preset,
    override_dataclass,
    parse_value,
    replicate_hash,
    to_toml,
)
from nvgbench.config.schema import DataConfig, PhaseConfig, TrainConfig
from nvgbench.errors import InputError
from nvgbench.registry import get_family, get_preset, preset_files

FORMS = {
    "sampling.top_p=2": "'sampling.top_p' = 2: expected a list of 2 numbers, e.g. sampling.top_p=[1.0,0.5]",
    "sampling.top_p=[1,2,3]": "expected a list of 2 numbers, e.g. sampling.top_p=[1.0,0.5]",
    "sampling.top_p=[1]": "'sampling.top_p': entry 2 is missing; expected a list of 2 numbers",
    "tokenizer.channel_multipliers=['a',1]": "'tokenizer.channel_multipliers': entry 1 is 'a'; expected a list of whole",
    "tokenizer.channel_multipliers=2": "expected a list of whole numbers, e.g. tokenizer.channel_multipliers=[1,2,4,4,4]",
    "tokenizer.quantizer.group_size=4.5": "'tokenizer.quantizer.group_size' = 4.5: expected a whole number or a list of whole "
    "numbers, e.g. tokenizer.quantizer.group_size=2",
    "model.depth=2.5": "'model.depth' = 2.5: expected a whole number, e.g. model.depth=8",
    "model.drop_path=much": "expected a number, e.g. model.drop_path=0.001",
    "model.structure_rope=7": "expected true or false, e.g. model.structure_rope=true",
    "train.generator.learning_rate=fast": "expected a number, e.g. train.generator.learning_rate=0.001",
    "data.source=3": 'expected a text, e.g. data.source="name"',
    "train.generator=4": "'train.generator' = 4: expected a section of keys, e.g. train.generator.steps=…",
    "model=4": "'model' = 4: expected a section of keys, e.g. model.depth=…",
}
"""Values of another form than the key's, and what the message says."""


@pytest.mark.parametrize("override", FORMS)
def test_a_value_of_another_form_is_answered_with_the_right_one(override: str) -> None:
    with pytest.raises(InputError) as error:
        load_preset("nvg-tiny", [override])
    assert FORMS[override] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", [key for key, said in FORMS.items() if "e.g." in said and "…" not in said])
def test_the_example_of_a_form_is_one(override: str) -> None:
    load_preset("nvg-tiny", [FORMS[override].partition("e.g. ")[2], "tokenizer.latent_channels=8", "data.image_size=64"])


@pytest.mark.parametrize("name", list(preset_files()))
def test_every_preset_loads_and_survives_the_way_to_disk(name: str, tmp_path: Path) -> None:
    config = load_preset(name)
    assert config.name == name
    assert config.description
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_file(path) == config
    assert config_hash(load_file(path)) == config_hash(config)


def test_overrides_reach_every_section() -> None:
    config = load_preset(
        "nvg-tiny",
        [
            "train.steps=7",
            "train.generator.learning_rate=5e-4",
            "sampling.flow_steps=3",
            "tokenizer.quantizer.child_order=raster",
        ],
        data="cifar10:some where",
    )
    assert config.train.steps == 7
    assert config.train.generator.learning_rate == 5e-4
    assert config.sampling.flow_steps == 3
    assert config.tokenizer.quantizer.child_order == "raster"
    assert config.data.source == "cifar10:some where"


def test_epochs_in_place_of_steps() -> None:
    config = load_preset("nvg-tiny", ["train.generator.epochs=2"])
    assert (config.train.generator.steps, config.train.generator.epochs) == (None, 2)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stpes=3", "'train.stpes' (did you mean 'steps'?)"),
        ("train.generator.lerning_rate=3", "did you mean 'learning_rate'"),
        ("modl.depth=3", "did you mean 'model'"),
        ("model.dept=3", "'model.dept' (did you mean 'depth'?)"),
        ("sampling.top_kk=3", "did you mean 'top_k'"),
        ("tokenizer.quantizer.child_ordr=raster", "did you mean 'child_order'"),
        ("tokenizer.losses.l3=1", "'tokenizer.losses.l3'"),
        ("data.image_size=many", "'data.image_size' = 'many'"),
        ("data.image_size=34", "not a multiple"),
        ("model.depth=0", "greater than or equal to 1"),
        ("train.steps", "not section.key=value"),
        ("=3", "not section.key=value"),
        ("train.generator.steps=null", "exactly one of"),
        ("data.augment=random-crop", "cache_tokens"),
        ("data={augment='ten-crop',flip=true}", "leave data.flip out"),
    ],
)
def test_bad_overrides_are_named(override: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        load_preset("nvg-tiny", [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_misspelt_names_get_suggestions() -> None:
    with pytest.raises(InputError, match="did you mean 'nvg-tiny'"):
        get_preset("nvg-tini")
    with pytest.raises(InputError, match="did you mean 'nvg'"):
        get_family("nvgg")


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no configuration at"):
        load_file(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text("family = ")
    with pytest.raises(InputError, match="not valid TOML"):
        load_file(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text("name = 'x'")
    with pytest.raises(InputError, match="'family' is missing"):
        load_file(tmp_path / "config.toml")


def test_sampling_settings_are_checked_like_presets() -> None:
    sampling = load_preset("nvg-tiny").sampling
    assert override_dataclass(sampling, {"top_k": 5}, "sampling").top_k == 5
    with pytest.raises(InputError, match="did you mean 'top_k'"):
        override_dataclass(sampling, {"topk": 5}, "sampling")


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("1e-4", 1e-4), ("true", True), ("[1, 2]", [1, 2]), ("raster", "raster")]
)
def test_values_are_toml_or_text(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_the_hash_depends_on_every_setting() -> None:
    assert config_hash(load_preset("nvg-tiny")) != config_hash(load_preset("nvg-tiny", ["train.seed=1"]))
    assert replicate_hash(load_preset("nvg-tiny")) == replicate_hash(load_preset("nvg-tiny", ["train.seed=1"]))
    assert replicate_hash(load_preset("nvg-tiny")) != replicate_hash(load_preset("nvg-tiny", ["data.seed=1"]))


def test_hashes_are_those_of_earlier_versions() -> None:
    """Records hold them: keys that the schema gets later do not count while they have their defaults."""
    assert config_hash(load_preset("nvg-tiny")) == "14ba1878260e128f"
    assert replicate_hash(load_preset("nvg-d16")) == "f3958f327cec3574"
    assert config_hash(load_preset("nvg-tiny", ["train.keep_last=2"])) != "14ba1878260e128f"


def test_settings_of_both_halves_exist() -> None:
    parts = {"data": DataConfig, "train": TrainConfig, "train.tokenizer": PhaseConfig, "train.generator": PhaseConfig}
    known = {f"{part}.{entry.name}" for part, schema in parts.items() for entry in dataclasses.fields(schema)} | {"description"}
    assert known >= FREE | CONTINUABLE
    assert not FREE & CONTINUABLE


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "infinity", "1e999"])
@pytest.mark.parametrize("key", ["train.generator.learning_rate", "sampling.temperature", "tokenizer.losses.pixel"])
def test_numbers_that_are_not_finite_are_refused(key: str, value: str) -> None:
    with pytest.raises(InputError, match=key):
        load_preset("var-tiny", [f"{key}={value}"])


@pytest.mark.parametrize("preset", ["nvg-tiny", "var-tiny", "ar-tiny"])
def test_every_number_of_the_sampling_settings_has_to_be_finite(preset: str) -> None:
    settings = load_preset(preset).sampling
    keys = [entry.name for entry in dataclasses.fields(settings) if isinstance(getattr(settings, entry.name), float)]
    assert keys
    for key, value in itertools.product(keys, (math.inf, -math.inf, math.nan)):
        with pytest.raises(InputError, match=f"sampling.{key}"):
            override_dataclass(settings, {key: value}, "sampling")


def test_changed_settings_are_those_that_make_another_model() -> None:
    assert changed_settings(load_preset("nvg-tiny", ["train.seed=3", "train.log_every=7", "sampling.top_k=5"])) == {}
    other = load_preset("nvg-tiny", ["model.structure_rope=false", "train.generator.steps=9"], data="cifar10")
    assert changed_settings(other) == {"model.structure_rope": False, "train.generator.steps": 9}
    assert changed_settings(dataclasses.replace(other, name="not-installed")) == {}
