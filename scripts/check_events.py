#!/usr/bin/env python3
"""Does TensorBoard read of a run what its table says?

    pip install tensorboard
    scripts/check_events.py FOLDER_OF_EVENTS TABLE.csv

Compares all numbers of the table with those that TensorBoard's reader has, also of runs that were stopped and resumed.
"""

import csv
import math
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def as_f32(text):
    value = float(text)
    # TensorBoard has numbers of 32 bits; what is too large for them is infinite.
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def main():
    folder, table = sys.argv[1:]
    events = EventAccumulator(folder, size_guidance={"scalars": 0})
    events.Reload()
    expected = {}
    for row in csv.DictReader(open(table, newline="")):
        for name, value in row.items():
            if name not in ("step", "epoch") and value:
                expected.setdefault(name, {})[int(row["step"])] = as_f32(value)
    found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    same = lambda a, b: a == b or (math.isnan(a) and math.isnan(b))
    assert found.keys() == expected.keys(), f"{sorted(found)} are not {sorted(expected)}"
    for tag, values in expected.items():
        assert found[tag].keys() == values.keys(), f"{tag}: {len(found[tag])} steps, the table has {len(values)}"
        wrong = [step for step, value in values.items() if not same(value, found[tag][step])]
        assert not wrong, f"{tag}: step {wrong[0]} is {found[tag][wrong[0]]}, in the table {values[wrong[0]]}"
    print(f"{len(expected)} columns, {sum(map(len, expected.values()))} numbers: the same")


if __name__ == "__main__":
    main()
