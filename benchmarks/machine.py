"""What the numbers depend on, and what the machine can do at most."""

import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.benchmark import Timer


def machine() -> dict:
    """Processor, accelerator, threads, versions."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().split("\n") if line.startswith("model name")]
        name = lines[0].split(":")[1].strip() if lines else name
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": name, "gpu": cuda, "threads": torch.get_num_threads(), **versions}


def line(row: dict) -> str:
    """A row of results as text, numbers with three digits."""
    shown = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()}
    return ", ".join(f"{k} {v}" for k, v in shown.items())


def seconds(work: Callable, *, at_least: float = 0.5) -> float:
    """Median seconds of a call of work(), over blocks of calls that take so long together."""
    return statistics.median(blocks(work, at_least=at_least, fewest=1))


def blocks(work: Callable, *, at_least: float = 0.5, fewest: int = 5) -> list[float]:
    """Seconds of a call of work(), for each of some blocks of calls that take so long together."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    times = list(timer.blocked_autorange(min_run_time=at_least).times)
    return times + [timer.timeit(1).median for _ in range(fewest - len(times))]


def bandwidth(device: torch.device, numbers: int) -> float:
    """Bytes a second that a copy of so many float32 numbers reads and writes."""
    x, y = (torch.ones(numbers, device=device) for _ in range(2))
    return 2 * x.nbytes / seconds(lambda: y.copy_(x))


def peak(device: torch.device) -> float:
    """Floating-point operations a second of a large float32 matrix product."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b)
