"""The command `fashion-infer train`."""

from pathlib import Path
from typing import Annotated

import typer

from fashion_infer.cli.shared import Highres, errors, out


def train(
    data: Annotated[Path, typer.Option(help="DeepFashion's Category and Attribute benchmark, or DeepFashion2.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    arch: Annotated[
        str, typer.Option(help="vgg16 for the paper's network, or a timm backbone.")
    ] = "tf_efficientnet_lite0",
    pairs: Annotated[
        Path | None, typer.Option(help="A retrieval benchmark, or photos with a retrieval.csv, for the triplet loss.")
    ] = None,
    highres: Highres = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of the backbone; random by default.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of the network's input, a multiple of 32.")] = 224,
    width: Annotated[float, typer.Option(help="Of the heads and of vgg16, 1 is the paper's.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 5e-4,
    rounds: Annotated[int, typer.Option(help="Turns of the paper's two stages; 0 trains jointly.")] = 2,
    pooling: Annotated[str, typer.Option(help="At the predicted landmarks, at a fixed grid, or none.")] = "landmarks",
    gate: Annotated[bool, typer.Option(help="Whether invisible landmarks are gated.")] = True,
    pooled_size: Annotated[int, typer.Option(help="Of LandmarkPool, outputs a side.")] = 4,
    bin_size: Annotated[int, typer.Option(help="Of LandmarkPool, cells a side of each output.")] = 2,
    losses: Annotated[
        str, typer.Option(help="Those to train, with commas.")
    ] = "landmarks,visibility,category,attributes,triplet",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or on CUDA fp16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that decode images.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train a FashionNet: the paper's losses and its two stages, pooling at predicted landmarks.

    Ctrl-C saves and stops with exit code 130; --resume goes on to the same loss curve.

    Examples:

        fashion-infer train --data data/category_attribute --pairs data/in_shop -o run --epochs 5 --image-size 128

        fashion-infer train --data data/category_attribute -o run --arch vgg16 --precision bf16 --device cuda
    """
    from fashion_infer.training.trainer import TrainConfig, train_folder

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
