"""NVG sampling on one GPU: seconds of each path, equality of the paths, and the parts that decide the time.

    python -m benchmarks.gpu.sampling --out results              # nvg-d16 on CUDA, about four minutes on an H100
    python -m benchmarks.gpu.sampling --device cpu --preset nvg-tiny --out results   # the same code as a check

Weights are random. Every step is guarded: one that fails is written down as failed, and the others run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nvgbench.config.load import load_preset
from nvgbench.device import describe_device
from nvgbench.nvg.blocks import SingleStreamBlock
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.rope import Rotation
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.runs.models import untrained_generator
from nvgbench.sampling.capture import GraphCache
from nvgbench.types import SampleRequest

COMPILED = "compiled bf16"
MODES: dict[str, tuple[bool, dict[str, Any]]] = {
    "eager fp32": (False, {"precision": "fp32", "compile": False}),
    "captured fp32": (True, {"precision": "fp32", "compile": False}),
    "eager bf16": (False, {"precision": "bf16", "compile": False}),
    "captured bf16": (True, {"precision": "bf16", "compile": False}),
    COMPILED: (True, {"precision": "bf16", "compile": True}),
}
"""Name -> whether graphs are captured, and the sampling settings."""


class Bench:
    """Runs named steps, keeps their results and failures, and writes them after each step."""

    def __init__(self, out: Path, device: torch.device) -> None:
        self.out, self.device = out, device
        self.results: dict[str, Any] = {"device": describe_device(device), "torch": torch.__version__}
        out.mkdir(parents=True, exist_ok=True)

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            result = work()
        except Exception as error:  # the other steps must still run
            traceback.print_exc(limit=4)
            result = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        self.results[name] = result
        print(f"[{time.perf_counter() - start:6.1f} s] {name}: {json.dumps(result)}", flush=True)
        (self.out / "sampling.json").write_text(json.dumps(self.results, indent=1))
        return result

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any], repeats: int, warm_ups: int = 2) -> float:
        """Median wall time of a call, without its warm-ups."""
        for _ in range(warm_ups):
            work()
        times = []
        for _ in range(repeats):
            self.synchronise()
            start = time.perf_counter()
            work()
            self.synchronise()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def milliseconds(self, work: Callable[[], Any], repeats: int = 20) -> float:
        """Mean time on the device of one call among many."""
        if self.device.type != "cuda":
            return 1e3 * self.seconds(work, 3, 1)
        for _ in range(3):
            work()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / repeats


def request(batch: int, seed: int = 0, **settings: Any) -> SampleRequest:
    labels_B = torch.arange(batch) % 10
    return SampleRequest(labels_B=labels_B, seeds_B=torch.arange(batch) + seed, settings=settings)


def use(images: NvgImageGenerator, mode: str) -> dict[str, Any]:
    captured, settings = MODES[mode]
    images.graphs.enabled = captured
    return settings


def given_structure(images: NvgImageGenerator) -> GivenStructure:
    layout = images.generator.layout
    return GivenStructure(torch.randperm(layout.positions, generator=torch.Generator().manual_seed(0))[None], layout.last)


def time_samples(bench: Bench, images: NvgImageGenerator, mode: str, batch: int, steps: int, repeats: int) -> dict[str, float]:
    settings = use(images, mode)
    before = images.graphs.preparation_s
    start = time.perf_counter()
    images.generate(request(batch, flow_steps=steps, **settings))
    bench.synchronise()
    first = time.perf_counter() - start
    seconds = bench.seconds(lambda: images.generate(request(batch, flow_steps=steps, **settings)), repeats, warm_ups=1)
    return {
        "seconds": round(seconds, 5),
        "images_per_s": round(batch / seconds, 2),
        "first_call_s": round(first, 2),
        "preparation_s": round(images.graphs.preparation_s - before, 2),
    }


def time_given(bench: Bench, images: NvgImageGenerator, mode: str, batch: int, repeats: int) -> dict[str, float]:
    settings, given = use(images, mode), given_structure(images)
    seconds = bench.seconds(lambda: images.generate(request(batch, **settings), given), repeats)
    return {"seconds": round(seconds, 5), "images_per_s": round(batch / seconds, 2)}


def difference(a: Tensor, b: Tensor) -> dict[str, float]:
    change = (a.float() - b.float()).abs()
    return {
        "equal": bool(torch.equal(a, b)),
        "mean_levels": round(change.mean().item(), 4),
        "within_1_level": round((change <= 1).float().mean().item(), 6),
    }


def check_paths(images: NvgImageGenerator, batch: int) -> dict[str, Any]:
    """Captured equals eager bit for bit; a repeated call after other captures equals the first one."""
    found: dict[str, Any] = {}

    def draw(mode: str, rows: int = batch, seed: int = 5, steps: int = 3) -> Tensor:
        return images.generate(request(rows, seed, flow_steps=steps, **use(images, mode))).images_B3HW.clone()

    for precision in ("fp32", "bf16"):
        eager = draw(f"eager {precision}")
        found[f"captured {precision} against eager"] = difference(draw(f"captured {precision}"), eager)
        draw(f"captured {precision}", rows=2, seed=9)
        draw(f"captured {precision}", seed=11, steps=4)
        found[f"captured {precision} after other captures"] = difference(draw(f"captured {precision}"), eager)
        single = torch.cat([draw(f"captured {precision}", rows=1, seed=5)])
        found[f"captured {precision}, first image alone"] = difference(single, eager[:1])
    if COMPILED in MODES:
        compiled = draw(COMPILED)
        found["compiled bf16 against eager bf16"] = difference(compiled, draw("eager bf16"))
        found["compiled bf16 against eager fp32"] = difference(compiled, draw("eager fp32"))
        found["compiled bf16 again"] = difference(draw(COMPILED), compiled)
    return found


@torch.no_grad()
def check_velocity(images: NvgImageGenerator) -> dict[str, float]:
    """Relative error of one structure pass and one content pass against float32, eager and compiled."""
    found = {}
    exact = images.generator
    layout, device = exact.layout, exact.content.scale_factors.device
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng).to(device)

    z, canvas = normal(4, layout.positions, layout.channels), normal(4, *exact.content.start_1LC.shape[1:])
    se = torch.ones(4, layout.positions, layout.channels, device=device)
    stage, labels, t = (torch.full((4,), value, device=device) for value in (1, 2, 0.5))
    for precision, compiles in itertools.product(("fp32", "bf16"), (False, True) if COMPILED in MODES else (False,)):
        model = images._variant(precision, compiles)  # type: ignore[arg-type]
        velocity = model.structure(z, t, canvas, se, stage, labels)
        final = model.content(canvas, se, stage, labels)
        if (precision, compiles) == ("fp32", False):
            references = velocity, final
        for name, ours, reference in zip(("velocity", "final canvas"), (velocity, final), references, strict=True):
            error = ((ours - reference).norm() / reference.norm()).item()
            found[f"{name} {precision}{' compiled' if compiles else ''}"] = float(f"{error:.3g}")
    return found


@torch.no_grad()
def time_network(bench: Bench, images: NvgImageGenerator, rows: int) -> dict[str, float]:
    """Milliseconds of a pass of each network in bf16: eager, captured, compiled and captured."""
    exact, device = images.generator, bench.device
    layout = exact.layout
    z = torch.randn(rows, layout.positions, layout.channels, device=device)
    canvas = torch.randn(rows, *exact.content.start_1LC.shape[1:], device=device)
    se = torch.ones(rows, layout.positions, layout.channels, device=device)
    stage, labels = torch.ones(rows, dtype=torch.int64, device=device), torch.zeros(rows, dtype=torch.int64, device=device)
    t = torch.full((rows,), 0.5, device=device)
    found = {}
    for compiles in (False, True) if COMPILED in MODES else (False,):
        model = images._variant("bf16", compiles)
        unit = model.structure.rope(se).unit_B1NP2
        structure_vectors = model.structure.flow_vectors(t[:1], stage, labels)[0]
        content_vectors = model.content.stage_vectors(labels, [rows] * layout.stages)[1]
        passes: dict[str, tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]] = {
            "structure": (
                lambda z, canvas, labels, unit, vectors, model=model: (
                    model.structure.velocity_modulated(z, canvas, labels, Rotation(unit), vectors),
                ),
                (z, canvas, labels, unit, structure_vectors),
            ),
            "content": (
                lambda canvas, se, stage, labels, vectors, model=model: (
                    model.content.predict_modulated(canvas, se, stage, labels, vectors),
                ),
                (canvas, se, stage, labels, content_vectors),
            ),
        }
        for name, (function, inputs) in passes.items():
            graphs = GraphCache(True)
            kind = "compiled" if compiles else "eager"
            found[f"{name} {kind}"] = round(bench.milliseconds(lambda: function(*inputs), 10), 3)  # noqa: B023
            found[f"{name} {kind} captured"] = round(
                bench.milliseconds(lambda: graphs.call(name, function, *inputs), 10),  # noqa: B023
                3,
            )
    return found


@torch.no_grad()
def time_block(bench: Bench, images: NvgImageGenerator, rows: int) -> dict[str, float]:
    """Milliseconds of the parts of one structure block in bf16, captured: products, attention by backend, alternatives."""
    block = images._variant("bf16", False).structure.blocks[0]
    assert isinstance(block, SingleStreamBlock)
    width, inner = block.linear_in.in_features, block.linear_in.out_features - 3 * block.linear_in.in_features
    size, tokens = len(block.query_scale), 2 * images.generator.layout.positions + 1
    dtype = torch.bfloat16

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=bench.device, dtype=dtype)

    x, attended, mlp, joined = (normal(rows, tokens, channels) for channels in (width, width, inner, width + inner))
    q, k, v = (normal(rows, width // size, tokens, size) for _ in range(3))
    weight_in, bias_in, weight_out, bias_out = (
        block.linear_in.weight, block.linear_in.bias, block.linear_out.weight, block.linear_out.bias,
    )  # fmt: skip

    def two_products(attended: Tensor, mlp: Tensor) -> tuple[Tensor, ...]:
        first = F.linear(mlp, weight_out[:, width:], bias_out).flatten(0, 1)
        return (torch.addmm(first, attended.flatten(0, 1), weight_out[:, :width].T),)

    def activated(x: Tensor) -> tuple[Tensor, ...]:
        flat = x.flatten(0, 1)
        return (torch.ops.aten._addmm_activation(bias_in[3 * width :], flat, weight_in[3 * width :].T, use_gelu=True),)

    def attention(backend: SDPBackend) -> Callable[..., tuple[Tensor, ...]]:
        def run(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            with sdpa_kernel([backend]):
                return (F.scaled_dot_product_attention(q, k, v),)

        return run

    work: dict[str, tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]] = {
        "linear_in": (lambda x: (F.linear(x, weight_in, bias_in),), (x,)),
        "linear_in: qkv only": (lambda x: (F.linear(x, weight_in[: 3 * width], bias_in[: 3 * width]),), (x,)),
        "linear_in: mlp only": (lambda x: (F.linear(x, weight_in[3 * width :], bias_in[3 * width :]),), (x,)),
        "linear_in: mlp with gelu epilogue": (activated, (x,)),
        "gelu and cat": (lambda attended, mlp: (torch.cat((attended, F.gelu(mlp, approximate="tanh")), -1),), (attended, mlp)),
        "linear_out": (lambda joined: (F.linear(joined, weight_out, bias_out),), (joined,)),
        "linear_out: two products": (two_products, (attended, mlp)),
        "layer norm": (lambda x: (F.layer_norm(x, x.shape[-1:]),), (x,)),
        **{
            f"attention: {backend.name}": (attention(backend), (q, k, v))
            for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
        },
        "attention: default": (lambda q, k, v: (F.scaled_dot_product_attention(q, k, v),), (q, k, v)),
    }
    found: dict[str, Any] = {}
    for name, (function, inputs) in work.items():
        try:
            graphs = GraphCache(True)
            found[name] = round(bench.milliseconds(lambda: graphs.call(name, function, *inputs)), 4)  # noqa: B023
        except Exception as error:
            found[name] = f"failed: {str(error)[:100]}"
    copy = torch.empty_like(mlp)
    found["copy of the mlp's size (to subtract from its input)"] = round(bench.milliseconds(lambda: copy.copy_(mlp)), 4)
    return found


@torch.no_grad()
def check_decoder(bench: Bench, images: NvgImageGenerator, batch: int) -> dict[str, Any]:
    """Time of the decoder and change of its pixels: float32, TF32, bf16, with and without channels-last."""
    layout = images.generator.layout
    codes_VC = images.quantizer.codebook_VC
    canvas = codes_VC[torch.randint(0, len(codes_VC), (batch, layout.positions), device=codes_VC.device)]
    canvas = canvas.transpose(1, 2).unflatten(2, layout.grid).contiguous()
    found: dict[str, Any] = {}

    def decoded(tf32: bool, half: bool, last: bool) -> Tensor:
        tokenizer = images.tokenizer.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        x = canvas.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=tf32),
            torch.autocast(bench.device.type, torch.bfloat16, enabled=half),
        ):
            return ((tokenizer.decode(x).float() + 1) * 127.5).round()

    exact = decoded(False, False, False)
    for arithmetic, last in itertools.product(("fp32", "tf32", "bf16"), (False, True)):
        tf32, half = arithmetic == "tf32", arithmetic == "bf16"
        name = f"{arithmetic}{' channels-last' if last else ''}"
        change = (decoded(tf32, half, last) - exact).abs()
        found[name] = {
            "ms": round(bench.milliseconds(lambda: decoded(tf32, half, last), 5), 3),  # noqa: B023
            "within_1_level": round((change <= 1).float().mean().item(), 6),
            "unchanged": round((change == 0).float().mean().item(), 6),
        }
    images.tokenizer.to(memory_format=torch.contiguous_format)
    return found


def plan(large: int, steps: int, cuda: bool) -> Iterator[tuple[str, int, int, int]]:
    """Mode, batch, flow steps, repeats: cheap ones first; the eager path of a large batch at one step only."""
    for mode in MODES:
        for flow_steps in (1, 4, steps):
            yield mode, 1, flow_steps, 3 if mode.startswith("eager") else 10
    for mode in MODES:
        yield mode, large, 1, 2
    for mode in list(MODES)[3:] if cuda else ():
        yield mode, large, steps, 2


def run(device: torch.device, out: Path, preset: str, large: int = 64, steps: int = 25) -> dict[str, Any]:
    """All steps; the results, which are also in ``sampling.json``."""
    bench = Bench(out, device)
    images = untrained_generator(load_preset(preset), 1000, 0, device)
    assert isinstance(images, NvgImageGenerator)
    for mode, batch, flow_steps, repeats in plan(large, steps, device.type == "cuda"):
        name = f"{mode}, batch {batch}, n = {flow_steps}"
        bench.step(name, lambda: time_samples(bench, images, mode, batch, flow_steps, repeats))  # noqa: B023
        if flow_steps == steps and batch == 1:
            bench.step(f"{mode}, batch 1, given structure", lambda: time_given(bench, images, mode, 1, 5))  # noqa: B023
    bench.step("paths", lambda: check_paths(images, 4))
    bench.step("errors", lambda: check_velocity(images))
    for rows in (2, 2 * large):
        bench.step(f"networks, {rows} rows, ms", lambda: time_network(bench, images, rows))  # noqa: B023
        bench.step(f"structure block, {rows} rows, ms", lambda: time_block(bench, images, rows))  # noqa: B023
    for batch in (1, large):
        bench.step(f"decoder, batch {batch}", lambda: check_decoder(bench, images, batch))  # noqa: B023
    if device.type == "cuda":
        bench.step("memory", lambda: {"peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 2)})
    print_table(bench.results)
    return bench.results


def print_table(results: dict[str, Any]) -> None:
    """The timed samples, one line each."""
    print(f"\n{'NVG sampling':<48}{'s':>10}{'images/s':>10}{'first call, s':>15}")
    for name, found in results.items():
        if isinstance(found, dict) and "images_per_s" in found:
            print(f"{name:<48}{found['seconds']:>10.4f}{found['images_per_s']:>10.1f}{found.get('first_call_s', ''):>15}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--preset", default="nvg-d16")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--large", type=int, default=64, help="the large batch")
    parser.add_argument("--steps", type=int, default=25, help="flow steps")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled path")
    options = parser.parse_args()
    if options.no_compile:
        del MODES[COMPILED]
    run(torch.device(options.device), options.out, options.preset, options.large, options.steps)


if __name__ == "__main__":
    main()
