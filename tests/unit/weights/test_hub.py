"""The Hugging Face Hub with a stand-in for its package: which file is taken, and one line for every failure."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from nvgbench.errors import InputError
from nvgbench.weights.hub import hub_file
from nvgbench.weights.hub_network import HubNetwork

NETWORK = HubNetwork(repository="owner/net", model="Net", what="a test", argument="net_folder", without="a.net=none")


class Hub:
    """A repository with some files at one commit; ``offline``: what raises on every connection."""

    def __init__(self, folder: Path, files: tuple[str, ...], offline: Exception | None = None) -> None:
        self.folder, self.files, self.offline = folder / "snapshots" / "c0ffee", files, offline
        self.calls: list[tuple[str, str | None, bool]] = []
        self.errors: Any = types.ModuleType("huggingface_hub.errors")
        for name, base in (
            ("RepositoryNotFoundError", OSError),
            ("GatedRepoError", OSError),
            ("EntryNotFoundError", Exception),
        ):
            setattr(self.errors, name, type(name, (base,), {}))
        self.errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (self.errors.EntryNotFoundError,), {})

    def hf_hub_download(self, repository: str, name: str, *, revision: str | None, local_files_only: bool) -> str:
        self.calls.append((name, revision, local_files_only))
        if local_files_only:
            raise self.errors.LocalEntryNotFoundError
        if self.offline is not None:
            raise self.offline
        if name not in self.files:
            raise self.errors.EntryNotFoundError
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).touch()
        return str(self.folder / name)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module: Any = types.ModuleType("huggingface_hub")
        module.errors, module.hf_hub_download = self.errors, self.hf_hub_download
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_weights_and_configuration_are_of_one_commit(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path, (weights, "config.json"))
    hub.install(monkeypatch)
    assert NETWORK.find(None) == tmp_path / "snapshots" / "c0ffee" / weights
    assert hub.calls[-1] == ("config.json", "c0ffee", False)


@pytest.mark.parametrize(
    ("files", "offline", "said"),
    [
        ((), None, r"owner/net has no model\.safetensors or pytorch_model\.bin"),
        (("model.safetensors",), None, r"owner/net has no config\.json"),
        (
            (),
            ConnectionError("two\nlines"),
            r"pytorch_model\.bin is not in the cache .*ConnectionError",
        ),
    ],
)
def test_failed_downloads_name_the_remedies(
    files: tuple[str, ...], offline: Exception | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, files, offline)
    hub.install(monkeypatch)
    with pytest.raises(InputError, match=rf"^a test needs config\.json and .*{said}.*`net_folder=`.*`a\.net=none`$") as caught:
        NETWORK.find(None)
    assert "\n" not in str(caught.value)


def test_without_a_connection_only_the_cache_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt to connect waits for its time-outs; one is enough."""
    hub = Hub(tmp_path, (), ConnectionError())
    hub.install(monkeypatch)
    with pytest.raises(InputError):
        hub_file("owner/net", "a", "b", "c")
    assert hub.calls == [("a", None, False), ("b", None, True), ("c", None, True)]
