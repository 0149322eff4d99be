"""The original layouts of all published files: told from the tensors, filled completely, and written key for key.

Everything runs on the meta device, so that the largest model (2.4 billion parameters) takes no memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.interfaces import OriginalProject
from nvgbench.registry import get_family
from nvgbench.weights.families import original_project, original_projects, recognise
from tests.helpers.stand_ins import FIXTURES, nvg_generator_shapes, nvg_stand_in, var_stand_in

VAR = json.loads((FIXTURES["var"] / "var_state_dict_layouts.json").read_text())["models"]
NVG = json.loads((FIXTURES["nvg"] / "nvg_state_dict_layouts.json").read_text())
VAR_TRANSFORMERS = [name for name in VAR if name.startswith("var")]


def empty(shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Tensors of these shapes without content; buffers with a meaning are made as the original makes them."""
    found = {key: torch.empty(*shape, device="meta") for key, shape in shapes.items()}
    if "lvl_1L" in shapes:
        scales = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16) if shapes["lvl_1L"][1] == 680 else (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
        found |= var_stand_in({"lvl_1L": shapes["lvl_1L"]}, scales)
    return found


def modules(family: str, preset: str, settings: Mapping[str, Any], classes: int = 1000) -> tuple[Any, dict, dict]:
    """Configuration and state dicts of tokenizer and generator on the meta device."""
    config = load_preset(preset, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    with torch.device("meta"):
        tokenizer = get_family(family).build_tokenizer(config)
        generator = get_family(family).build_generator(config, tokenizer, classes)
    return config, tokenizer.state_dict(), generator.state_dict()


def check_both_ways(project: OriginalProject, part: str, shapes: Mapping[str, list[int]], own: dict, config: Any) -> None:
    given = {key: value for key, value in empty(shapes).items() if not project.is_unused(part, key)}
    loaded = project.from_original(part, given, own, config)
    assert {key: value.shape for key, value in loaded.items()} == {key: value.shape for key, value in own.items()}
    written = project.to_original(part, own, config) | project.derived(part, config)
    assert {key: list(value.shape) for key, value in written.items()} == {
        key: shape for key, shape in shapes.items() if not key.startswith("projector.")
    }


@pytest.mark.parametrize("name", VAR_TRANSFORMERS)
def test_var(name: str) -> None:
    project, vae, var = original_project("var"), VAR["vae_ch160v4096z32"]["state_dict"], VAR[name]["state_dict"]
    assert recognise(var) == ("var", "generator")
    assert recognise(vae) == ("var", "tokenizer")
    sizes = project.sizes(empty(var), empty(vae))
    assert sizes.classes == 1000
    config, tokenizer, generator = modules("var", sizes.preset, sizes.settings)
    assert config.model.depth == VAR[name]["config"]["depth"]
    assert config.model.shared_modulation == VAR[name]["config"]["shared_aln"]
    assert list(config.tokenizer.quantizer.sides(config.grid)) == VAR[name]["config"]["patch_nums"]
    check_both_ways(project, "generator", var, generator, config)
    check_both_ways(project, "tokenizer", vae, tokenizer, config)
    is_preset = config == load_preset(sizes.preset)
    assert is_preset == (config.model.depth != 36)


@pytest.mark.parametrize("name", list(NVG["generators"]))
def test_nvg(name: str) -> None:
    project, shapes, autoencoder = original_project("nvg"), nvg_generator_shapes(name), NVG["autoencoder"]["keys"]
    assert len(shapes) == NVG["generators"][name]["key_count"]
    assert recognise([f"nvgformer.{key}" for key in shapes]) == ("nvg", "generator")
    assert recognise(autoencoder) == ("nvg", "tokenizer")
    sizes = project.sizes(empty(shapes), empty(autoencoder))
    assert (sizes.preset, sizes.classes) == (f"nvg-{name}", 1000)
    config, tokenizer, generator = modules("nvg", sizes.preset, sizes.settings)
    assert config == load_preset(sizes.preset)
    check_both_ways(project, "generator", shapes, generator, config)
    check_both_ways(project, "tokenizer", autoencoder, tokenizer, config)


def test_tokenizers_alone_tell_their_sizes() -> None:
    for family, shapes in (("nvg", NVG["autoencoder"]["keys"]), ("var", VAR["vae_ch160v4096z32"]["state_dict"])):
        sizes = original_project(family).sizes(None, empty(shapes))
        assert sizes.classes is None
        assert modules(family, sizes.preset, sizes.settings)[0] == load_preset(f"{family}-d16")


def test_what_nobody_learns_is_computed_exactly() -> None:
    var, config = VAR["var_d16"]["state_dict"], load_preset("var-d16")
    derived = original_project("var").derived("generator", config)
    expected = var_stand_in({key: var[key] for key in derived}, config.tokenizer.quantizer.sides(config.grid))
    assert all(torch.equal(derived[key], value) and derived[key].dtype == value.dtype for key, value in expected.items())
    rope_ids = original_project("nvg").derived("generator", load_preset("nvg-d16"))["rope_ids"]
    with (FIXTURES["nvg"] / "nvg_public.npz").open("rb") as handle:
        golden = np.load(handle)["E.rope_ids"]
    assert torch.equal(rope_ids, torch.from_numpy(golden.astype(np.float32))[None])
    assert torch.equal(rope_ids, nvg_stand_in({"rope_ids": [1, 257, 11]})["rope_ids"])


def test_a_file_without_the_scale_of_each_token_has_a_known_schedule_or_is_refused() -> None:
    var = {key: value for key, value in empty(VAR["var_d16"]["state_dict"]).items() if key != "lvl_1L"}
    assert original_project("var").sizes(var, None).preset == "var-d16"
    var["pos_1LC"] = torch.empty(1, 681, 1024)
    with pytest.raises(InputError, match="no known schedule of scales has 681 tokens"):
        original_project("var").sizes(var, None)


@pytest.mark.parametrize("family", ["nvg", "var"])
@pytest.mark.parametrize("change", ["dropped", "flattened"])
def test_any_one_tensor_that_is_wrong_is_refused_and_never_breaks_the_program(family: str, change: str) -> None:
    """Sizes are told from some tensors before all are checked; each of them may be the broken one."""
    project = original_project(family)
    if family == "nvg":
        whole = {"generator": nvg_generator_shapes("d16"), "tokenizer": NVG["autoencoder"]["keys"]}
    else:
        whole = {"generator": VAR["var_d16"]["state_dict"], "tokenizer": VAR["vae_ch160v4096z32"]["state_dict"]}
    config, *states = modules(family, f"{family}-d16", {})
    for part, own in zip(("tokenizer", "generator"), states, strict=True):
        tensors = {name: empty(shapes) for name, shapes in whole.items()}
        learned = [key for key in tensors[part] if not project.is_unused(part, key) and ".1." not in key and ".2." not in key]
        for key in learned:
            if change == "flattened" and tensors[part][key].ndim == 1:
                continue
            broken = {name: value for name, value in tensors[part].items() if name != key}
            if change == "flattened":
                broken[key] = tensors[part][key].flatten()
            with pytest.raises(InputError):
                project.sizes(**{**tensors, part: broken})
                given = {name: value for name, value in broken.items() if not project.is_unused(part, name)}
                project.from_original(part, given, own, config)


def test_families_without_an_original_project() -> None:
    assert list(original_projects()) == ["nvg", "var"]
    with pytest.raises(InputError, match="family 'ar' has no published files; families that do: nvg, var"):
        original_project("ar")
    with pytest.raises(InputError, match="are of no published model"):
        recognise(["layers.0.weight"])
