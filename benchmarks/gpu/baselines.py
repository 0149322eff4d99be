"""VAR and AR on one GPU: captured and compiled sampling beside the eager loop, in time and in results.

``python -m benchmarks.gpu.baselines [--device cpu] [--out FOLDER]`` runs every step by itself, so that a failure hides no
other, and writes ``baselines.jsonl`` after each. On the CPU the smallest presets show that the script works.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from nvgbench.config.load import load_preset
from nvgbench.device import resolve_device
from nvgbench.profiling.latency import spread, time_repetitions
from nvgbench.registry import get_family
from nvgbench.runs.models import untrained_generator
from nvgbench.sampling.filters import choose_tokens, top_k_filter, top_p_filter
from nvgbench.types import SampleRequest

Row = dict[str, Any]
Step = tuple[str, Callable[[], list[Row]]]

# "captured" is no setting: `prepared` takes it out and switches the generator's graphs.
EAGER: dict[str, Any] = {"captured": False, "compile": False}
CAPTURED: dict[str, Any] = {"captured": True, "compile": False}
COMPILED: dict[str, Any] = {"captured": True, "compile": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "eager fp32": {**EAGER, "precision": "fp32"},
    "eager bf16": {**EAGER, "precision": "bf16"},
    "captured bf16": {**CAPTURED, "precision": "bf16"},
    "captured and compiled bf16": {**COMPILED, "precision": "bf16"},
}
# Targets of one H100: seconds per call.
TARGETS = {("var-d16", 1, "images"): 0.020, ("var-d16", 64, "tokens"): 64 / 400}


class Models:
    """Models with random weights, one at a time on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._kept: tuple[str, Any] = ("", None)

    def get(self, preset: str) -> Any:
        if self._kept[0] != preset:
            self._kept = ("", None)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            generator: Any = untrained_generator(load_preset(preset), 1000, seed=0, device=self.device)
            with torch.no_grad():
                # As initialised, logits are so flat that no error in the blocks would be seen in the tokens.
                generator.transformer.head.weight.normal_(std=1.0 / generator.transformer.config.width**0.5 * 4)
            self._kept = (preset, generator)
        return self._kept[1]


def steps(device: torch.device) -> Iterator[Step]:
    """Every step with its name."""
    models, on_gpu = Models(device), device.type == "cuda"
    var, ar = ("var-d16", "ar-b") if on_gpu else ("var-tiny", "ar-tiny")
    batches = (1, 64) if on_gpu else (1, 4)
    for preset in (var, ar):
        yield f"{preset}: captured equals eager", lambda preset=preset: captured_equals_eager(models.get(preset), preset)
        for batch in batches:
            for variant in VARIANTS if on_gpu else ("eager fp32", "captured bf16"):
                name = f"{preset}, batch {batch}, {variant}"
                yield name, lambda preset=preset, batch=batch, variant=variant: timed(models, preset, batch, variant)
        if on_gpu:
            yield f"{preset}: compiled equals eager", lambda preset=preset: compiled_equals_eager(models.get(preset), preset)
            yield f"{preset}: kernels", lambda preset=preset: kernels(models.get(preset), preset)
    yield "filters", lambda: filters(device, batches[-1], 256 if on_gpu else 16, 4096 if on_gpu else 64)


def images(generator: Any, batch: int, first: int, variant: Mapping[str, Any]) -> torch.Tensor:
    """Images of a fixed job, int32 on the CPU."""
    images_B3HW: torch.Tensor = generator.generate(prepared(generator, batch, variant, first)).images_B3HW
    return images_B3HW.int().cpu()


def prepared(generator: Any, batch: int, variant: Mapping[str, Any], first: int = 0) -> SampleRequest:
    """The request for this variant, with the generator's graphs switched on or off."""
    settings = dict(variant)
    generator.graphs.enabled = settings.pop("captured")
    order_B = torch.arange(first, first + batch)
    return SampleRequest(labels_B=order_B % 1000, seeds_B=order_B, settings=settings)


def captured_equals_eager(generator: Any, preset: str) -> list[Row]:
    """Bit for bit, at both precisions, whatever was captured before; changed weights are seen."""
    rows = []
    for precision in ("fp32", "bf16"):
        eager, captured = ({**variant, "precision": precision} for variant in (EAGER, CAPTURED))
        asked = [(batch, first) for batch in (4, 2, 4) for first in (0, 8)]
        same = [torch.equal(images(generator, *one, captured), images(generator, *one, eager)) for one in asked]
        rows.append({"precision": precision, "equal calls": f"{sum(same)} of {len(same)}", "ok": all(same)})
    head, pair = generator.transformer.head.weight, {"eager": EAGER, "captured": CAPTURED}
    with torch.no_grad():
        head.neg_()
    changed = {variant: images(generator, 4, 0, {**settings, "precision": "bf16"}) for variant, settings in pair.items()}
    with torch.no_grad():
        head.neg_()
    before = images(generator, 4, 0, {**CAPTURED, "precision": "bf16"})
    fresh = torch.equal(changed["captured"], changed["eager"]) and not torch.equal(changed["captured"], before)
    return [{"preset": preset, **row} for row in (*rows, {"changed weights": True, "ok": fresh})]


