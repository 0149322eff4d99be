from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pynvml
import pytest
import torch
from torch.nn import functional as F

from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.profiling import energy, flops, memory
from nvgbench.profiling.latency import spread, time_repetitions
from nvgbench.profiling.memory import peak_cuda_memory, peak_process_memory
from nvgbench.profiling.profile import ProfilePlan, profile_generator
from nvgbench.types import Measurement, ModelSpec, SampleRequest, SampleResult

CPU = torch.device("cpu")


class FakeGenerator:
    """One matrix product an image."""

    spec = ModelSpec(name="fake", family="external", image_size=16, num_classes=3, parameters={"all": 12})

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], list[int], Mapping[str, Any]]] = []
        self.weight = torch.ones(8, 5)

    def generate(self, request: SampleRequest) -> SampleResult:
        self.calls.append((request.labels_B.tolist(), request.seeds_B.tolist(), request.settings))
        batch = len(request.labels_B)
        assert torch.mm(torch.ones(batch, 8), self.weight).shape == (batch, 5)
        return SampleResult(torch.zeros(batch, 3, 16, 16, dtype=torch.uint8))


def by_name(measurements: tuple[Measurement, ...], name: str, batch_size: int) -> Measurement:
    (found,) = [m for m in measurements if m.name == name and m.conditions["batch_size"] == batch_size]
    return found


def test_a_whole_profile() -> None:
    generator = FakeGenerator()
    assert isinstance(generator, ImageGenerator)
    steps: list[tuple[int, int]] = []
    plan = ProfilePlan(batch_sizes=(4, 1), repeats=3, warmup=1, settings={"top_k": 2})
    measured = profile_generator(generator, plan, CPU, lambda done, total: steps.append((done, total)))

    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert by_name(measured, "flops", 1).samples == (2 * 8 * 5,)
    latency, throughput = by_name(measured, "latency", 1), by_name(measured, "throughput", 4)
    assert len(latency.samples) == len(throughput.samples) == 3
    assert latency.unit == "s"
    assert throughput.unit == "images/s"
    assert throughput.higher_is_better is True
    for name in ("peak_memory_cuda", "energy"):
        missing = by_name(measured, name, 4)
        assert missing.samples == ()
        assert missing.note.startswith("not available")
    assert by_name(measured, "peak_memory_process", 1).samples[0] > 2**20
    assert generator.calls[-1] == ([0, 1, 2, 0], [0, 1, 2, 3], {"top_k": 2})
    # FLOPs 1, and at each batch size a warm-up, three timed calls and one under the memory probe
    assert len(generator.calls) == 1 + 2 * 5


@pytest.mark.parametrize("plan", [{"batch_sizes": ()}, {"batch_sizes": (0,)}, {"batch_sizes": (1, 1)}, {"repeats": 0}])
def test_impossible_plans_are_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ProfilePlan(**plan)


def test_out_of_memory_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = FakeGenerator()
    plain = generator.generate

    def generate(request: SampleRequest) -> SampleResult:
        if len(request.labels_B) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return plain(request)

    monkeypatch.setattr(generator, "generate", generate)
    measured = profile_generator(generator, ProfilePlan(batch_sizes=(1, 64), repeats=1, warmup=0), CPU)
    assert by_name(measured, "latency", 1).samples
    assert by_name(measured, "throughput", 64).samples == ()
    assert "out of GPU memory" in by_name(measured, "throughput", 64).note


def test_every_repetition_is_kept_and_the_warm_up_is_not() -> None:
    calls: list[int] = []
    samples = time_repetitions(lambda: calls.append(1) or time.sleep(0.002), CPU, repeats=4, warmup=3)
    assert len(calls) == 7
    assert len(samples) == 4
    assert min(samples) >= 0.002  # sleep never returns early


def test_spread() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert spread([7.0]).median == spread([7.0]).low == 7.0
    with pytest.raises(InputError):
        spread([])


@pytest.mark.parametrize("kernel", [True, False])
def test_process_memory_sees_a_passing_peak(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocation that is gone when the work ends is still seen, also where the kernel keeps no peak."""
    size = 64 * 2**20
    seen = threading.Event()
    if kernel and not memory._reset_high_water_mark():
        pytest.skip("this kernel keeps no peak that can be reset")
    if not kernel:
        monkeypatch.setattr(memory, "_RESET", Path("/proc/self/none"))
        look = psutil.Process.memory_info

        def noted(process: psutil.Process) -> object:
            there = bool(block) and threading.current_thread().name == "peak-memory"
            found = look(process)
            if there:
                seen.set()
            return found

        monkeypatch.setattr(psutil.Process, "memory_info", noted)
    block: list[mmap.mmap] = []

    def allocate() -> None:
        # Not from the heap: there it may lie in what earlier tests left resident. Written to, so that it is resident too.
        fresh = mmap.mmap(-1, size)
        np.frombuffer(fresh, dtype=np.uint8)[:] = 1
        block.append(fresh)
        # A busy machine may give the watching thread no turn for a while.
        assert kernel or seen.wait(60)
        block.clear()
        fresh.close()

    measurement = peak_process_memory(allocate)
    assert measurement.samples[0] - measurement.conditions["before"] > size / 2
    assert ("high-water" in measurement.conditions["method"]) == kernel
    assert peak_cuda_memory(allocate, CPU).samples == ()


def test_flops_of_attention_are_counted() -> None:
    """The fused CPU kernel is unknown to the counter and would count nothing."""
    q = torch.randn(1, 2, 16, 8)
    assert flops.count_flops(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 2 * 16 * 16 * 8)


def test_uncounted_work_is_not_zero_flops() -> None:
    assert flops.flops_measurement(lambda: torch.ones(3).exp(), 1).samples == ()


class FakeCounter:
    """An energy counter that moves by 300 W times a fake clock, 10 ms a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, watts: float) -> None:
        self.now, self.watts = 0.0, watts
        monkeypatch.setattr(energy.pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(energy.pynvml, "nvmlShutdown", lambda: None)
        monkeypatch.setattr(energy.pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: self.now * self.watts * 1000)
        monkeypatch.setattr(energy, "_handle", lambda device: "gpu")
        monkeypatch.setattr(energy, "synchronize", lambda device: None)
        monkeypatch.setattr(energy.time, "perf_counter", lambda: self.now)

    def work(self) -> None:
        self.now += 0.010


def test_energy_is_per_image_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = FakeCounter(monkeypatch, watts=300)
    found = energy.energy_per_image(counter.work, 4, torch.device("cuda"), seconds=2.0, windows=2)
    assert found.samples == pytest.approx([300 * 0.010 / 4] * 2)
    assert found.unit == "J/image"


def test_no_energy_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = FakeCounter(monkeypatch, watts=0)
    still = energy.energy_per_image(counter.work, 1, torch.device("cuda"))
    assert still.samples == ()
    assert "did not move" in still.note

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(energy.pynvml, "nvmlInit", refuse)
    assert energy.energy_per_image(counter.work, 1, torch.device("cuda")).samples == ()
    assert energy.energy_per_image(counter.work, 1, CPU).samples == ()
    with pytest.raises(InputError, match="updated only every"):
        energy.energy_per_image(counter.work, 1, CPU, seconds=0.1)
