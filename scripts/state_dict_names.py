"""Writes tests/fixtures/torchvision/NAME.txt: the names and shapes of torchvision's state dicts.

One line a tensor, in torchvision's order: `features.0.weight 64 3 11 11`. `num_batches_tracked` is left out, since it
is no weight. The suite compares the zoo's weights with these lists.

    pip install torch torchvision
    python scripts/state_dict_names.py
"""

import pathlib

import torch
import torchvision

MODELS = {
    "alexnet": {},
    "vgg11": {}, "vgg13": {}, "vgg16": {}, "vgg19": {},
    "vgg11_bn": {}, "vgg13_bn": {}, "vgg16_bn": {}, "vgg19_bn": {},
    "googlenet": {"init_weights": False, "aux_logits": True},
    "resnet18": {}, "resnet34": {}, "resnet50": {}, "resnet101": {}, "resnet152": {},
    "squeezenet1_1": {},
    "densenet121": {},
}


def main():
    folder = pathlib.Path(__file__).parent.parent / "tests/fixtures/torchvision"
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in MODELS.items():
        with torch.device("meta"):
            state = getattr(torchvision.models, name)(weights=None, **arguments).state_dict()
        rows = [
            " ".join([key, *map(str, tensor.shape)])
            for key, tensor in state.items()
            if not key.endswith("num_batches_tracked")
        ]
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
        print(f"{name}: {len(rows)} tensors")


if __name__ == "__main__":
    main()
