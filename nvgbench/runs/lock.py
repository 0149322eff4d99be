"""One writer per run: a lock file with the owner's process id, host and Slurm job."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nvgbench.errors import InputError

LOCK = ".lock"
_held: set[Path] = set()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the folder is created if needed, and removed again if nothing else was written into it.

    The kernel drops the lock of a process that is killed, so the next start takes it over. Record locks are used because forked
    data workers, which can outlive a killed training for some seconds, do not inherit them. A requeued Slurm job, which may
    start on another host, takes over the lock of its own earlier start: Slurm has ended that one.

    Raises:
        InputError: another process is training the run.
        OSError: the lock cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / LOCK).resolve()
    if path in _held:
        raise InputError(f"this process is already training {folder}; wait until it has finished, or use another `name=`")
    with _owned(path, folder) as handle:
        _held.add(path)
        try:
            own = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.strftime("%F %T")}
            handle.write(json.dumps(own | _slurm_start()))
            handle.flush()
            yield
        finally:
            _held.discard(path)
            path.unlink(missing_ok=True)
            for empty in missing:
                with contextlib.suppress(OSError):
                    empty.rmdir()


@contextlib.contextmanager
def _owned(path: Path, folder: Path) -> Iterator[IO[str]]:
    """The lock file, opened, locked and empty."""
    while True:
        with path.open("a+", encoding="utf-8") as handle:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # Other errors come from file systems without locks, where the process id has to do.
                if error.errno in (errno.EACCES, errno.EAGAIN) or _is_alive(_owner(handle)):
                    raise _taken(folder, path, _owner(handle)) from None
            if not _is_current(handle, path):
                continue  # its owner removed the file between opening and locking
            owner = _owner(handle)
            # Some network file systems keep locks within one host, so a foreign owner may still be alive.
            if owner.get("host", socket.gethostname()) != socket.gethostname() and not _is_requeued(owner):
                raise _taken(folder, path, owner)
            handle.truncate(0)
            yield handle
            return


def _is_current(handle: IO[str], path: Path) -> bool:
    try:
        return os.fstat(handle.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _owner(handle: IO[str]) -> dict[str, Any]:
    handle.seek(0)
    try:
        found = json.loads(handle.read())
    except ValueError:  # its owner has not written it yet, or was killed before
        return {}
    return found if isinstance(found, dict) else {}


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the owner is a running process of this host."""
    if owner.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _slurm_start() -> dict[str, Any]:
    """The Slurm job that this process belongs to, if any, and how often that job was restarted."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return {}
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    return {"slurm_job": job, "slurm_cluster": cluster, "slurm_restarts": int(restarts) if restarts.isdecimal() else 0}


def _is_requeued(owner: dict[str, Any]) -> bool:
    """Whether the owner was an earlier start of the Slurm job that this process belongs to."""
    own, before = _slurm_start(), owner.get("slurm_restarts")
    if not own or not isinstance(before, int):
        return False
    return before < own["slurm_restarts"] and all(owner.get(key) == own[key] for key in ("slurm_job", "slurm_cluster"))


def _taken(folder: Path, path: Path, owner: dict[str, Any]) -> InputError:
    host, here = owner.get("host"), socket.gethostname()
    who = f"process {owner.get('pid', 'unknown')}" + (f" on {host}" if host not in (None, here) else "")
    since = f" since {owner['started']}" if "started" in owner else ""
    remedy = "wait until it has finished, or use another `name=`"
    if host not in (None, here):
        remedy += f"; if that process is gone, remove {path}"
    return InputError(f"{folder} is being trained by {who}{since}; {remedy}")
