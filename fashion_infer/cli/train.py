"""The command `fashion-infer train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fashion_infer.cli.shared import Highres, errors, out, refuse_options

if TYPE_CHECKING:
    from fashion_infer.training.own_categories import OwnConfig
    from fashion_infer.training.own_report import Accuracy, OwnReport

OF_BOTH = ("data", "output", "highres", "seed")
OF_OWN = ("start", "test", "others", "add", "unfreeze")  # options that need --from


def train(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(
            help="DeepFashion's Category and Attribute benchmark, or DeepFashion2; with --from class folders, too."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the run; with --from the .safetensors file to write.")
    ],
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Model that learns the classes of --data: a built-in name, an fp32 .onnx file or a checkpoint.",
        ),
    ] = None,
    test: Annotated[Path | None, typer.Option(help="With --from: class folders to test on as well.")] = None,
    others: Annotated[
        Path | None, typer.Option("--none", help="With --from: folder of photos that show none of the classes.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="With --from: keep the model's categories and add the new ones.")
    ] = False,
    unfreeze: Annotated[
        bool,
        typer.Option(
            "--unfreeze", help="With --from: also train later layers; kept only if cross-validation improves."
        ),
    ] = False,
    arch: Annotated[
        str, typer.Option(help="vgg16 for the paper's network, or a timm backbone.")
    ] = "tf_efficientnet_lite0",
    pairs: Annotated[
        Path | None, typer.Option(help="A retrieval benchmark, or photos with a retrieval.csv, for the triplet loss.")
    ] = None,
    highres: Highres = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of the backbone; random by default.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of the network's input, a multiple of 32.")] = 224,
    width: Annotated[float, typer.Option(help="Relative width of the heads and of vgg16; 1 is the paper's.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images in each step.")] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 5e-4,
    rounds: Annotated[int, typer.Option(help="Repetitions of the paper's two stages; 0 trains jointly.")] = 2,
    pooling: Annotated[
        str, typer.Option(help="Where local features are pooled: landmarks, grid or none.")
    ] = "landmarks",
    gate: Annotated[bool, typer.Option(help="Whether features at invisible landmarks are suppressed.")] = True,
    pooled_size: Annotated[int, typer.Option(help="Output size of LandmarkPool, values on a side.")] = 4,
    bin_size: Annotated[int, typer.Option(help="Cells on a side that LandmarkPool reduces to one value.")] = 2,
    losses: Annotated[
        str, typer.Option(help="Losses to train with, separated by commas.")
    ] = "landmarks,visibility,category,attributes,triplet",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or on CUDA fp16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that decode images.")] = 1,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
) -> None:
    """Train a FashionNet with the paper's losses and two stages, pooling at predicted landmarks.

    Ctrl-C saves the state and stops with exit code 130; --resume continues on the same loss curve.

    With --from, a trained model learns the classes of a folder of class folders, in minutes on a CPU; see
    docs/own_categories.md. Of the other options only --highres and --seed can be used with it.

    Examples:

        fashion-infer train --data data/category_attribute --pairs data/in_shop -o run --epochs 5 --image-size 128

        fashion-infer train --data data/category_attribute -o run --arch vgg16 --precision bf16 --device cuda

        fashion-infer train --from fashionnet-lite --data own/ -o own.safetensors
    """
    if start is not None:
        refuse_options(context, context.params.keys() - {*OF_BOTH, *OF_OWN}, "cannot be used with --from")
        from fashion_infer.training.own_categories import OwnConfig

        try:
            _train_own(start, OwnConfig(data, test, others, add, unfreeze, highres, seed), output)
        except KeyboardInterrupt as stop:
            errors.print("stopped: the same command goes on, what the network saw in the photos so far is kept")
            raise typer.Exit(130) from stop
        return
    refuse_options(context, OF_OWN, "cannot be used without --from MODEL")
    from fashion_infer.training.config import TrainConfig
    from fashion_infer.training.trainer import train_folder

    config = TrainConfig(
        backbone=arch,
        image_size=image_size,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        rounds=rounds,
        pooling=pooling,
        gate=gate,
        pooled_size=pooled_size,
        bin_size=bin_size,
        losses=tuple(losses.split(",")),
        precision=precision,
        device=device,
        workers=workers,
        seed=seed,
    )
    try:
        checkpoint = train_folder(
            config, data, output, pairs=pairs, highres=highres, backbone_weights=weights, resume=resume
        )
    except KeyboardInterrupt as stop:
        errors.print(str(stop) or "stopped at once: --resume goes on from the last saved state")
        raise typer.Exit(130) from stop
    out.print(f"{checkpoint}: fashion-infer export {checkpoint} -o fashionnet.onnx", soft_wrap=True)


def _train_own(model: str, config: "OwnConfig", output: Path) -> None:
    """Teach a model the user's own categories, and print how well it learnt them."""
    from fashion_infer.export.from_onnx import load_model
    from fashion_infer.training.own_categories import train_own
    from fashion_infer.training.own_report import report_place, sheet_place

    network, spec = load_model(model)
    report = train_own(network, spec, config, output)
    _print_own(report)
    out.print(f"the {len(report.doubtful)} most doubtful photos, often wrong labels: {sheet_place(output)}")
    out.print(f"everything that was measured: {report_place(output)}")
    if not report.same_embedding:
        out.print("the embedding has changed: galleries of the model before do not fit")
    out.print(f"{output}: fashion-infer export {output} -o {output.with_suffix('.onnx')}")


def _print_own(report: "OwnReport") -> None:
    table = Table("class", "photos", "right", "else called", title="by cross-validation", title_justify="left")
    for name, calls in report.confusion.items():
        count = sum(calls.values())
        wrong = [f"{other} {number}" for other, number in calls.items() if other != name]
        table.add_row(name, str(count), f"{calls.get(name, 0) / count:.1%}", ", ".join(wrong[:3]))
    out.print(table)
    out.print(f"accuracy {_words(report.accuracy)}")
    if report.test is not None:
        out.print(f"accuracy on the test folder {_words(report.test)}")
    if report.attributes is not None:
        out.print(f"attributes: recall among the best three of all {report.attributes:.1%}")
    if (unfrozen := report.unfrozen) is not None:
        kept = "kept" if unfrozen.kept else "not kept"
        out.print(f"with later layers trained {unfrozen.after:.1%}, without {unfrozen.before:.1%}: {kept}")
    none = report.none
    refused = f"{none.scenes_refused:.0%} of empty scenes"
    if none.others_refused is not None:
        refused += f", {none.others_refused:.0%} of the photos of other things"
    if none.left_out_refused:
        mean = sum(none.left_out_refused.values()) / len(none.left_out_refused)
        refused += f", {mean:.0%} of the photos of a class that was left out"
    out.print(f"none of these: {none.passed:.0%} of the classes' photos pass; refused are {refused}")
    out.print(f"{report.seconds:.0f} seconds")


def _words(accuracy: "Accuracy") -> str:
    interval = f"95 % interval {accuracy.low:.1%} to {accuracy.high:.1%}"
    return f"{accuracy.share:.1%} ({interval}) of {accuracy.photos} photos"
