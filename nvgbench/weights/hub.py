"""Files on the Hugging Face Hub: taken from its cache, or downloaded into it."""

from __future__ import annotations

import logging
from pathlib import Path

from nvgbench.errors import InputError


def hub_file(repository: str, *names: str, revision: str | None = None) -> Path:
    """The first of the files that the repository has, in the cache of ``huggingface_hub``.

    Args:
        repository: owner and name.
        names: files of the repository, the preferred one first.
        revision: commit, branch or tag; the main branch if not given.

    Raises:
        InputError: huggingface_hub is not installed, access is denied, none of the files exists, or no connection.
    """
    page = f"https://huggingface.co/{repository}"
    wanted = " or ".join(names)
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError:
        raise InputError(
            f"downloading {wanted} from {page} needs huggingface_hub, which is not installed: pip install 'nvgbench[hub]'"
        ) from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every retry; what it raises is enough
    offline, reason = False, ""
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=offline))
        except errors.GatedRepoError:
            raise InputError(
                f"{name} is gated: request access at {page}, then log in with 'hf auth login' or set HF_TOKEN"
            ) from None
        except errors.LocalEntryNotFoundError as error:
            offline, reason = True, reason or _unreachable(wanted, page, error)
        except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
            reason = reason or f"{page} has no {wanted}, or does not show it to you ({type(error).__name__})"
        except Exception as error:  # without a connection, errors of several libraries, which have no other common base
            offline, reason = True, reason or _unreachable(wanted, page, error)
    raise InputError(reason)


def _unreachable(wanted: str, page: str, error: Exception) -> str:
    return f"{wanted} is not in the cache of huggingface_hub, and {page} is not reachable ({type(error).__name__})"
