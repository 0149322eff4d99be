"""The studies: a file and a line each, or an entry point of another package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvgbench.errors import InputError
from nvgbench.registry import Registry

if TYPE_CHECKING:
    from nvgbench.ablations.study import Study

STUDIES: Registry[type[Study]] = Registry(
    "study",
    "nvgbench.studies",
    {
        "clusters": "nvgbench.ablations.clusters:Clusters",
        "alignment": "nvgbench.ablations.alignment:Alignment",
        "hierarchies": "nvgbench.ablations.hierarchies:Hierarchies",
        "levels": "nvgbench.ablations.levels:Levels",
        "components": "nvgbench.ablations.components:Components",
        "structure-steps": "nvgbench.ablations.structure_steps:StructureSteps",
        "sampling": "nvgbench.ablations.sampling:Sampling",
        "error-propagation": "nvgbench.ablations.error_propagation:ErrorPropagation",
        "transfer": "nvgbench.ablations.transfer:Transfer",
        "cost": "nvgbench.ablations.cost:Cost",
        "seeds": "nvgbench.ablations.seeds:Seeds",
    },
)


def get_study(name: str) -> Study:
    """The study registered as ``name``.

    Raises:
        InputError: no such study, or something else is registered under that name.
    """
    from nvgbench.ablations.study import Study  # not for listing names, which the command line does on every start

    found = STUDIES.get(name)
    if not (isinstance(found, type) and issubclass(found, Study)):
        raise InputError(f"study {name!r} is {found!r}; derive a class from nvgbench.ablations.study.Study")
    return found()
