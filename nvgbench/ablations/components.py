"""The study ``components``: what the parts of NVG contribute (paper, Table 3 and the variants whose training was stopped)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nvgbench.ablations.study import Context, StudiedRun, Tables, Variant
from nvgbench.ablations.trained import TrainedVariants
from nvgbench.config.load import load_preset

_BASELINE, _GIVEN = "as published", "given structure"


class Components(TrainedVariants):
    """Each variant differs in one part from the published model, or, as in Table 3, from the one with pure noise."""

    name = "components"
    question = "What do the parts of NVG contribute?"
    varies: ClassVar = {
        "structure noise": "partial (the model as published): the structure flow sees the channels that are already decided; "
        "or pure: noise in all channels",
        "structure RoPE": "on, or off: the rotary embedding has no structure axes",
        "content target": "the final canvas, or the next content alone",
        "canvas noise": "none, additive, or variance-preserving; with pure structure noise, as in Table 3",
        "feature alignment": "off, or on, with DINOv2 (as published) or EfficientNet-Lite0 where their weights are available",
        "structure": "generated, or given: the maps of training images of the same class, with the published model",
    }
    limits = (
        "Joint effects of parts are not seen. The paper gives no schedule of the canvas noise, so ours may differ from it. "
        "A small model at a small budget need not rank the parts as the published one does."
    )

    def variants(self, preset: str) -> Sequence[Variant]:
        pure = {"model.structure_input": "pure-noise"}
        aligned = {
            "model.alignment_block": min(8, max(1, load_preset(preset).model.depth // 2)),
            "train.cache_tokens": False,
        }
        return (
            Variant(name=_BASELINE, settings={"model.structure_input": "partial-noise"}),
            Variant(name="pure noise", settings=pure),
            Variant(name="no structure RoPE", settings={"model.structure_rope": False}),
            Variant(name="next content", settings={"model.content_target": "next-content"}),
            Variant(
                name="additive canvas noise", settings=pure | {"model.canvas_input": "additive-noise"}, baseline="pure noise"
            ),
            Variant(name="VP canvas noise", settings=pure | {"model.canvas_input": "vp-noise"}, baseline="pure noise"),
            Variant(name="alignment, DINOv2", settings=aligned | {"model.alignment": "dinov2"}, optional=True),
            Variant(name="alignment, Lite0", settings=aligned | {"model.alignment": "efficientnet-lite0"}, optional=True),
        )

    def probes(self) -> Sequence[Variant]:
        return (Variant(name=_GIVEN),)

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        tables = super().measure(run, context)
        if run.variant == _BASELINE:
            from nvgbench.ablations.given_structure import scores_with_given_structure

            tables["scores"] += [{"variant": _GIVEN} | row for row in scores_with_given_structure(run.folder, context)]
        return tables
