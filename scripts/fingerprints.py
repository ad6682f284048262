#!/usr/bin/env python3
"""Whether a change of the compiler changed what it makes: one line of hashes for each network.

    scripts/fingerprints.py NETC            prints `hash  what` for all that the program NETC makes
    scripts/fingerprints.py --against COMMIT [--keep DIR]
                                            builds that commit and the tree at hand, prints what differs, exits 1 if anything does

What is hashed: for each network of the zoo and each target, the optimized graph, the plan and the
kernels as vector functions; for each network of tests/goldens the same, its machine code, and the
bits of its outputs on the golden inputs, for each vector unit that runs here, as chosen and with
--strict. A hash is of all that a command printed, its messages included.

A change that is not meant to change kernels is checked by `--against HEAD~1`; what the commit made
is remembered under target/fingerprints. Needs Python 3 and nothing else.
"""
import argparse, concurrent.futures, hashlib, json, os, pathlib, re, struct, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = ["avx512", "avx2", "fma", "baseline"]
STAGES = ["plan", "kernels"]
# Networks of one file that are several, and forms that a parameter gives.
FORMS = {
    "dcgan.net": [["--model", "generator"], ["--model", "discriminator"]],
    "resnet50.net": [[], ["--set", "v1=true"], ["--batch", "4"], ["--strict"]],
    "vgg16.net": [[], ["--set", "bn=true"]],
    "nin_cifar10.net": [[], ["--batch", "4"], ["--strict"]],
}
LINES_THAT_TELL_TIME = re.compile(rb"compiled in [0-9.]+ s|in [0-9.]+ s")


def command(netc, arguments):
    """The hash of what a command prints and of its exit code."""
    done = subprocess.run([netc, *arguments], cwd=ROOT, capture_output=True)
    text = LINES_THAT_TELL_TIME.sub(b"", done.stdout + done.stderr) + bytes([done.returncode & 0xFF])
    return hashlib.sha256(text).hexdigest()[:16]


def tensors(path):
    """The tensors of a safetensors file: name -> (shape, bytes)."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    begin = 8 + length
    return {
        name: (t["shape"], data[begin + t["data_offsets"][0] : begin + t["data_offsets"][1]])
        for name, t in header.items()
        if name != "__metadata__"
    }


def write_npy(path, shape, data):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)


def golden_bits(netc, net, target, extra):
    """The hash of a golden network's outputs, or why there are none."""
    values = tensors(net.with_suffix(".io.safetensors"))
    # A single one is called `input` or `output`, one of several `input.NAME`; so are the flags.
    flag = lambda name: "".join(f"{part}=" for part in name.split(".")[1:])
    inputs = {flag(name): t for name, t in values.items() if name.startswith("input")}
    outputs = [flag(name) for name in values if name.startswith("output")]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        arguments = ["run", str(net), "--target-features", target, "--threads", "2", *extra]
        for i, (name, (shape, data)) in enumerate(inputs.items()):
            write_npy(folder / f"in{i}.npy", shape, data)
            arguments += ["--input", f"{name}{folder / f'in{i}.npy'}"]
        for i, name in enumerate(outputs):
            arguments += ["--output", f"{name}{folder / f'out{i}.npy'}"]
        done = subprocess.run([netc, *arguments], cwd=ROOT, capture_output=True)
        if done.returncode != 0:
            return "failed: " + done.stderr.decode(errors="replace").strip().splitlines()[0].replace(str(folder), "")
        bits = b"".join((folder / f"out{i}.npy").read_bytes() for i in range(len(outputs)))
        return hashlib.sha256(bits).hexdigest()[:16]


def jobs(netc):
    """What to hash: (text, function)."""
    zoo = sorted((ROOT / "models").glob("*.net")) + [ROOT / "models/digits/digits.net"]
    for net in zoo:
        for form in FORMS.get(net.name, [[]]):
            of_graph = [a for a in form if a != "--strict"]
            arguments = ["ir", str(net.relative_to(ROOT)), "--seed", "1", "--stage", "optimized", *of_graph]
            yield " ".join(arguments), lambda a=arguments: command(netc, a)
            for target in TARGETS:
                if "--strict" in form and target == "baseline":
                    continue
                for stage in STAGES:
                    arguments = ["ir", str(net.relative_to(ROOT)), "--seed", "1", "--stage", stage, "--target-features", target, *form]
                    yield " ".join(arguments), lambda a=arguments: command(netc, a)
    for net in sorted((ROOT / "tests/goldens").glob("*.net")):
        relative = str(net.relative_to(ROOT))
        arguments = ["ir", relative, "--stage", "optimized"]
        yield " ".join(arguments), lambda a=arguments: command(netc, a)
        for target in TARGETS:
            for stage in [*STAGES, "asm"]:
                arguments = ["ir", relative, "--stage", stage, "--target-features", target]
                yield " ".join(arguments), lambda a=arguments: command(netc, a)
            for extra in [[], ["--strict"]] if target != "baseline" else [[]]:
                what = " ".join(["run", relative, "--target-features", target, *extra])
                yield what, lambda n=net, t=target, e=extra: golden_bits(netc, n, t, e)


def fingerprints(netc):
    netc = str(pathlib.Path(netc).resolve())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        started = [(what, pool.submit(work)) for what, work in jobs(netc)]
        return {what: future.result() for what, future in started}


def build(tree, target):
    subprocess.run(["cargo", "build", "--release", "--locked", "--target-dir", str(target)], cwd=tree, check=True)
    return target / "release/netc"


def of_commit(commit, keep):
    """The fingerprints of a commit, remembered."""
    commit = subprocess.run(["git", "rev-parse", commit], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    script = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:8]
    known = keep / f"{commit}-{script}.json"
    if not known.exists():
        keep.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            tree = pathlib.Path(folder) / "tree"
            subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(tree)], check=True)
            subprocess.run(["git", "checkout", "--quiet", commit], cwd=tree, check=True)
            netc = build(tree, keep / "build")
            # The commit's own compiler on the networks of the tree at hand.
            known.write_text(json.dumps(fingerprints(netc), indent=1))
    return json.loads(known.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("netc", nargs="?", help="the program to ask; without it, the release build of the tree at hand")
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--keep", type=pathlib.Path, default=ROOT / "target/fingerprints")
    arguments = parser.parse_args()
    netc = arguments.netc or build(ROOT, ROOT / "target")
    if not arguments.against:
        for what, value in fingerprints(netc).items():
            print(f"{value}  {what}")
        return
    before, after = of_commit(arguments.against, arguments.keep), fingerprints(netc)
    differing = [what for what in sorted(before.keys() | after.keys()) if before.get(what) != after.get(what)]
    for what in differing:
        print(f"{before.get(what)} -> {after.get(what)}  {what}")
    failed = sum(value.startswith("failed") for value in after.values())
    print(f"{len(after)} compared, {len(differing)} differ, {failed} cannot be run")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
