"""netc beside ONNX Runtime and OpenVINO on ONNX files, as a table in docs/BENCHMARKS_ONNX.md.

    python benches/peers/imported.py DIR --netc target/release/netc
    python benches/peers/imported.py DIR --netc target/release/netc --threads 2 --append

One process has one number of threads, since engines keep the CPUs that they find when they begin. DIR holds .onnx files
with one input of a known shape (`operators.py` makes some). All engines run in turn, pinned to the same CPUs, in several
rounds; a figure is the median of the rounds' medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
SECONDS = 1.0


def run_ms(run, of=statistics.median):
    """Of as many runs as fit the time, after three that warm up."""
    for _ in range(3):
        run()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(times) < 3:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e3 * of(times)


def onnx_runtime(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


def openvino(path, threads, shape):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(dict(enumerate([shape])))
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    return lambda x: request.infer([x])


def netc_ms(netc, path, threads, shortest):
    command = [netc, "bench", str(path), "--threads", str(threads), "--seconds", str(SECONDS), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{path}: {done.stderr}")
    return json.loads(done.stdout)["min_ms" if shortest else "median_ms"]


def input_of(path):
    import numpy
    import onnx

    dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value or 1 for d in dims]
    return shape, numpy.random.default_rng(0).random(shape, dtype=numpy.float32)


def row(netc, path, threads, shortest):
    of = min if shortest else statistics.median
    shape, x = input_of(path)
    ort, ov = onnx_runtime(path, threads), openvino(path, threads, shape)
    times = {"netc": [], "ONNX Runtime": [], "OpenVINO": []}
    for _ in range(ROUNDS):
        times["ONNX Runtime"].append(run_ms(lambda: ort(x), of))
        times["OpenVINO"].append(run_ms(lambda: ov(x), of))
        times["netc"].append(netc_ms(netc, path, threads, shortest))
    return {name: of(values) for name, values in times.items()}


def table(rows, title, threads):
    threads = f"{threads} thread{'s' if threads > 1 else ''}"
    yield f"## {f'{title}, {threads}' if title else threads} (ms, less is better)\n"
    yield f"| {'operator' if title else 'network'} | netc | ONNX Runtime | OpenVINO | faster peer's time over netc's |\n|---|--:|--:|--:|--:|"
    for name, r in rows.items():
        ratio = min(r["ONNX Runtime"], r["OpenVINO"]) / r["netc"]
        yield f"| {name} | {r['netc']:.2f} | {r['ONNX Runtime']:.2f} | {r['OpenVINO']:.2f} | {ratio:.2f} |"


def with_section(lines, section):
    """The lines with a section in the place of the one of that heading, or at the end."""
    heading, lines = section[0].rstrip(), list(lines)
    if heading not in lines:
        return [*lines, "", *section]
    first = lines.index(heading)
    after = next((i for i in range(first + 1, len(lines)) if lines[i].startswith("## ")), len(lines))
    return [*lines[:first], *section, *([""] if after < len(lines) else []), *lines[after:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--netc", default="target/release/netc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--append", action="store_true", help="keep the file's other tables")
    parser.add_argument("--heading", default="", help="what the table is of; networks without one")
    parser.add_argument("--shortest", action="store_true", help="shortest runs, where others use the machine as well")
    parser.add_argument("--only", default="", help="files whose names contain this")
    parser.add_argument("--out", type=Path, default=Path("docs/BENCHMARKS_ONNX.md"))
    args = parser.parse_args()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown CPU")
    measured = f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} CPUs."
    lines = [
        "# Imported networks beside ONNX Runtime and OpenVINO\n",
        "Written by `benches/peers/imported.py`; do not edit. Float32, batch 1, the ONNX files as torchvision's",
        f"networks export them. {measured} Engines run in turn in",
        f"{ROUNDS} rounds; a figure is the median of the rounds' medians. Only figures of one table compare.",
    ]
    if args.append:
        lines = args.out.read_text().splitlines()
    os.sched_setaffinity(0, range(args.threads))
    rows = {}
    for path in sorted(args.dir.glob("*.onnx")):
        if args.only in path.stem:
            rows[path.stem] = row(args.netc, path, args.threads, args.shortest)
            print(path.stem, rows[path.stem], flush=True)
    shortest = " Figures are shortest runs, since others used the machine as well." if args.shortest else ""
    note = [f"{measured}{shortest}\n"] if args.heading else []
    head, columns, *figures = table(rows, args.heading, args.threads)
    section = "\n".join([head, *note, columns, *figures]).splitlines()
    args.out.write_text("\n".join(with_section(lines, section)) + "\n")


if __name__ == "__main__":
    main()
