"""Time netc and the engines that a user would pick instead, in turn, on the same networks with the same weights.

    python export_models.py
    cargo build --release
    python bench_peers.py

    python export_models.py --int8 NAME ...
    python bench_peers.py --precision int8,bf16

Needs what export_models.py needs and onnxruntime, openvino and ncnn; an engine that is not installed is listed as such.

For each network and thread count every engine gets a process of its own, pinned to as many CPUs as it has threads. Then they
take turns: in each round each engine runs for a while, the order moving on by one from round to round, so that a
slow minute of the machine hits all of them. An engine's figure is the median of its rounds' medians. Every engine's
output is compared with PyTorch's in float64, and one that computes something else is not ranked.

Writes results to docs/benchmarks.json, and from them docs/BENCHMARKS.md and docs/benchmarks.svg (report.py does it again).

With --precision, engines may compute in bfloat16, or have networks of 8 bits: ONNX Runtime and OpenVINO get what netc
made (`netc quantize`, then `netc export`), so the same whole numbers; ncnn and MNN have no use for such a file, and have
the same network quantized by what their own tools do, on the same samples. netc in float32 runs beside them.
`docs/benchmarks_quantized.json` and `docs/BENCHMARKS_QUANTIZED.md` are written then; a precision that is not measured in
this run stays there as it is.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import report
from engines import ENGINES, Form

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = [
    "alexnet_torchvision", "vgg16", "nin", "googlenet_torchvision", "resnet34", "resnet50",
    "dcgan_generator", "dcgan_discriminator",
]  # fmt: skip
QUANTIZED_MODELS = [*MODELS, "mobilenet_v2", "squeezenet", "densenet121"]
LATENCY_ENGINES = ["netc", "ort", "ov", "pt", "ncnn", "mnn"]
THROUGHPUT_ENGINES = ["netc", "ort", "ov", "ov_streams", "pt", "ncnn", "mnn"]
# Of fewer bits: netc in float32 is there to compare with.
REDUCED_ENGINES = {
    "int8": ["netc", "netc_f32", "ort", "ov", "ncnn", "mnn"],
    "bf16": ["netc", "netc_f32", "ov", "pt", "ncnn", "mnn"],
}
# Networks that share a file: (file, name of the model in it).
IN_FILE = {"dcgan_generator": ("dcgan", "generator"), "dcgan_discriminator": ("dcgan", "discriminator")}


def spec_of(name, models):
    """What netc reads of a network in float32: the text of models/ with its weights, or else the ONNX file."""
    file, model = IN_FILE.get(name, (name, None))
    text = ROOT / "models" / f"{file}.net"
    if not text.exists():
        return [models / f"{name}.onnx"]
    return [text, *(["--model", model] if model else []), "--weights", models / f"{name}.safetensors"]


def pinned(cpus, command):
    return ["taskset", "-c", ",".join(map(str, cpus)), *map(str, command)]


# --- contestants: start() gives the facts of loading, round() the times of one turn, stop() what is known at the end --------


class Peer:
    def __init__(self, engine, form, threads, batch, options):
        network = [form.precision, options.models, form.name, threads, batch]
        self.command = [sys.executable, HERE / "engines.py", engine, *network]
        self.cpus, self.options = options.cpus[:threads], options
        self.environment = os.environ | {"OMP_NUM_THREADS": str(threads)}

    def start(self):
        self.process = subprocess.Popen(
            pinned(self.cpus, self.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=self.environment,
        )  # fmt: skip
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": f"the process ended with code {self.process.wait()}"}

    def say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() finds the end of its output and says so
        return self.answer()

    def round(self):
        answer = self.say(f"run {self.options.seconds} {self.options.count}")
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return {"median_ms": statistics.median(answer["times"]), "min_ms": min(answer["times"])}

    def stop(self):
        return self.say("quit")


class Netc:
    def __init__(self, form, threads, batch, options):
        self.form, self.threads, self.batch, self.options = form, threads, batch, options
        self.cpus = options.cpus[:threads]
        self.compiled = options.models / f"{form.name}.{form.precision}.t{threads}.b{batch}.netc"

    def run(self, *arguments, cpus=None):
        command = [self.options.netc, *arguments]
        ran = subprocess.run(pinned(cpus or self.cpus, command), capture_output=True, text=True)
        if ran.returncode:
            first = next(iter(ran.stderr.strip().splitlines()), f"exit code {ran.returncode}")
            raise RuntimeError(f"netc {arguments[0]}: {first}")
        return ran.stdout

    def start(self):
        spec = [self.form.file("net")] if self.form.precision == "int8" else spec_of(self.form.name, self.options.models)
        precision = ["--precision", "bf16"] if self.form.precision == "bf16" else []
        several = ["--batch", str(self.batch)] if self.batch > 1 else []
        try:
            begin = time.perf_counter()
            self.run("compile", *spec, *precision, *several, "-o", self.compiled)
            compile_ms = (time.perf_counter() - begin) * 1e3
            error = self.check()
            # Once before the rounds: what it says about loading is then about a file in the page cache, as for the peers.
            facts = self.bench()
        except (OSError, RuntimeError) as problem:
            return {"failed": str(problem)[:300]}
        version = self.run("--version").split()[-1]
        return {"version": version, "error": error, "compile_ms": compile_ms} | facts

    def check(self):
        """Runs the exported input through netc and returns how far it is from PyTorch."""
        with tempfile.TemporaryDirectory() as folder:
            source, answer = Path(folder) / "x.npy", Path(folder) / "y.npy"
            np.save(source, self.form.input(self.batch))
            self.run("run", self.compiled, "--input", source, "--output", answer, "--threads", self.threads)
            return self.form.error(np.load(answer))

    def bench(self):
        several = ["--batch", self.batch] if self.batch > 1 else []
        return json.loads(self.run("bench", self.compiled, "--json", "--threads", self.threads, *several))

    def round(self):
        return self.bench()

    def stop(self):
        self.compiled.unlink(missing_ok=True)
        return {}


# --- measuring -----------------------------------------------------------------------------------------------------


def contestant(engine, form, threads, batch, options):
    if engine == "netc_f32":
        return Netc(Form(form.folder, form.name, "f32"), threads, batch, options)
    if engine == "netc":
        return Netc(form, threads, batch, options)
    return Peer(engine, form, threads, batch, options)


def measure(form, threads, batch, engines, options):
    """One network: results by engine, each {median_ms, min_ms, spread, load_ms, error, …} or {failed}."""
    contestants, results = {}, {}
    for engine in engines:
        peer = contestant(engine, form, threads, batch, options)
        results[engine] = facts = peer.start() | {"tolerance": report.TOLERANCES[form.precision]}
        if "failed" not in facts:
            contestants[engine] = peer
    rounds = {engine: [] for engine in contestants}
    for turn in range(options.rounds):
        order = list(contestants)
        order = order[turn % max(1, len(order)) :] + order[: turn % max(1, len(order))]
        for engine in order:
            # Idle threads of the engine before may still be spinning.
            time.sleep(options.pause)
            try:
                rounds[engine].append(contestants[engine].round())
            except (OSError, RuntimeError) as problem:
                results[engine] = {"failed": str(problem)[:300]}
                del contestants[engine], rounds[engine]
    for engine, peer in contestants.items():
        medians = [r["median_ms"] for r in rounds[engine]]
        median = statistics.median(medians)
        results[engine] |= peer.stop() | {
            "median_ms": median,
            "min_ms": min(r["min_ms"] for r in rounds[engine]),
            "spread": (max(medians) - min(medians)) / median,
        }
    for engine in engines:
        print("  " + report.line(engine, results[engine]), flush=True)
    return results


def machine():
    """What the figures depend on, without anything that names the machine itself."""
    text = subprocess.run(["lscpu"], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}).stdout
    fields = dict(re.findall(r"^([^:]+):\s*(.*)$", text, re.M))
    flags = fields.get("Flags", "").split()
    units = [u for u in ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd") if u in flags]
    kind = [f"{word} {fields.get(key, '?')}" for word, key in [("family", "CPU family"), ("model", "Model"), ("stepping", "Stepping")]]
    caches = [f"{cache} {fields[f'{cache} cache']}" for cache in ("L1d", "L2", "L3") if f"{cache} cache" in fields]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{fields.get('Vendor ID', '')} {fields.get('Model name', platform.processor())}".strip(),
        "family": ", ".join(kind),
        "cores": f"{len(os.sched_getaffinity(0))} CPUs visible, {fields.get('Thread(s) per core', '?')} thread(s) a core",
        "caches": ", ".join(caches),
        "units": " ".join(units),
        "memory": f"{memory:.0f} GiB",
        "virtual": fields.get("Hypervisor vendor", "no"),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": round(os.getloadavg()[0], 2),
    }


def latency(names, threads, precision, engines, options):
    """Results by number of threads, network and engine."""
    results = {}
    for count in threads:
        rows = results[str(count)] = {}
        for name in names:
            print(f"{name}, {precision}, {count} thread{'s' if count > 1 else ''}", flush=True)
            rows[name] = measure(Form(options.models, name, precision), count, 1, engines, options)
    return results


def throughput(names, batches, engines, options):
    results = {}
    for batch in batches:
        rows = results[str(batch)] = {}
        for name in names:
            print(f"{name}, all CPUs, batch {batch}", flush=True)
            rows[name] = measure(Form(options.models, name, "f32"), len(options.cpus), batch, engines, options)
    return results


def reduced(names, threads, precisions, engines, facts, options):
    """Measures with fewer bits, beside what is known of precisions that this run does not measure."""
    file = options.out / "benchmarks_quantized.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    for precision in precisions:
        chosen = [e for e in REDUCED_ENGINES[precision] if e in (engines or REDUCED_ENGINES[precision])]
        keep_elsewhere(known, precision, facts["machine"])
        known[precision] = facts | {"latency": latency(names, threads, precision, chosen, options)}
        file.write_text(json.dumps(known, indent=1) + "\n")
        report.write_quantized(known, options.out)


def keep_elsewhere(known, precision, machine):
    """Puts the last results aside where they are another machine's: the report shows the newest of each."""
    def cpu(results):
        return results["machine"]["cpu"], results["machine"]["family"]

    others = known.setdefault("elsewhere", {})
    newest = {(machine["cpu"], machine["family"]): None}
    for results in [*filter(None, [known.get(precision)]), *others.get(precision, [])]:
        newest.setdefault(cpu(results), results)
    others[precision] = [results for results in newest.values() if results]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {' '.join(QUANTIZED_MODELS)}, "
                        f"the last {len(QUANTIZED_MODELS) - len(MODELS)} only with --precision)")  # fmt: skip
    parser.add_argument("--engines", help=f"comma-separated, of netc,{','.join(ENGINES)}")
    parser.add_argument("--precision", help="int8, bf16 or both, comma-separated, in the place of float32")
    parser.add_argument("--threads", default="1,2", help="thread counts for latency (default: 1,2)")
    parser.add_argument("--cpus", help="CPUs to pin to, first ones first (default: all that are allowed)")
    parser.add_argument("--batches", default="1,4,16", help="batch sizes for throughput; empty to leave it out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of an engine's turn")
    parser.add_argument("--count", type=int, default=5, help="least number of runs in a turn")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of rest before a turn")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "peers", help="what export_models.py wrote")
    parser.add_argument("--netc", type=Path, default=ROOT / "target" / "release" / "netc")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for the report")
    options = parser.parse_args()
    options.models = options.models.resolve()
    available = sorted(os.sched_getaffinity(0))
    options.cpus = [int(c) for c in options.cpus.split(",")] if options.cpus else available
    threads = [int(t) for t in options.threads.split(",") if t]
    precisions = options.precision.split(",") if options.precision else []
    names = options.names or (QUANTIZED_MODELS if precisions else MODELS)
    chosen = options.engines.split(",") if options.engines else None
    if chosen and set(chosen) - {"netc", "netc_f32", *ENGINES}:
        parser.error(f"engines are netc, netc_f32, {', '.join(ENGINES)}")
    if set(precisions) - REDUCED_ENGINES.keys():
        parser.error(f"precisions are {', '.join(REDUCED_ENGINES)}")
    for count in threads:
        if count > len(options.cpus):
            parser.error(f"{count} threads, but only {len(options.cpus)} CPUs to pin them to")
    # Of the forms of 8 bits, one that could not be made is a failure of its engines in the table.
    missing = [name for name in names if not Form(options.models, name, "f32").file("onnx").exists()]
    if missing:
        flag = " --int8" if "int8" in precisions else ""
        parser.error(f"{options.models} lacks forms of {', '.join(missing)}; run export_models.py{flag} {' '.join(missing)}")

    facts = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rounds": options.rounds}
    if facts["machine"]["load"] > 0.5:
        print(f"load average is {facts['machine']['load']}: other work will be in the figures", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    if precisions:
        return reduced(names, threads, precisions, chosen, facts, options)
    results = facts | {
        "latency": latency(names, threads, "f32", chosen or LATENCY_ENGINES, options),
        "throughput": throughput(
            names, [int(b) for b in options.batches.split(",") if b], chosen or THROUGHPUT_ENGINES, options
        ),
    }
    (options.out / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
    report.write(results, options.out)


if __name__ == "__main__":
    main()
