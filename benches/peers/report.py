"""Write docs/BENCHMARKS.md and docs/benchmarks.svg from docs/benchmarks.json, docs/BENCHMARKS_QUANTIZED.md from
docs/benchmarks_quantized.json.

    python report.py [FOLDER [PART...]]

With PARTs, folders of runs that measured a part each, their results become one benchmarks.json first.
Needs Python alone. Losses are shown as wins are: the same table, the same picture, the same words.
"""

import json
import math
import sys
from html import escape
from pathlib import Path

TITLES = {
    "netc_f32": "netc in f32", "netc": "netc", "ort": "ONNX Runtime", "ov": "OpenVINO",
    "ov_streams": "OpenVINO streams", "pt": "PyTorch", "ncnn": "ncnn", "mnn": "MNN",
}  # fmt: skip
COLOURS = {
    "netc": "#d1242f", "ort": "#0969da", "ov": "#1a7f37", "ov_streams": "#4ac26b", "pt": "#bc4c00", "ncnn": "#8250df",
    "mnn": "#6e7781",
}  # fmt: skip
OURS = ("netc", "netc_f32")
# Winograd in float32 stays below this by far, and sums in bfloat16 and 8 bits below theirs (`Form.error` in engines.py says
# what is measured); what exceeds it computes something else.
TOLERANCES = {"f32": 1e-3, "bf16": 0.15, "int8": 0.3}
NOISY = 0.10


def ranked(result):
    return "median_ms" in result and result["error"] <= result.get("tolerance", TOLERANCES["f32"])


def line(engine, result):
    """One result as bench_peers.py prints it while it runs."""
    if "failed" in result:
        return f"{TITLES[engine]:18} failed: {result['failed']}"
    note = "" if ranked(result) else f"   WRONG, off by {result['error']:.1e}"
    return (
        f"{TITLES[engine]:18} median {result['median_ms']:8.2f} ms  min {result['min_ms']:8.2f}  "
        f"spread {result['spread']:4.0%}  load {result.get('load_ms', math.nan):7.1f}  error {result['error']:.1e}{note}"
    )


def fastest_peer(row):
    peers = {e: r for e, r in row.items() if e not in OURS and ranked(r)}
    return min(peers, key=lambda e: peers[e]["median_ms"], default=None)


def verdict(row):
    """netc against the fastest peer, in words that are as plain for a loss."""
    best = fastest_peer(row)
    if best is None or "netc" not in row or not ranked(row["netc"]):
        return "–"
    ratio = row[best]["median_ms"] / row["netc"]["median_ms"]
    if ratio >= 1:
        return f"{ratio:.2f}× faster than {TITLES[best]}"
    return f"{1 / ratio:.2f}× slower than {TITLES[best]}"


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Notes:
    """Footnotes of one table: failures, wrong answers, noise."""

    def __init__(self):
        self.texts = []

    def mark(self, text):
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"

    def write(self):
        return [f"[{i}] {text}  " for i, text in enumerate(self.texts, 1)] + ([""] if self.texts else [])


def cell(engine, result, key, notes, best=False):
    if "failed" in result:
        return "failed" + notes.mark(f"{TITLES[engine]}: {result['failed']}")
    if not ranked(result):
        return "wrong" + notes.mark(f"{TITLES[engine]} is off from PyTorch's answer by {result['error']:.1e}")
    if result.get(key) is None:
        return "–"
    text = number(result[key])
    text = f"**{text}**" if best else text
    if key == "median_ms" and result["spread"] > NOISY:
        text += notes.mark(f"medians of the rounds lie more than {NOISY:.0%} apart")
    return text


def engines_of(rows):
    return [e for e in TITLES if any(e in row for row in rows.values())]


def table(rows, key, last_column=True):
    engines, notes = engines_of(rows), Notes()
    head = ["network", *[TITLES[e] for e in engines]] + (["netc is"] if last_column else [])
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * len(engines) + ("---|" if last_column else "")]
    for name, row in rows.items():
        usable = [e for e in engines if e in row and e != "netc_f32" and ranked(row[e])]
        least = min((row[e]["median_ms"] for e in usable), default=None)
        cells = []
        for e in engines:
            best = last_column and e in usable and row[e]["median_ms"] == least
            cells.append(cell(e, row[e], key, notes, best) if e in row else "–")
        lines.append("| " + " | ".join([name, *cells] + ([verdict(row)] if last_column else [])) + " |")
    return [*lines, "", *notes.write()]


