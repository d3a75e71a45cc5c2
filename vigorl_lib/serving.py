"""`transformers serve` for a model folder of this kit: `python -m vigorl_lib.serving FOLDER --dtype float32`.

All arguments go on to `transformers serve`. Its `AutoProcessor` needs torchvision for the Qwen VL families; where that
is absent, the image-only classes of `processors` take the place of the stock ones first. One request is answered at a
time: for trying things out, not for speed. The packages come with the extra `serve`.
"""

from __future__ import annotations

import importlib
import sys

from transformers.utils import is_torchvision_available

from vigorl_lib.processors import BASES, processor_class


def register_processors() -> None:
    """Let `AutoProcessor` find the image-only processors under the stock names."""
    for family, stock in BASES.items():
        setattr(importlib.import_module(stock.__module__), stock.__name__, processor_class(family))


def main() -> None:
    """Serve until interrupted."""
    if not is_torchvision_available():
        register_processors()
    cli = importlib.import_module("transformers.cli.transformers")
    sys.argv[0:1] = ["transformers", "serve"]
    cli.app()


if __name__ == "__main__":
    main()
