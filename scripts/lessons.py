#!/usr/bin/env python3
"""Repeat the experiments of docs/LESSONS.md: train small networks on Fashion-MNIST in pairs that differ in one thing.

    apt-get install dataset-fashion-mnist          # Debian; or --data, a folder with the four idx files
    cargo build --release
    python3 scripts/lessons.py                     # all of them, about half an hour on two cores
    python3 scripts/lessons.py depth heads         # some

Needs nothing but Python. Writes the tables into docs/LESSONS.md, between `<!-- NAME -->` and `<!-- end of NAME -->`, and
the curves to docs/lessons/NAME.svg. What was trained stays under target/lessons; what is there is not trained again.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TEXTS = HERE / "examples" / "lessons"
DOCUMENT = HERE / "docs" / "LESSONS.md"
PICTURES = HERE / "docs" / "lessons"
DEBIAN = "/usr/share/datasets/fashion-mnist"

# Of each lesson: how many samples, of which column the curves are, and the runs: a name, the block of the text.
LESSONS = {
    "depth": (10_000, "loss", ["plain20", "plain56", "residual20", "residual56"], [1]),
    "heads": (10_000, "loss", ["without_heads", "with_heads"], [1, 2, 3]),
    "regularization": (5_000, "validation accuracy", ["bare", "dropping", "bare_augmented", "dropping_augmented"], [1]),
    "kernels": (10_000, "validation accuracy", ["one_5x5", "two_3x3"], [1, 2, 3]),
    "pooling": (10_000, "validation accuracy", ["linear_layers", "global_average"], [1, 2, 3]),
}


class Netc:
    """The program, and where it puts what it makes."""

    def __init__(self, options):
        self.program, self.data, self.threads = options.netc, options.data, options.threads
        self.folder = options.folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments):
        command = [str(self.program), *map(str, arguments)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if ran.returncode != 0:
            sys.exit(f"this failed: {' '.join(command)}")
        return ran.stdout

    def place(self, block, seed):
        return self.folder / f"{block}-{seed}"

    def train(self, text, block, seed, samples):
        """Trains a block, unless that is done already, and gives what its last epoch said, with the seconds it took."""
        place = self.place(block, seed)
        said = place.with_suffix(".json")
        if said.exists():
            return json.loads(said.read_text())
        begin = time.monotonic()
        said_of_epochs = self.run(
            "train", TEXTS / f"{text}.net", block, "--data", self.data, "--validate", self.data, "--samples", samples,
            "--seed", seed, "--keep", "last", "--overwrite", "--json", "--quiet", "--threads", self.threads,
            "--folder", place.with_suffix(".training"), "--output", place.with_suffix(".safetensors"),
        )
        epochs = [json.loads(line) for line in said_of_epochs.splitlines()]
        last = [epoch for epoch in epochs if epoch.get("validation")][-1]
        last["seconds"] = round(time.monotonic() - begin)
        said.write_text(json.dumps(last))
        return last

    def size(self, text, model):
        """Parameters and MACs of a model at inference."""
        stats = json.loads(self.run("stats", TEXTS / f"{text}.net", "--model", model, "--json"))
        return stats["params"], stats["macs"]

    def top1(self, text, model, *more):
        said = self.run("eval", TEXTS / f"{text}.net", "--model", model, "--data", self.data, "--json", "--quiet", *more)
        return json.loads(said)["top1"]

    def draw(self, name, column, runs):
        PICTURES.mkdir(exist_ok=True)
        named = [f"{block.replace('_', ' ')}={self.place(block, seed).with_suffix('.training')}" for block, seed in runs]
        subprocess.run([str(self.program), "curves", *named, "--column", column, "-o", PICTURES / f"{name}.svg", "--quiet"], check=True)


def model_of(block):
    return block.removesuffix("_augmented")


def table(netc, name):
    samples, column, blocks, seeds = LESSONS[name]
    rows = ["| network | parameters | MACs | loss of training | right in training | right in the test | seconds |", "|---|--:|--:|--:|--:|--:|--:|"]
    for block in blocks:
        parameters, macs = netc.size(name, model_of(block))
        ends = [netc.train(name, block, seed, samples) for seed in seeds]
        print(f"{name}: {block} {[end['validation']['accuracy'] for end in ends]}", file=sys.stderr)
        mean = lambda value: sum(map(value, ends)) / len(ends)
        tested = [100 * end["validation"]["metrics"]["accuracy"] for end in ends]
        spread = f" ({min(tested):.1f} to {max(tested):.1f})" if len(ends) > 1 else ""
        rows.append(
            f"| {block.replace('_', ' ')} | {parameters:,} | {macs:,} | {mean(lambda e: sum(e['losses'].values())):.4f} "
            f"| {mean(lambda e: 100 * e['metrics']['accuracy']):.2f} % | {sum(tested) / len(tested):.2f} %{spread} | {mean(lambda e: e['seconds']):.0f} |"
        )
    netc.draw(name, column, [(block, seeds[0]) for block in blocks])
    return rows


def ensembles(netc):
    """One network, ten crops, and three networks: all of the lesson of kernels."""
    samples, _, _, seeds = LESSONS["kernels"]
    for seed in seeds:
        netc.train("kernels", "two_3x3", seed, samples)
    weights = [netc.place("two_3x3", seed).with_suffix(".safetensors") for seed in seeds]
    alone = [100 * netc.top1("kernels", "two_3x3", "--weights", file) for file in weights]
    rows = ["| what answers | right in the test |", "|---|--:|"]
    rows.append(f"| one network, mean of three | {sum(alone) / 3:.2f} % ({min(alone):.2f} to {max(alone):.2f}) |")
    crops = [100 * netc.top1("kernels", "two_3x3", "--weights", file, "--crops", 10, "--resize", 30) for file in weights]
    rows.append(f"| one network, ten crops each, mean of three | {sum(crops) / 3:.2f} % ({min(crops):.2f} to {max(crops):.2f}) |")
    together = 100 * netc.top1("kernels", "two_3x3", "--ensemble", *weights)
    rows.append(f"| three networks | {together:.2f} % |")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", choices=[*LESSONS, "ensembles", []], help="which; all without this")
    parser.add_argument("--netc", type=Path, default=HERE / "target" / "release" / "netc")
    parser.add_argument("--data", type=Path, default=Path(DEBIAN), help="a folder with the idx files of Fashion-MNIST")
    parser.add_argument("--folder", type=Path, default=HERE / "target" / "lessons", help="for weights and logs")
    parser.add_argument("--threads", default=0, help="of a run; 0 is one for each CPU")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"{options.data} is not there: install Debian's dataset-fashion-mnist, or give --data")
    netc = Netc(options)
    for name in options.lessons or [*LESSONS, "ensembles"]:
        rows = ensembles(netc) if name == "ensembles" else table(netc, name)
        print("\n".join(rows))
        if DOCUMENT.exists():
            text = DOCUMENT.read_text()
            begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
            text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: begin + "\n".join(rows) + "\n" + end, text, flags=re.S)
            DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
