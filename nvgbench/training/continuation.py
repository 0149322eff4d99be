"""Changing a training on the way: other settings from some step on, a longer training, a return to an earlier checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nvgbench.config.identity import CONTINUABLE, differing
from nvgbench.config.load import override_config, to_dict
from nvgbench.config.schema import PhaseConfig, RunConfig
from nvgbench.errors import InputError, did_you_mean
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import PHASES, Phase, RunFolder
from nvgbench.runs.segments import History
from nvgbench.training.plan import phase_steps


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What a call of `nvgbench.training.run.train_run` changes in an existing run.

    Attributes:
        settings: to be changed from the last checkpoint on, by key.
        rewind: return to the newest checkpoint of the phase in training at or before this step, or to its start by 0; None to
            stay.
        accept_data: go on with other images of the same classes.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    rewind: int | None = None
    accept_data: bool = False


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is about to change, checked but not written yet.

    Attributes:
        config: the run's new configuration.
        history: with the new segment; None if no new segment begins.
        reopened: finished phases that continue, with their new numbers of steps.
        rewound: the phase that returns to an earlier step, and that step.
        notes: a line for each change.
    """

    config: RunConfig
    history: History | None = None
    reopened: Mapping[Phase, int] = field(default_factory=dict)
    rewound: tuple[Phase, int] | None = None
    notes: tuple[str, ...] = ()

    def apply(self, run: RunFolder) -> None:
        """Write it. A process that is killed meanwhile leaves a run to which the same call applies the rest.

        Raises:
            OSError: a file cannot be written.
        """
        if self.rewound is not None:
            ckpt.discard_after(run.checkpoints(self.rewound[0]), self.rewound[1])
        for phase, steps in self.reopened.items():
            ckpt.reopen(run.checkpoint(phase), steps)
        if self.history is not None or self.config != run.stored_config:
            run.update(self.config, self.history)


def plan_change(run: RunFolder, asked: RunConfig, wanted: Continuation, images: int) -> Change:
    """Check what a call changes in an existing run.

    Args:
        run: its folder.
        asked: the call's configuration, without the settings to change.
        wanted: these settings, and what else is to change.
        images: number of training images.

    Raises:
        InputError: settings that cannot be changed any more, or fewer steps than are done.
    """
    config, before = continued_config(run, asked, wanted.settings), run.stored_config
    changed = {key: new for key, (_, new) in differing(to_dict(before), to_dict(config)).items()}
    segment = {key: new for key, new in changed.items() if key in CONTINUABLE}
    shown = ", ".join(f"{key} = {'not set' if new is None else new}" for key, new in changed.items())
    notes = [f"changed: {shown}"] if shown else []
    rewound = None
    # Repeated after an interruption, the same call does not return a second time.
    if wanted.rewind is not None and (segment or run.segments[-1].rewound != wanted.rewind):
        rewound = _rewound(run, wanted.rewind)
        notes.append(f"{rewound[0]}: returns to step {rewound[1]}")
    steps: dict[str, int] = {phase: state.step for phase in PHASES if (state := run.state(phase)) is not None}
    steps |= dict([rewound]) if rewound is not None else {}
    reopened = _reopened(run, before, config, images, rewound)
    if segment and rewound is None and run.is_finished() and not reopened:
        raise InputError(
            f"{run.path} is completely trained; give it more steps, e.g. {_more_steps('generator', steps['generator'])}"
        )
    restarted = tuple(
        f"the optimizer of the {phase} started anew"
        for phase in reopened
        if ckpt.OPTIMIZER not in ckpt.read_state(run.checkpoint(phase)).files
    )
    notes += [f"warning: {note}, as its state was not kept (train.keep_optimizer)" for note in restarted]
    history = None
    if segment or rewound is not None:
        history = run.history.extended(steps, segment, notes=restarted, rewound=wanted.rewind)
    return Change(config=config, history=history, reopened=reopened, rewound=rewound, notes=tuple(notes))


