"""What a call costs: netc from Python beside the bare run, and beside ONNX Runtime. Run it by hand:

    python python/tests/bench_calls.py NETC-PROGRAM

Figures are ratios of medians, of rounds in which both take turns.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable

import numpy as np

import netc

ROOT = pathlib.Path(__file__).parent.parent.parent
DIGITS = ROOT / "models" / "digits" / "digits.net"
ROUNDS, CALLS = 15, 300


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begin) / CALLS


def bare(program: str, file: pathlib.Path) -> float:
    """A run in Rust, as `netc bench` times it."""
    arguments = [program, "bench", str(file), "--threads", "1", "--json"]
    found = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    return float(found["median_ms"]) / 1e3


def main() -> None:
    import onnxruntime

    model = netc.compile(DIGITS, threads=1)
    x = np.random.default_rng(0).standard_normal((1, 1, 28, 28), dtype=np.float32)
    out = {"logits": np.empty((1, 10), np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        onnx, compiled = pathlib.Path(folder) / "digits.onnx", pathlib.Path(folder) / "digits.netc"
        subprocess.run([sys.argv[1], "export", str(DIGITS), "--onnx", str(onnx)], check=True, capture_output=True)
        model.save(compiled)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"image": x})[0], model(x), rtol=1e-3, atol=1e-3)
        ways: dict[str, Callable[[], Any]] = {
            "model(x)": lambda: model(x),
            "model.run(…, out=…)": lambda: model.run({"image": x}, out),
            "InferenceSession.run": lambda: session.run(None, {"image": x}),
        }
        times: dict[str, list[float]] = {name: [] for name in [*ways, "bare run"]}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name].append(seconds(way))
            times["bare run"].append(bare(sys.argv[1], compiled))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name:24} {median * 1e6:8.1f} µs   {median / medians['bare run']:.2f} of the bare run")
    print(f"ONNX Runtime's call takes {medians['InferenceSession.run'] / medians['model(x)']:.2f} times netc's")
    print(f"two threads do {two_threads(model, x):.2f} times the work of one")


def two_threads(model: netc.Model, x: np.ndarray[Any, Any]) -> float:
    """Runs in a second of two threads over those of one."""

    def count(threads: int) -> int:
        done, end = [0] * threads, time.perf_counter() + 0.5

        def work(i: int) -> None:
            while time.perf_counter() < end:
                model(x)
                done[i] += 1

        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(done)

    return statistics.median(count(2) / count(1) for _ in range(ROUNDS))


if __name__ == "__main__":
    main()
