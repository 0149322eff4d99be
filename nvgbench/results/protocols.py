"""Protocols: the rules that turn images into scores. Scores are comparable only within one protocol and version."""

from __future__ import annotations

from dataclasses import dataclass

from nvgbench.errors import InputError, did_you_mean

OWN = "nvgbench"
"""Id of nvgbench's own protocol, whose scores have bare names."""


@dataclass(frozen=True)
class Protocol:
    """Rules by which images become numbers.

    Attributes:
        id: its name.
        version: raised whenever the same images would get another score.
        summary: one line.
        library: the package that computes the scores; empty for nvgbench's own code.
        inception_only: whether it is defined only for the Inception network.
    """

    id: str
    version: int
    summary: str
    library: str = ""
    inception_only: bool = True

    @property
    def tag(self) -> str:
        """Id and version, as recorded with every score."""
        return f"{self.id}/{self.version}"


PROTOCOLS: dict[str, Protocol] = {
    protocol.id: protocol
    for protocol in (
        Protocol(OWN, 2, "moments and distances in float64, exact; any extractor", inception_only=False),
        Protocol("adm", 1, "OpenAI's guided-diffusion evaluator: stored moments, float32 means, float16 distances"),
        Protocol("torch-fidelity", 1, "torch-fidelity's own metrics at its defaults", "torch-fidelity"),
        Protocol("clean-fid", 1, "clean-fid's own FID and KID, mode clean (PIL bicubic)", "clean-fid"),
        Protocol("clean-fid:legacy_pytorch", 1, "clean-fid, mode legacy_pytorch (no antialiasing)", "clean-fid"),
        Protocol("clean-fid:legacy_tensorflow", 1, "clean-fid, mode legacy_tensorflow (TF1 resize)", "clean-fid"),
    )
}


def named_protocol(id: str) -> Protocol:
    """The protocol with this id.

    Raises:
        InputError: there is none.
    """
    if id not in PROTOCOLS:
        raise InputError(f"no protocol {id!r}{did_you_mean(id, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[id]
