"""What third-party samples are called in records, and whether the records hold other images of that name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nvgbench.data.archive import is_zip, npz_arrays
from nvgbench.data.image_set import ImageSet
from nvgbench.errors import InputError
from nvgbench.extractors.cache import content_key
from nvgbench.files import StrPath
from nvgbench.results.schema import RunRecord
from nvgbench.runs.find import is_run
from nvgbench.sampling.job import PROVENANCE

_SUFFIXES = (".npz", ".npy", ".zip")


def subject_name(samples: StrPath) -> str:
    """The name of a folder or file as it stands; only ``.npz``, ``.npy`` and ``.zip`` of a file are left out."""
    path = Path(samples)
    whole = path.name or path.resolve().name
    return whole[:-4] if path.suffix.lower() in _SUFFIXES and not path.is_dir() else whole


def check_subject(name: str, images: ImageSet, known: Iterable[RunRecord], root: Path, *, chosen: bool) -> str:
    """Refuse a name that already stands for something else, before anything is scored.

    Args:
        name: of the samples.
        images: the samples; they are read and hashed only if a record has this name.
        known: records of third-party samples.
        root: folder of the runs.
        chosen: whether the user gave the name, so that samples of that name are meant to be replaced.

    Returns:
        A warning if the samples replace others, else nothing.

    Raises:
        InputError: a run has this name, or, unless it is ``chosen``, other samples.
    """
    if is_run(name, root):
        raise InputError(
            f"{name!r} is the name of a run in {root}; give these samples another name, e.g. `name='{name}-samples'`"
        )
    same = [record for record in known if record.subject == name and _fit(record) == (str(images.fit) if images.fit else None)]
    if not same or _fingerprint(same[-1]) in (None, set_fingerprint(images)):
        return ""
    what = f"other images called {name!r} were scored on {same[-1].created[:10]}"
    if chosen:
        return f"{what}; these replace them"
    raise InputError(f"{what}; give these another name with `name=`, or `name={name!r}` to replace them")


def read_origin(samples: StrPath) -> dict[str, Any]:
    """What samples written by ``nvgbench sample`` say about their model (`nvgbench.sampling.job.sample_origin`), or nothing."""
    path = Path(samples)
    if not path.is_file() or not is_zip(path):
        return {}
    text = npz_arrays(path, (PROVENANCE,)).get(PROVENANCE)
    if text is None or text.dtype.kind != "U" or text.ndim:
        return {}
    try:
        found = json.loads(str(text))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("model"), dict) else {}


def set_fingerprint(images: ImageSet) -> str:
    """SHA-256 (hex) of all images, equal to the `Features.fingerprint` of their features."""
    return hashlib.sha256("".join(content_key(chunk.read()) for chunk in images.chunks()).encode()).hexdigest()


def _fingerprint(record: RunRecord) -> str | None:
    samples = record.provenance.get("samples")
    return samples.get("fingerprint") if isinstance(samples, dict) else None


def _fit(record: RunRecord) -> str | None:
    """How the samples were brought to one size; see `nvgbench.data.crop.Fit`."""
    samples = record.provenance.get("samples")
    return samples.get("fit") if isinstance(samples, dict) else None
