"""One engine with one network in one process, so that no engine's threads or allocator disturb another's.

    python engines.py ENGINE PRECISION MODELS NAME THREADS BATCH

bench_peers.py starts this and talks to it in lines of JSON: a first line when the network is loaded, then for each
`run SECONDS COUNT` on stdin a line with the times of at least COUNT runs over SECONDS, and at `quit` a last line.

PRECISION is what the engines may trade for speed:

    f32    nothing: whatever would trade precision for speed is switched off
    bf16   the network in float32, computed in bfloat16
    int8   a network of 8 bits (export_models.py --int8), the rest of it in float32
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

class Form:
    """One network in one precision, and where its files are."""

    def __init__(self, folder, name, precision):
        self.folder, self.name, self.precision = Path(folder), name, precision

    def file(self, extension):
        return self.folder / f"{self.name}{'.int8' if self.precision == 'int8' else ''}.{extension}"

    def input(self, batch):
        return np.repeat(np.load(self.folder / f"{self.name}.x.npy"), batch, axis=0)

    def error(self, answer):
        """How far an answer is from PyTorch's in float64. The batch repeats one image, so the answers must too.

        In float32 that is the largest difference over the largest expected value. With fewer bits every value has its
        noise, of which the length counts: that of the difference over that of the expected values.
        """
        expected = np.load(self.folder / f"{self.name}.y.npy").astype(np.float64).reshape(1, -1)
        difference = np.asarray(answer, dtype=np.float64).reshape(-1, expected.size) - expected
        if self.precision == "f32":
            return float(np.abs(difference).max() / np.abs(expected).max())
        return float(np.linalg.norm(difference, axis=1).max() / np.linalg.norm(expected))


# Each loader takes the form of the network, the number of threads and an input, and returns (a function that runs once and
# returns its output, version). Imports are inside, so that a missing package costs one engine only.


def ort(form, threads, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_free_dimension_override_by_name("N", len(x))
    with loading():
        session = onnxruntime.InferenceSession(form.file("onnx"), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0], onnxruntime.__version__


# What OpenVINO computes in where nothing is quantized.
OPENVINO_HINT = {"f32": "f32", "bf16": "bf16", "int8": "f32"}


def ov(form, threads, x):
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": OPENVINO_HINT[form.precision],
        "NUM_STREAMS": 1,
    }
    with loading():
        model = core.read_model(form.file("onnx"))
        model.reshape(list(x.shape))
        request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run():
        request.infer([x])
        return request.get_output_tensor(0).data

    return run, openvino.__version__.split("-")[0]


def ov_streams(form, threads, x):
    """OpenVINO as it is meant for throughput: images one by one over parallel streams, eight to a run."""
    import openvino

    core = openvino.Core()
    hint = OPENVINO_HINT[form.precision]
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint}
    with loading():
        model = core.read_model(form.file("onnx"))
        model.reshape([1, *x.shape[1:]])
        queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", settings))
    answers = [None] * len(x)

    def keep(request, k):
        answers[k] = request.get_output_tensor(0).data.copy()

    queue.set_callback(keep)

    def run():
        for k in range(len(x)):
            queue.start_async([x[k : k + 1]], k)
        queue.wait_all()
        return np.concatenate(answers)

    return run, openvino.__version__.split("-")[0]


def pt(form, threads, x):
    import torch
    from export_models import build

    torch.set_num_threads(threads)
    image = torch.from_numpy(x)
    model, _ = build(form.name)
    if form.precision == "bf16":
        model, image = model.bfloat16(), image.bfloat16()
    with loading(), torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(model, image))
        traced = torch.jit.optimize_for_inference(traced)

    def run():
        with torch.inference_mode():
            return traced(image).float().numpy()

    return run, torch.__version__.split("+")[0]


def ncnn(form, threads, x):
    """ncnn has no batch dimension: a batch is run image by image."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_arithmetic", "use_fp16_storage", "use_fp16_packed"):
        setattr(net.opt, option, False)
    for option in ("use_bf16_storage", "use_bf16_packed"):
        if hasattr(net.opt, option):
            setattr(net.opt, option, form.precision == "bf16")
    with loading():
        if net.load_param(str(form.file("ncnn.param"))) or net.load_model(str(form.file("ncnn.bin"))):
            raise RuntimeError("ncnn cannot read the model")
    images = [ncnn.Mat(image) for image in x]

    def once(image):
        extractor = net.create_extractor()
        extractor.input("in0", image)
        status, answer = extractor.extract("out0")
        if status:
            raise RuntimeError(f"ncnn: status {status}")
        return np.array(answer)

    return lambda: np.stack([once(image) for image in images]), ncnn.__version__


def mnn(form, threads, x):
    import MNN
    import MNN.expr
    import MNN.nn

    precision = "low_bf16" if form.precision == "bf16" else "high"
    with loading():
        manager = MNN.nn.create_runtime_manager(({"backend": 0, "numThread": threads, "precision": precision},))
        file = str(form.file("mnn"))
        # Without names: all inputs and outputs that the file has.
        net = MNN.nn.load_module_from_file(file, [], [], runtime_manager=manager)
    image = MNN.expr.const(x, list(x.shape), MNN.expr.NCHW)

    def run():
        answer = net.forward([image])
        answer = answer[0] if isinstance(answer, list | tuple) else answer
        converted = MNN.expr.convert(answer, MNN.expr.NCHW)
        # What `read` gives is memory of the variable, which goes with it.
        return np.array(converted.read())

    return run, MNN.version()


ENGINES = {"ort": ort, "ov": ov, "ov_streams": ov_streams, "pt": pt, "ncnn": ncnn, "mnn": mnn}
# An answer in bfloat16, which has three digits, is further off.
EXACT = 2e-5


class loading:
    """Times what it encloses as loading: from files in the page cache to an object that can run."""

    milliseconds = 0.0

    def __enter__(self):
        self.start = time.perf_counter()

    def __exit__(self, *_):
        loading.milliseconds += (time.perf_counter() - self.start) * 1e3


def time_runs(run, seconds, count):
    times, begin = [], time.perf_counter()
    while len(times) < count or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    engine, precision, models, name, threads, batch = sys.argv[1:]
    form, threads = Form(models, name, precision), int(threads)
    # Engines print to stdout as they please; the protocol keeps the real one for itself.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**fields):
        print(json.dumps(fields), file=channel, flush=True)

    x = form.input(int(batch))  # some engines read it where it is
    try:
        run, version = ENGINES[engine](form, threads, x)
        start = time.perf_counter()
        answer = run()
        first = (time.perf_counter() - start) * 1e3
        for _ in range(2):
            run()
        error = form.error(answer)
        if form.precision == "bf16" and error < EXACT:
            raise RuntimeError("it computes in float32 here")
    except Exception as problem:  # whatever an engine raises belongs in the table, not in a traceback
        say(failed=f"{type(problem).__name__}: {problem}"[:300])
        return
    say(version=version, load_ms=loading.milliseconds, first_ms=loading.milliseconds + first, error=error)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "quit":
            break
        say(times=time_runs(run, float(arguments[0]), int(arguments[1])))
    say(peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