def continued_config(run: RunFolder, asked: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The run's configuration with the free settings of ``asked`` and the settings to change.

    Raises:
        InputError: ``asked`` is another configuration, or a setting cannot be changed.
    """
    config = run.reconciled(asked)
    if not settings:
        return config
    for key in settings:
        if key not in CONTINUABLE:
            raise InputError(
                f"`continue_with={key}={settings[key]}`: {key} cannot change within a run{did_you_mean(key, CONTINUABLE)}; "
                "what can: train.steps, train.precision, train.cache_tokens, the keys of train.tokenizer and train.generator"
            )
    changed = override_config(config, _own_steps(config, settings))
    for phase in PHASES:
        one, other = (getattr(each.train, phase).ema_decay for each in (config, changed))
        if (one == 0) != (other == 0):
            raise InputError(
                f"`continue_with=train.{phase}.ema_decay={other}`: the average cannot be switched on or off within a run; "
                "leave it out, or use another `name=`"
            )
    return changed


def _own_steps(config: RunConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """``train.steps`` counts for both phases; where a phase gets a length of its own, it becomes that of the other phase."""
    own = [phase for phase in PHASES if {f"train.{phase}.steps", f"train.{phase}.epochs"} & set(settings)]
    if config.train.steps is None or "train.steps" in settings or not own:
        return dict(settings)
    others = {f"train.{phase}.steps": config.train.steps for phase in PHASES if phase not in own}
    return {"train.steps": None, **others, **settings}


def _rewound(run: RunFolder, step: int) -> tuple[Phase, int]:
    """The phase in training, or the last finished one, and the step of the checkpoint that it returns to."""
    phase: Phase = "generator" if run.state("generator") is not None else "tokenizer"
    kept = ckpt.kept_steps(run.checkpoints(phase))
    found = [one for one in kept if one <= step] or [0] * (step == 0)
    if not found:
        known = ", ".join(map(str, kept)) or "none"
        raise InputError(
            f"`rewind={step}`: {run.path} has no checkpoint of the {phase} that early; there are: {known} (train.keep_last "
            "keeps more), and 0 for a new start of this phase"
        )
    return phase, found[-1]


def _reopened(
    run: RunFolder, before: RunConfig, config: RunConfig, images: int, rewound: tuple[Phase, int] | None
) -> dict[Phase, int]:
    """The finished phases that continue, with their new lengths.

    Raises:
        InputError: fewer steps than are done, or a tokenizer that a generator was trained on.
    """
    found: dict[Phase, int] = {}
    for phase in PHASES:
        state = run.state(phase)
        if state is None or state.source or _training(before, phase, images) == _training(config, phase, images):
            continue
        if phase == "tokenizer" and run.state("generator") is not None:
            raise InputError(
                f"the generator of {run.path} was trained on its tokenizer, which cannot change any more; change only the "
                f"generator's training, e.g. {_more_steps('generator', state.step)}"
            )
        total = phase_steps(config, phase, images)
        returns = rewound is not None and rewound[0] == phase
        done = rewound[1] if rewound is not None and returns else state.step
        if total < done or (total == done and state.final and not returns):
            raise InputError(
                f"{run.path} has trained its {phase} for {done} steps, and there would be {total} in all; give it more, e.g. "
                f"{_more_steps(phase, done)}"
            )
        if state.final and not returns:
            found[phase] = total
    return found


def _training(config: RunConfig, phase: Phase, images: int) -> tuple[PhaseConfig, int]:
    """All that counts of a phase's settings: those beside its length, and the number of steps."""
    own: PhaseConfig = getattr(config.train, phase)
    return dataclasses.replace(own, steps=1, epochs=None), phase_steps(config, phase, images)


def _more_steps(phase: Phase, done: int) -> str:
    return f"`continue_with=train.{phase}.steps={2 * done}`"
