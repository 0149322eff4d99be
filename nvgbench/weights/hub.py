"""Published files by name: from the cache of ``huggingface_hub``, else downloaded into it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from nvgbench.errors import InputError, did_you_mean
from nvgbench.interfaces import HubFile
from nvgbench.weights.families import original_projects


def find_published(given: str) -> Path:
    """The path of a file given by path or by its published name (``var_d16.pth``, ``ae.ckpt`` …).

    Raises:
        InputError: neither a file nor a published name; a name that cannot be downloaded.
    """
    if Path(given).is_file():
        return Path(given)
    known = hub_files()
    if given not in known:
        raise InputError(f"no file {given}, nor a published name{did_you_mean(given, known)}; names: {', '.join(known)}")
    return _download(given, known[given])


def hub_files() -> Mapping[str, HubFile]:
    """Every published file of every family by its name."""
    return {name: file for project in original_projects().values() for name, file in project.hub.items()}


def _download(name: str, file: HubFile) -> Path:
    place = f"https://huggingface.co/{file.repository}"
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise InputError(
            f"{name} is downloaded by huggingface_hub, which is not installed: pip install 'nvgbench[hub]', or download it "
            f"from {place} ({file.terms}) and give its path"
        ) from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports every retry; what it raises is enough
    try:
        return Path(hf_hub_download(file.repository, name))
    except errors.GatedRepoError:
        raise InputError(
            f"{name} is gated ({file.terms}): ask for access at {place}, then log in with 'hf auth login' or set HF_TOKEN"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(name, file, place, error) from None
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
        raise InputError(f"{place} has no {name} that can be seen from here ({type(error).__name__}); give its path") from None
    except OSError as error:
        raise _unreachable(name, file, place, error) from None


def _unreachable(name: str, file: HubFile, place: str, error: Exception) -> InputError:
    return InputError(
        f"{name} is not in huggingface_hub's cache and {place} cannot be reached ({type(error).__name__}); download it on "
        f"another machine ({file.terms}) and give its path"
    )
