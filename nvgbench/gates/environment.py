"""Where a number was measured, as far as that affects it: the key of a baseline's groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nvgbench.results.schema import RunRecord

Environment = dict[str, str]

LIBRARIES = ("torch", "torchvision", "numpy", "scipy")
"""Libraries behind every score; extractors and resizers are known by protocol, extractor and fingerprint."""
COUNTED_KINDS = ("cost",)
"""Kinds of records that are computed from a configuration, not measured: the same in every environment."""
_DEVICE_DETAILS = ("threads", "matmul_precision", "cuda", "cudnn")


def environment_of(record: RunRecord) -> Environment:
    """Machine, device, arithmetic and library versions of a record; empty for what is the same in every environment.

    Unknown entries are left out, so a record without one matches only records without it.
    """
    if record.kind in COUNTED_KINDS:
        return {}
    provenance = record.provenance
    machine, libraries = _mapping(provenance.get("machine")), _mapping(provenance.get("libraries"))
    device = provenance.get("device")
    details = device if isinstance(device, Mapping) else {"device": device}
    kind = str(details.get("device") or "").partition(":")[0]
    found: dict[str, Any] = {"device": kind, "cpu": machine.get("cpu"), "cores": machine.get("cores")}
    if kind == "cuda":
        found["gpu"] = details.get("gpu") or machine.get("gpu")
    found |= {key: details.get(key) for key in _DEVICE_DETAILS}
    found["precision"] = _mapping(provenance.get("model")).get("precision") or provenance.get("precision")
    found["python"] = ".".join(str(provenance.get("python") or "").split(".")[:2])
    found |= {name: libraries.get(name) for name in LIBRARIES}
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What differs between two environments, one phrase each, e.g. ``torch 2.11.0 there, 2.12.0 here``."""
    keys = [key for key in dict.fromkeys([*there, *here]) if there.get(key) != here.get(key)]
    return [f"{key} {there.get(key, 'not recorded')} there, {here.get(key, 'not recorded')} here" for key in keys]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
