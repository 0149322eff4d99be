"""Waiting for the device that a measurement runs on."""

from __future__ import annotations

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished what was asked of it; without this, times are those of the launches alone."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
