"""The embedding of the built-in model, fitted on the features of the trained network; a part of `pretrained.py`.

Every training photo is an instance, including shoes, hats and crops of worn garments: once whole, as in galleries, once
as a changed view and once as a changed thumbnail. The head is fitted on the features that both the fp32 file and its
8-bit version compute for these pictures, so that both share one embedding space. Otherwise the features would differ
too much in 8 bits.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.export.qdq import calibrate, layers_of, to_int8
from fashion_infer.files import write_atomically
from fashion_infer.images import Pixels, read_image
from fashion_infer.model_spec import INPUT_NAME, ModelSpec
from fashion_infer.preprocess import crop, resize
from fashion_infer.training.checkpoint import save_checkpoint, take_over
from fashion_infer.training.embedding import EmbeddingConfig, fit_embedding
from fashion_infer.training.model import FashionNet, StandardisedLinear

CHANGED_SIDE = 320  # least side at which a photo is decoded before it is changed, pixels
CALIBRATION, BATCH = 96, 16
CONFIG = EmbeddingConfig(steps=600, learning_rate=2e-3, dropout=0.3, label_weight=0.3)  # chosen on val
LABELS = (("category",), ("category", "texture", "sleeve"))  # photos that agree in these belong together
FEATURES = "embedding_features"  # name of the graph output that is added for the head's input
console = Console(stderr=True)
Change = Callable[[Pixels, np.random.Generator], Pixels]
Floats = NDArray[np.float32]


def with_stages(network: FashionNet, spec: ModelSpec) -> FashionNet:
    """Copy a network and replace its embedding by an unfitted one that reads the backbone's stages."""
    torch.manual_seed(0)
    other = FashionNet(dataclasses.replace(network.arch, embedding="stages"))
    take_over(other, spec, network, spec)
    return other.eval()


def fit(network: FashionNet, data: FashionData, views: Sequence[Floats], config: EmbeddingConfig = CONFIG) -> None:
    """Fit the embedding of a network from `with_stages`; the views are results of `features_of`."""
    assert isinstance(network.embedding, StandardisedLinear)
    fit_embedding(network.embedding, torch.from_numpy(np.stack(views)), belonging(data), config)


@torch.inference_mode()
def embed(network: FashionNet, features: Floats) -> Floats:
    """Compute embeddings, [N, D] of unit length, from results of `features_of`."""
    vectors: Floats = torch.nn.functional.normalize(network.embedding(torch.from_numpy(features)), dim=1).numpy()
    return vectors


def found_again(changed: Floats, gallery: Floats) -> NDArray[np.bool_]:
    """Return bool [N]: whether row i of the gallery, [G, D], is the nearest to the changed view i, [N, D]."""
    return np.asarray((changed @ gallery.T).argmax(1) == np.arange(len(changed)))


def both_precisions(network: FashionNet, spec: ModelSpec, data: FashionData, folder: Path) -> tuple[Path, Path]:
    """Return the network as an fp32 file and as a file with all layers in 8 bits; existing files are kept."""
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    if int8.exists():
        return fp32, int8
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "network.safetensors", network, spec)
    export_onnx(folder / "network.safetensors", fp32)
    calibration = data.select(np.linspace(0, len(data) - 1, CALIBRATION).astype(int))
    pictures = np.concatenate(list(pictures_of(calibration, spec.image_size, None)))
    model, ranges = calibrate(fp32, pictures)
    quantized = to_int8(model, ranges, layers_of(model.graph), "cpu")
    write_atomically(int8, lambda temporary: onnx.save_model(quantized, temporary))
    return fp32, int8


def features_of(file: Path, data: FashionData, size: int, change: Change | None, kept: Path) -> Floats:
    """Compute the inputs of a file's embedding head for each photo of a set, [N, F], and keep them in an .npy file."""
    if kept.exists():
        features: Floats = np.load(kept)
        return features
    model = onnx.load(file)
    name = next(node.input[0] for node in model.graph.node if "model.embedding.mean" in node.input)
    model.graph.node.append(onnx.helper.make_node("Identity", [name], [FEATURES]))
    model.graph.output.append(onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batches = track(
        pictures_of(data, size, change), file.stem, total=-(-len(data) // BATCH), console=console, update_period=5
    )
    features = np.concatenate([session.run([FEATURES], {INPUT_NAME: batch})[0] for batch in batches])
    write_atomically(kept, lambda temporary: save(temporary, features))
    return features


def save(path: Path, array: Floats) -> None:
    """Write an .npy file under exactly this name; numpy would add the suffix to a name without it."""
    with path.open("wb") as file:
        np.save(file, array)


def pictures_of(data: FashionData, size: int, change: Change | None) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of whole photos, uint8 [B, S, S, 3]; the random change depends on the row only."""
    for start in range(0, len(data), BATCH):
        pictures = []
        for row in range(start, min(start + BATCH, len(data))):
            path = data.image_root / data.images[row]
            if change is None:
                pictures.append(crop(read_image(path, side=size), None, size).pixels)
            else:
                photo = read_image(path, side=CHANGED_SIDE).pixels
                pictures.append(resize(change(photo, np.random.default_rng([2, row])), size))
        yield np.stack(pictures)


def belonging(data: FashionData) -> NDArray[np.int64]:
    """Number the photos that agree in each of `LABELS`: int64 [L, N], -1 for photos without a category."""
    columns = {
        group: data.attributes[:, [g == group for g in data.attribute_groups]] > 0
        for group in dict.fromkeys(data.attribute_groups)
    }
    columns["category"] = data.categories[:, None]
    rows = []
    for names in LABELS:
        chosen = np.concatenate([columns[name].astype(np.int64) for name in names], 1)
        numbers = np.unique(chosen, axis=0, return_inverse=True)[1].reshape(-1)
        rows.append(np.where(data.categories >= 0, numbers, -1))
    return np.stack(rows)
