"""The objectives by the name that ``model.structure_objective`` gives them."""

from __future__ import annotations

from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_flow.bernoulli import Bernoulli
from nvgbench.nvg.structure_flow.flow import StructureFlow
from nvgbench.nvg.structure_flow.flow_map import FlowMap
from nvgbench.nvg.structure_flow.grouped import Grouped
from nvgbench.nvg.structure_flow.masked import Masked
from nvgbench.nvg.structure_flow.mean_flow import MeanFlow
from nvgbench.nvg.structure_flow.objective import StructureObjective
from nvgbench.nvg.structure_flow.shortcut import Shortcut
from nvgbench.nvg.structure_flow.split_mean_flow import SplitMeanFlow

OBJECTIVES: dict[str, type[StructureObjective]] = {
    "flow": StructureFlow,
    "flow-map": FlowMap,
    "mean-flow": MeanFlow,
    "split-mean-flow": SplitMeanFlow,
    "shortcut": Shortcut,
    "bernoulli": Bernoulli,
    "masked": Masked,
    "grouped": Grouped,
}


def structure_objective(config: NvgModelConfig, layout: StageLayout) -> StructureObjective:
    """The configured objective."""
    return OBJECTIVES[config.structure_objective].of(config, layout)
