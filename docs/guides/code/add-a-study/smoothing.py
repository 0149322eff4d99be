"""How far does a moving average of the weights lag behind them?"""

from __future__ import annotations

from nvgbench.ablations.study import Context, StudiedRun, Study, Tables, Variant
from nvgbench.ablations.trained import conclude_variants


class Smoothing(Study):
    name = "smoothing"
    question = "How far does a moving average of the weights lag behind them?"
    varies = {"decay": "decay of the moving average of the generator's weights"}
    reports = {
        "differences": "every decay minus the first one",
        "distances": "mean absolute distance of averaged and last weights of every training",
    }
    limits = "A distance of weights says nothing about images."
    presets = {"quick": "ar-tiny", "standard": "ar-tiny", "paper": "ar-b"}

    def variants(self, preset: str) -> list[Variant]:
        """What is trained: overrides of the preset. The first variant is the baseline of the others."""
        return [Variant(name=f"decay {decay}", settings={"train.generator.ema_decay": decay}) for decay in (0.2, 0.5, 0.9)]

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        """The rows of one training; the runner adds the variant, the seed and the run's name."""
        from nvgbench.runs.checkpoint import EMA, WEIGHTS, load_tensors

        last, averaged = (load_tensors(run.folder.checkpoint("generator"), file) for file in (WEIGHTS, EMA))
        distances = [float((last[name] - averaged[name]).abs().mean()) for name in last if name in averaged]
        return {"distances": [{"value": sum(distances) / len(distances), "higher_is_better": None}]}

    def conclude(self, tables):
        """Findings with intervals over the seeds, and their figure."""
        return conclude_variants(tables["distances"], self.variants(""), "distance of the weights")
