"""One engine with one network in one process, so that no engine's threads or allocator disturb another's.

    python engines.py ENGINE MODELS NAME THREADS BATCH

bench_peers.py starts this and talks to it in lines of JSON: a first line when the network is loaded, then for each
`run SECONDS COUNT` on stdin a line with the times of at least COUNT runs over SECONDS, and at `quit` a last line. All engines
compute in float32: whatever would trade precision for speed is switched off, as netc does not do it either.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

# Each loader takes the folder of models, the network's name, the number of threads and an input, and returns (a function that
# runs once and returns its output, version). Imports are inside, so that a missing package costs one engine only.


def ort(models, name, threads, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_free_dimension_override_by_name("N", len(x))
    with loading():
        session = onnxruntime.InferenceSession(models / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": x})[0], onnxruntime.__version__


def ov(models, name, threads, x):
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
    }
    with loading():
        model = core.read_model(models / f"{name}.onnx")
        model.reshape(list(x.shape))
        request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run():
        request.infer([x])
        return request.get_output_tensor(0).data

    return run, openvino.__version__.split("-")[0]


def ov_streams(models, name, threads, x):
    """OpenVINO as it is meant for throughput: images one by one over parallel streams, eight to a run."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    with loading():
        model = core.read_model(models / f"{name}.onnx")
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


def pt(models, name, threads, x):
    import torch
    from export_models import build

    torch.set_num_threads(threads)
    image = torch.from_numpy(x)
    model, _ = build(name)
    with loading(), torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(model, image))
        traced = torch.jit.optimize_for_inference(traced)

    def run():
        with torch.inference_mode():
            return traced(image).numpy()

    return run, torch.__version__.split("+")[0]


def ncnn(models, name, threads, x):
    """ncnn has no batch dimension: a batch is run image by image."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_arithmetic", "use_fp16_storage", "use_fp16_packed", "use_bf16_storage"):
        setattr(net.opt, option, False)
    with loading():
        if net.load_param(str(models / f"{name}.ncnn.param")) or net.load_model(str(models / f"{name}.ncnn.bin")):
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


def mnn(models, name, threads, x):
    import MNN
    import MNN.expr
    import MNN.nn

    with loading():
        manager = MNN.nn.create_runtime_manager(({"backend": 0, "numThread": threads, "precision": "high"},))
        net = MNN.nn.load_module_from_file(str(models / f"{name}.mnn"), ["image"], ["answer"], runtime_manager=manager)
    image = MNN.expr.const(x, list(x.shape), MNN.expr.NCHW)

    def run():
        answer = net.forward([image])
        answer = answer[0] if isinstance(answer, list | tuple) else answer
        return MNN.expr.convert(answer, MNN.expr.NCHW).read()

    return run, MNN.version()


ENGINES = {"ort": ort, "ov": ov, "ov_streams": ov_streams, "pt": pt, "ncnn": ncnn, "mnn": mnn}


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


def relative_error(answer, expected):
    """Largest difference over largest expected value; the batch repeats one image, so the answers must too."""
    answer = np.asarray(answer, dtype=np.float64).reshape(-1, expected.size)
    return float(np.abs(answer - expected.reshape(1, -1)).max() / np.abs(expected).max())


def main():
    engine, models, name, threads, batch = sys.argv[1:]
    models, threads, batch = Path(models), int(threads), int(batch)
    # Engines print to stdout as they please; the protocol keeps the real one for itself.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**fields):
        print(json.dumps(fields), file=channel, flush=True)

    x = np.repeat(np.load(models / f"{name}.x.npy"), batch, axis=0)
    expected = np.load(models / f"{name}.y.npy")
    try:
        run, version = ENGINES[engine](models, name, threads, x)
        start = time.perf_counter()
        answer = run()
        first = (time.perf_counter() - start) * 1e3
        for _ in range(2):
            run()
        error = relative_error(answer, expected)
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