def compiled_equals_eager(generator: Any, preset: str) -> list[Row]:
    """Share of tokens that agree. Fused bf16 sums round differently, and a flipped token changes those after it."""
    rows = []
    for precision, limit in (("fp32", 0.98), ("bf16", 0.50)):
        found, expected = (
            torch.cat(generator.tokens(prepared(generator, 8, {**variant, "precision": precision})).indices, dim=1)
            for variant in (COMPILED, EAGER)
        )
        share = float((found == expected).float().mean())
        rows.append({"preset": preset, "precision": precision, "equal tokens": share, "limit": limit, "ok": share >= limit})
    return rows


def timed(models: Models, preset: str, batch: int, variant: str) -> list[Row]:
    """Tokens alone and whole images; the first call, which captures and compiles, by itself."""
    generator, device = models.get(preset), models.device
    config = load_preset(preset)
    flops = get_family(config.family).cost(config, 1000).sampling_flops
    asked = prepared(generator, batch, VARIANTS[variant])
    budget = 1.5 if device.type == "cuda" else 0.3
    rows = []
    for what, call in (("tokens", generator.tokens), ("images", generator.generate)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        (cold,) = time_repetitions(lambda call=call: call(asked), device, repeats=1, warmup=0)
        count = max(3, min(30, int(budget / max(_once(call, asked, device), 1e-3))))
        seconds = time_repetitions(lambda call=call: call(asked), device, repeats=count, warmup=1)
        found, done = spread(seconds), sum(flops.values()) if what == "images" else flops["transformer"]
        row = {
            "preset": preset,
            "variant": variant,
            "batch": batch,
            "what": what,
            "n": count,
            "median_s": found.median,
            "low_s": found.low,
            "high_s": found.high,
            "images_per_s": batch / found.median,
            "tflops": done * batch / found.median / 1e12,
            "first_call_s": cold,
        }
        if device.type == "cuda":
            row["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        target = TARGETS.get((preset, batch, what))
        if target is not None and "compiled" in variant:
            row |= {"target_s": target, "target met": found.median <= target}
        rows.append(row)
    return rows


def _once(call: Callable[[SampleRequest], object], asked: SampleRequest, device: torch.device) -> float:
    return time_repetitions(lambda: call(asked), device, repeats=1, warmup=0)[0]


def kernels(generator: Any, preset: str, batch: int = 64) -> list[Row]:
    """The kernels that take most of the time of a captured and compiled call."""
    asked = prepared(generator, batch, VARIANTS["captured and compiled bf16"])
    generator.tokens(asked)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        generator.tokens(asked)
        torch.cuda.synchronize()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events)
    return [
        {
            "preset": preset,
            "kernel": event.key[:70],
            "ms": event.self_device_time_total / 1e3,
            "count": event.count,
            "share": event.self_device_time_total / max(total, 1),
        }
        for event in events[:16]
    ]


def filters(device: torch.device, batch: int, tokens: int, codes: int) -> list[Row]:
    """The parts of choosing the tokens of the largest scale."""
    logits_BnV = torch.randn(batch, tokens, codes, device=device)
    uniforms_Bn = torch.rand(batch, tokens, device=device)
    parts: dict[str, Callable[[], object]] = {
        "top_k": lambda: top_k_filter(logits_BnV, codes // 4),
        "top_p": lambda: top_p_filter(logits_BnV, 0.96),
        "choose": lambda: choose_tokens(logits_BnV, uniforms_Bn),
    }
    seconds = {name: spread(time_repetitions(call, device, repeats=10, warmup=2)).median for name, call in parts.items()}
    return [{"part": name, "shape": list(logits_BnV.shape), "ms": 1e3 * median} for name, median in seconds.items()]


def run(device: torch.device, out: Path | None, only: str = "", seconds: float = 400.0) -> list[Row]:
    """Every step whose name contains ``only``, until the time is used up; a failure becomes a row."""
    rows: list[Row] = []
    began = time.perf_counter()
    for name, step in steps(device):
        if only not in name:
            continue
        start = time.perf_counter()
        if start - began > seconds:
            found: list[Row] = [{"skipped": "no time left"}]
        else:
            try:
                found = step()
            except Exception as error:
                traceback.print_exc()
                found = [{"ok": False, "error": f"{type(error).__name__}: {error}"[:300]}]
        took = round(time.perf_counter() - start, 1)
        rows += [{"step": name, "took_s": took, **row} for row in found]
        for row in found:
            print(f"{name:45} {took:6.1f} s  {_text(row)}", flush=True)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "baselines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _text(row: Row) -> str:
    skipped = ("preset", "variant", "batch")
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k not in skipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="steps whose name contains this")
    parser.add_argument("--seconds", type=float, default=400.0, help="no step starts after this many")
    chosen = parser.parse_args()
    rows = run(resolve_device(chosen.device), chosen.out, chosen.only, chosen.seconds)
    failed = [row for row in rows if row.get("ok") is False]
    print(f"{len(rows)} rows, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
