"""The figures of how_it_works.md, drawn from the arrays of a real run: `python docs/figures.py docs/figures`."""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fashion_infer import Predictor
from fashion_infer.demo.pictures import MODEL
from fashion_infer.images import Pixels, read_image
from fashion_infer.pictures import encode_jpeg
from fashion_infer.preprocess import crop
from fashion_infer.synthetic.rendering import render
from fashion_infer.web_page import COLOURS

SEED, GARMENT, SIZE = 1_000_003, 44, 640  # of the rendered picture
WINDOW = 8  # cells a side: pooled_size 4 times bin_size 2
STYLE = {"font.size": 9, "svg.fonttype": "none"}


class Pooling(NamedTuple):
    """What goes into LandmarkPool and what comes out, of one picture: see `fashion_infer.landmark_pool`."""

    features: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    gate: NDArray[np.float32]
    pooled: NDArray[np.float32]


def main(folder: Path) -> None:
    """Write garment.jpg, windows.png and gate.png."""
    garment = render(SEED, GARMENT, size=SIZE)
    (folder / "garment.jpg").write_bytes(encode_jpeg(garment.image))
    picture = read_image(str(folder / "garment.jpg"))
    with Predictor(MODEL) as predictor:
        pixels = crop(picture, None, predictor.spec.image_size).pixels
        names = [name.replace("_", " ") for name in predictor.spec.landmarks]
        pooling = run_to_pooling(predictor.path, pixels)
    with rc_context(STYLE):
        windows(pixels, pooling, names).savefig(folder / "windows.png", dpi=140)
        gates(pooling, names).savefig(folder / "gate.png", dpi=140)


def run_to_pooling(model: Path, pixels: Pixels) -> Pooling:
    """Run the model with the inputs and the output of its LandmarkPool node as outputs."""
    proto = onnx.load(model)
    (node,) = (node for node in proto.graph.node if node.op_type == "LandmarkPool")
    names = [*node.input, *node.output]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return Pooling(*(value[0] for value in session.run(names, {"images": pixels[None]})))


def windows(pixels: Pixels, pooling: Pooling, names: list[str]) -> Figure:
    """The picture and the mean of its feature maps, with the window of each landmark whose gate is open."""
    cells = pooling.features.shape[-1]
    figure = Figure(figsize=(7, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(pixels, extent=(0, cells, cells, 0))
    right.imshow(pooling.features.mean(axis=0), extent=(0, cells, cells, 0), cmap="gray")
    left.set(title=f"what the network sees, in {cells} x {cells} cells")
    right.set(title=f"the mean of its {len(pooling.features)} feature maps")
    for axes in (left, right):
        axes.set(
            xticks=range(0, cells + 1, 4), yticks=range(0, cells + 1, 4), xlim=(-3, cells + 3), ylim=(cells + 3, -3)
        )
        for number, ((x, y), gate) in enumerate(zip(pooling.landmarks, pooling.gate, strict=True)):
            if gate > 0:
                column, row = (min(int(value * cells), cells - 1) - WINDOW // 2 for value in (x, y))
                colour = f"C{number}"
                axes.add_patch(Rectangle((column, row), WINDOW, WINDOW, fill=False, edgecolor=colour, linewidth=1.5))
                axes.plot(x * cells, y * cells, "o", color=colour, label=names[number])
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def gates(pooling: Pooling, names: list[str]) -> Figure:
    """What LandmarkPool gives for each landmark, the mean over the channels, and its gate."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    means = pooling.pooled.mean(axis=1)
    for axes, name, gate, values in zip(figure.subplots(2, 4).flat, names, pooling.gate, means, strict=True):
        axes.imshow(values, vmin=0, vmax=means.max(), cmap="gray")
        axes.set(xticks=[], yticks=[])
        is_open = gate > 0
        axes.set_title(
            f"{name}\ngate {'open' if is_open else 'closed'}", color=COLOURS["good" if is_open else "second"]
        )
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
