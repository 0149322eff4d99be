"""NVG's tokenizer: the convolutional autoencoder around the multi-granularity quantizer."""

from __future__ import annotations

from nvgbench.autoencoder.checkpoint import PublishedNames
from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import RunConfig
from nvgbench.nvg.quantizer import GranularityQuantizer

PUBLISHED_NAMES = PublishedNames(
    wrapped=True,
    quantizer=((r"codebook\.", "embedding."), (r"refiners\.(\d+)\.conv\.", r"quant_resi.\1.")),
    ignored=r"^(loss|ema_model)\.|^total_visited_codes$",
)
"""Names in the published autoencoder (``ae.ckpt``)."""


def build_tokenizer(config: RunConfig) -> ConvTokenizer:
    """An untrained tokenizer of the sizes in ``config``."""
    return ConvTokenizer.of(config, GranularityQuantizer)