def throughput(batches):
    """Images a second at each engine's best batch size, as rows like those of latency, with ms an image."""
    rows = {}
    for batch, measured in batches.items():
        for name, row in measured.items():
            for engine, result in row.items():
                mine = dict(result)
                for key in ("median_ms", "min_ms"):
                    if key in mine:
                        mine[key] /= int(batch)
                if ranked(mine):
                    mine |= {"images_per_s": 1000 / mine["median_ms"], "batch": batch}
                held = rows.setdefault(name, {}).get(engine)
                if held is None or (ranked(mine) and (not ranked(held) or mine["median_ms"] < held["median_ms"])):
                    rows[name][engine] = mine
    return rows


def throughput_table(rows):
    engines, notes = engines_of(rows), Notes()
    lines = [
        "| network | " + " | ".join(TITLES[e] for e in engines) + " | netc is |",
        "|---|" + "--:|" * len(engines) + "---|",
    ]
    for name, row in rows.items():
        cells = []
        for e in engines:
            text = cell(e, row[e], "images_per_s", notes) if e in row else "–"
            cells.append(f"{text} ({row[e]['batch']})" if e in row and ranked(row[e]) else text)
        lines.append("| " + " | ".join([name, *cells, verdict(row)]) + " |")
    return [*lines, "", *notes.write()]


def ratios_of(rows):
    """The fastest peer's time over netc's, by network."""
    ratios = {}
    for name, row in rows.items():
        best = fastest_peer(row)
        if best and "netc" in row and ranked(row["netc"]):
            ratios[name] = row[best]["median_ms"] / row["netc"]["median_ms"]
    return ratios


def summary(latency):
    """The count of wins and losses, first thing in the file."""
    lines = []
    for threads, rows in latency.items():
        ratios = ratios_of(rows)
        if not ratios:
            continue
        lost = [n for n, r in ratios.items() if r < 1]
        middle = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        lines.append(
            f"- {threads} thread{'s' if threads != '1' else ''}: netc is faster than the fastest peer on "
            f"{len(ratios) - len(lost)} of {len(ratios)} networks"
            + (f", slower on {', '.join(lost)}" if lost else "")
            + f"; geometric mean of the ratios {middle:.2f}."
        )
    return lines


# --- the picture -----------------------------------------------------------------------------------------------


