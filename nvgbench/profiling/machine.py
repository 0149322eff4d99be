"""Synchronisation with the device that a measurement runs on."""

from __future__ import annotations

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device is idle; otherwise only kernel launches would be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
