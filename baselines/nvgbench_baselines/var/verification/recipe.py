"""VAR's training recipe: learning rates and weight decay by step, groups of parameters, statistics of initial weights."""

from __future__ import annotations

import math

import numpy as np
import torch

from nvgbench.config.load import load_preset
from nvgbench.config.schema import PhaseConfig
from nvgbench.parity.arithmetic import Arithmetic
from nvgbench.parity.fixture import Fixture
from nvgbench.parity.ledger import Ledger
from nvgbench.training.optimizer import weight_decay_groups
from nvgbench.training.plan import phase_steps
from nvgbench.training.schedule import learning_rate, weight_decay
from nvgbench_baselines.var.blocks import BLOCK_VECTORS
from nvgbench_baselines.var.checkpoint import transformer_name
from nvgbench_baselines.var.config import VarModelConfig
from nvgbench_baselines.var.objective import VarObjective
from nvgbench_baselines.var.transformer import VarTransformer

# Double precision on both sides; the order of operations may differ.
_RATE_TOLERANCE = 1e-9
# Means and deviations of different random draws; the smallest tensors have a few hundred entries.
_MEAN_TOLERANCE, _DEVIATION_TOLERANCE = 0.004, 0.1
_IMAGENET = 1_281_167


def is_recipe(fixture: Fixture) -> bool:
    """Whether the file contains schedules instead of arrays."""
    return "schedules" in fixture.facts and "arrays" not in fixture.facts


def check(ledger: Ledger) -> None:
    """All numbers of the recipe, always in Python's own arithmetic."""
    ledger.arithmetic = Arithmetic(torch.device("cpu"))
    facts = ledger.fixture.facts
    for name in facts["schedules"]:
        _check_schedule(ledger, name)
    _check_steps(ledger)
    for key, entry in facts.items():
        if key.startswith("param_groups"):
            _check_groups(ledger, key, entry["depth"])
        if key.startswith("init_mean_std"):
            _check_start(ledger, key, entry["depth"])


def _check_schedule(ledger: Ledger, name: str) -> None:
    """Rows of step, learning rate and weight decay, from the schedule's settings and from the preset of that size."""
    rows, phase = (ledger.fixture.fact("schedules", name, key) for key in ("rows", "phase"))
    steps = [int(row[0]) for row in rows]
    total = steps[-1] + 1
    phases = {"": PhaseConfig(steps=total, batch_size=1, **phase)}
    preset = ledger.fixture.facts["schedules"][name].get("preset")
    if preset:
        phases[f", preset {preset}"] = load_preset(preset).train.generator
    stored = np.asarray(rows, dtype=np.float64)
    for source, settings in phases.items():
        rates = [learning_rate(settings, step, total) for step in steps]
        decays = [weight_decay(settings, step, total) for step in steps]
        for column, part, values in ((1, "learning rate", rates), (2, "weight decay", decays)):
            ledger.close(
                name, np.array(values), part + source, stored=stored[:, column], scale="entry", tolerance=_RATE_TOLERANCE
            )


def _check_steps(ledger: Ledger) -> None:
    """Steps per epoch on ImageNet at the batch size of the published d16."""
    stored = ledger.fixture.facts.get("iters_per_epoch_used")
    if stored is not None:
        config = load_preset("var-d16")
        epochs = config.train.generator.epochs or 1
        ours = phase_steps(config, "generator", _IMAGENET) / epochs
        ledger.equal("iters_per_epoch_used", np.array(math.ceil(ours)), stored=stored)


def _check_groups(ledger: Ledger, key: str, depth: int) -> None:
    """Parameters with and without weight decay, by published name."""
    with torch.device("meta"):
        module = _fresh(depth)
    for name, group in zip(("decay", "no_decay"), weight_decay_groups(module, VarObjective.no_weight_decay), strict=True):
        ours = sorted(transformer_name(parameter) for parameter in group)
        listed = sorted(ledger.fixture.fact(key, name))
        places = [listed.index(parameter) if parameter in listed else -1 for parameter in ours]
        ledger.equal(key, np.array(places), name, stored=np.arange(len(listed)))


def _fresh(depth: int, **settings: bool) -> VarTransformer:
    config = VarModelConfig(depth=depth, gate_init=1e-5, **settings)
    scales = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    return VarTransformer(config, scales=scales, channels=32, codebook_size=4096, num_classes=1000)


def _check_start(ledger: Ledger, key: str, depth: int) -> None:
    """Mean and deviation of each initial tensor; random draws differ, so only statistics are compared."""
    facts = ledger.fixture.facts
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        plain, shared = _fresh(depth), _fresh(depth, shared_modulation=True)
    _check_statistics(ledger, key, plain)
    rows = facts.get("init_ada_lin_rows_std")
    if rows is not None:
        weight = plain.state_dict()["blocks.1.modulation.linear.weight"]
        gates, rest = weight.unflatten(0, (BLOCK_VECTORS, -1)).split([2, 4])
        ours = dict(zip(rows, (float(gates.std()), float(rest.std())), strict=True))
        ledger.numbers("init_ada_lin_rows_std", ours, rows, tolerance=_DEVIATION_TOLERANCE)
    if f"init_saln_depth{depth}" in facts:
        _check_statistics(ledger, f"init_saln_depth{depth}", shared)


def _check_statistics(ledger: Ledger, key: str, module: VarTransformer) -> None:
    state = {transformer_name(name): value for name, value in module.state_dict().items()}
    # The bias of keys is a constant zero there and does not exist here.
    listed = {
        name: values for name, values in ledger.fixture.fact(key, "statistics").items() if not name.endswith("zero_k_bias")
    }
    # The one makes the tolerance absolute: means are close to zero.
    means = np.array([1.0, *(float(state[name].mean()) for name in listed)])
    ledger.close(key, means, "means", stored=[1.0, *(mean for mean, _ in listed.values())], tolerance=_MEAN_TOLERANCE)
    deviations = {name: float(state[name].std(correction=0)) for name in listed}
    stored = {name: deviation for name, (_, deviation) in listed.items()}
    ledger.numbers(key, deviations, stored, tolerance=_DEVIATION_TOLERANCE)
