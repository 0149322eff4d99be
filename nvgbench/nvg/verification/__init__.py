"""NVG's golden numbers recomputed: every array of a fixture in the layout of ``fixtures/nvg_public``.

Sections as in the fixture: A clustering, B quantizer, C autoencoder, D generators, E schedules, embeddings, filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvgbench.nvg.verification import autoencoding, formulas, generators, hierarchies, sampling
from nvgbench.nvg.verification.names import settings_in_name
from nvgbench.parity.ledger import Check, Ledger

FIXTURES = Path(__file__).resolve().parent / "fixtures"


class NvgVerification:
    """Implements `nvgbench.interfaces.Verification`."""

    tolerance = 1e-4
    shipped: Mapping[Path, str | None] = {
        FIXTURES / "nvg_public.json": "7261cd82d35d4a34e71013f31954ea1ccc55a2a9f8dddd5592eeff73b491d9d1"
    }

    def verify(self, ledger: Ledger) -> list[Check]:
        """Recompute every array of the ledger's fixture.

        Raises:
            InputError: the fixture is incomplete or has another layout.
        """
        ledger.fixture.fact("config")
        ledger.fixture = ledger.fixture.with_settings(settings_in_name)
        with ledger.arithmetic.active():
            hierarchies.check(ledger)
            autoencoding.check(ledger)
            generators.check(ledger)
            sampling.check(ledger)
            formulas.check(ledger)
        return ledger.finish()
