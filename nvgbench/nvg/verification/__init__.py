"""NVG's golden numbers recomputed: every array of a fixture in the layout of ``nvgbench/parity/fixtures/nvg_public``.

Sections as in the fixture: A clustering, B quantizer, C autoencoder, D generators, E schedules, embeddings, filters.
"""

from __future__ import annotations

from pathlib import Path

from nvgbench.nvg.verification import autoencoding, formulas, generators, hierarchies, sampling
from nvgbench.parity.fixture import shipped_fixture
from nvgbench.parity.ledger import Check, Ledger


class NvgVerification:
    """Implements `nvgbench.interfaces.Verification`."""

    tolerance = 1e-4

    @property
    def shipped(self) -> tuple[Path, ...]:
        return (shipped_fixture("nvg_public"),)

    def verify(self, ledger: Ledger) -> list[Check]:
        """Recompute every array of the ledger's fixture.

        Raises:
            InputError: the fixture is incomplete or of another layout.
        """
        ledger.fixture.fact("config")
        with ledger.arithmetic.active():
            hierarchies.check(ledger)
            autoencoding.check(ledger)
            generators.check(ledger)
            sampling.check(ledger)
            formulas.check(ledger)
        return ledger.finish()