def picture(latency):
    """A dot for each engine and network: its time over netc's, on a logarithmic axis. Left of the line: faster than netc."""
    panels = [(t, rows) for t, rows in latency.items() if any("netc" in r and ranked(r["netc"]) for r in rows.values())]
    reference = "netc"
    if not panels:  # without netc, against the fastest
        panels, reference = list(latency.items()), "the fastest"
    points = []
    for threads, rows in panels:
        panel = []
        for name, row in rows.items():
            good = {e: r["median_ms"] for e, r in row.items() if ranked(r)}
            base = good.get("netc") if reference == "netc" else min(good.values(), default=None)
            panel.append((name, {e: v / base for e, v in good.items()} if base else {}))
        points.append((threads, panel))
    values = [v for _, panel in points for _, row in panel for v in row.values()]
    low, high = min([0.8, *values]) / 1.08, max([2.0, *values]) * 1.08
    left, width, step = 180, 620, 26

    def x(value):
        return left + width * math.log(value / low) / math.log(high / low)

    body, y = [], 56
    ticks = [t for t in (0.25, 0.5, 0.75, 1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16) if low < t < high]
    engines = [e for e in TITLES if any(e in row for _, panel in points for _, row in panel)]
    for i, e in enumerate(engines):
        body.append(f'<circle cx="{left + i * 106}" cy="20" r="5" fill="{COLOURS[e]}"/>')
        body.append(f'<text x="{left + 10 + i * 106}" y="24">{TITLES[e]}</text>')
    for threads, panel in points:
        body.append(f'<text x="12" y="{y}" font-weight="bold">{threads} thread{"s" if threads != "1" else ""}</text>')
        top = y - 8
        bottom = top + step * len(panel) + 12
        for t in ticks:
            strong = ' stroke="#1f2328" stroke-width="1.5"' if t == 1 else ' stroke="#d0d7de"'
            body.append(f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{top}" y2="{bottom}"{strong}/>')
            body.append(f'<text x="{x(t):.1f}" y="{bottom + 14}" text-anchor="middle" fill="#57606a">{t:g}</text>')
        for k, (name, row) in enumerate(panel):
            cy = top + step * k + 22
            body.append(f'<text x="{left - 14}" y="{cy + 4}" text-anchor="end">{escape(name)}</text>')
            for e, value in row.items():
                title = f"<title>{escape(name)}, {TITLES[e]}: {value:.2f}</title>"
                place = f'cx="{x(value):.1f}" cy="{cy}" r="5"'
                body.append(f'<circle {place} fill="{COLOURS[e]}" fill-opacity="0.85">{title}</circle>')
        y = bottom + 44
    caption = f"Time over {reference}&#8217;s; left of 1 is faster than {reference}, right of it slower."
    body.append(f'<text x="{left}" y="{y - 6}" fill="#57606a">{caption}</text>')
    size = f'viewBox="0 0 {left + width + 30} {y + 10}" font-family="sans-serif" font-size="12"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


# --- the text --------------------------------------------------------------------------------------------------


def versions(results):
    found = {}
    for kind in ("latency", "throughput"):
        for rows in results.get(kind, {}).values():
            for row in rows.values():
                for engine, result in row.items():
                    if "version" in result:
                        found[engine] = result["version"]
    return ", ".join(f"{TITLES[e]} {found[e]}" for e in TITLES if e in found and e != "netc_f32")


def circumstances(results):
    """When, where and with what."""
    m = results["machine"]
    return [
        f"- {results['date']}; {m['cpu']} ({m['family']}), {m['cores']}, {m['caches']}; {m['units']}; {m['memory']} of memory;",
        f"  virtual machine: {m['virtual']}; {m['system']}; load average at the start {m['load']}.",
        f"- {versions(results)}.",
    ]


def write(results, folder):
    latency = results["latency"]
    text = [
        "# netc and the other engines",
        "",
        "Written by `benches/peers/bench_peers.py`; do not edit. Float32, batch 1 unless said otherwise, milliseconds.",
        "",
        *summary(latency),
        "",
        "![time of each engine over netc's](benchmarks.svg)",
        "",
    ]
    for threads, rows in latency.items():
        text += [f"## Latency, {threads} thread{'s' if threads != '1' else ''} (ms, less is better)", ""]
        text += table(rows, "median_ms")
    if latency:
        rows = next(iter(latency.values()))
        text += [
            "## Loading (ms)",
            "",
            "From files in the page cache to an engine that can run. Some do part of the work at the first run, so the",
            "second table is the time from the same start to the first answer.",
            "",
        ]
        text += table(rows, "load_ms", last_column=False)
        if any("first_ms" in r for row in rows.values() for r in row.values()):
            text += table(rows, "first_ms", last_column=False)
        text += [
            "## Memory (MB)",
            "",
            "Peak resident memory of the process; all but netc run inside Python, which takes some 30 MB, and PyTorch's",
            "process also builds the model it traces.",
            "",
        ]
        for row in rows.values():
            for result in row.values():
                if "peak_rss_bytes" in result:
                    result["mb"] = result["peak_rss_bytes"] / 1e6
        text += table(rows, "mb", last_column=False)
    if results["throughput"]:
        text += [
            "## Throughput, all CPUs (images a second, more is better)",
            "",
            "At each engine's best batch size among those tried, which stands in brackets. ncnn has no batches and runs",
            'image by image; "streams" is OpenVINO\'s own way, several requests at once.',
            "",
        ]
        text += throughput_table(throughput(results["throughput"]))
    text += [
        "## How it was measured",
        "",
        *circumstances(results),
        "- Every engine has a process of its own, pinned to as many CPUs as it has threads; all have the same weights and input.",
        f"  In each of {results['rounds']} rounds the engines run in turn, another one first each time; a figure is the median of",
        "  the rounds' medians. Bold is the fastest in its row.",
        "- Whatever trades precision for speed (float16, bfloat16) is switched off in all of them.",
        "- Every output is compared with PyTorch's in float64; off by more than "
        f"{TOLERANCES['f32']:g} of the largest value is not ranked.",
        "- Only figures of one table on one machine compare."
        + (f" The tables are from {results['parts']} runs, one after the other." if "parts" in results else ""),
        "",
    ]
    folder = Path(folder)
    (folder / "BENCHMARKS.md").write_text("\n".join(text))
    (folder / "benchmarks.svg").write_text(picture(latency))


PRECISIONS = {
    "int8": (
        "8 bits",
        [
            "`netc quantize` made the networks, of the weights that the float32 figures are of. ONNX Runtime and OpenVINO have",
            "them as `netc export` writes them, with the same whole numbers and the same grids. ncnn reads none of it: its",
            "networks have 8 bits by what its own tools do, on the same samples, weights by the same rule; nor does MNN, of which",
            "the networks are by its own quantizer. What is not quantized is float32 in all of them.",
        ],
    ),
    "bf16": (
        "bfloat16",
        [
            "The networks in float32, with leave to compute in bfloat16: netc by `--precision bf16`, OpenVINO by",
            "`INFERENCE_PRECISION_HINT`, ncnn by `use_bf16_storage`, MNN by `low_bf16`, PyTorch with the whole model cast.",
            "ONNX Runtime has no such mode on CPUs. An answer as exact as in float32 shows that an engine has none either.",
            "On Intel's cores a dot product of bfloat16 does half the work of float32's multiply-adds: there netc leaves layers",
            "in float32 that do not wait for their weights.",
        ],
    ),
}  # fmt: skip


def decibels(error):
    """Signal to noise of an answer whose noise is so large a part of it."""
    return f"{-20 * math.log10(error):.0f}" if error > 0 else "∞"


def noise_table(rows):
    engines = engines_of(rows)
    yield "| network | " + " | ".join(TITLES[e] for e in engines) + " |"
    yield "|---|" + "--:|" * len(engines)
    for name, row in rows.items():
        cells = [decibels(row[e]["error"]) if "error" in row.get(e, {}) else "–" for e in engines]
        yield "| " + " | ".join([name, *cells]) + " |"
    yield ""


def write_quantized(known, folder):
    """`known` has the results of each precision that was measured."""
    text = ["# netc and the other engines in 8 bits and bfloat16", ""]
    text += ["Written by `benches/peers/bench_peers.py --precision int8,bf16`; do not edit. Batch 1, milliseconds.", ""]
    for precision, (title, words) in PRECISIONS.items():
        if precision not in known:
            continue
        results = known[precision]
        text += [f"## {title.capitalize()}", "", *words, "", *summary(results["latency"]), ""]
        for threads, rows in results["latency"].items():
            text += [f"### {title}, {threads} thread{'s' if threads != '1' else ''} (ms, less is better)", ""]
            text += table(rows, "median_ms")
        # What is computed does not depend on the number of threads.
        rows = next(iter(results["latency"].values()))
        text += [f"### {title}, signal to noise of the answer (dB)", ""]
        text += ["Against PyTorch's answer in float64. Weights and inputs are random, which is harder than trained ones.", ""]
        text += [*noise_table(rows)]
        text += [f"### {title}, how it was measured", "", *circumstances(results)]
        text += [
            "- Every engine has a process of its own, pinned to as many CPUs as it has threads. In each of "
            f"{results['rounds']} rounds the engines",
            "  run in turn, another one first each time; a figure is the median of the rounds' medians. Bold is the fastest.",
            f"- An answer with less than {decibels(TOLERANCES[precision])} dB is not ranked.",
            "",
        ]
        for other in known.get("elsewhere", {}).get(precision, []):
            text += [f"### {title}, on another machine", "", "By netc as it was on that day.", ""]
            text += [*circumstances(other), *summary(other["latency"]), ""]
            for threads, rows in other["latency"].items():
                text += [f"{threads} thread{'s' if threads != '1' else ''} (ms, less is better):", ""]
                text += table(rows, "median_ms")
    (Path(folder) / "BENCHMARKS_QUANTIZED.md").write_text("\n".join(text))


def merge(parts):
    """One result of several that measured different tables, on the same machine one after the other."""
    whole = parts[0]
    for part in parts[1:]:
        for kind in ("latency", "throughput"):
            for key, rows in part[kind].items():
                whole[kind].setdefault(key, {}).update(rows)
    rounds = sorted({part["rounds"] for part in parts})
    whole["rounds"] = rounds[0] if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
    whole["parts"] = len(parts)
    for kind in ("latency", "throughput"):
        whole[kind] = dict(sorted(whole[kind].items(), key=lambda item: int(item[0])))
    return whole


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "docs"
    if len(sys.argv) > 2:
        parts = [json.loads((Path(part) / "benchmarks.json").read_text()) for part in sys.argv[2:]]
        (folder / "benchmarks.json").write_text(json.dumps(merge(parts), indent=1) + "\n")
    if (folder / "benchmarks.json").exists():
        write(json.loads((folder / "benchmarks.json").read_text()), folder)
    if (folder / "benchmarks_quantized.json").exists():
        write_quantized(json.loads((folder / "benchmarks_quantized.json").read_text()), folder)


if __name__ == "__main__":
    main()
