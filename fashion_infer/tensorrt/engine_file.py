"""The file beside a TensorRT engine: what it was built from and for, checked before the engine itself is touched.

An engine (a plan) is native code for one GPU family and one TensorRT version. It stays as TensorRT wrote it, so that
trtexec and Triton load it too; what they do not need to know is in `<plan>.json`.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_infer.errors import EngineMismatchError, ModelError, UsageError
from fashion_infer.model_file import ModelFile, read_model
from fashion_infer.model_spec import ModelSpec

VERSION = 2
Profile = tuple[int, int, int]  # the smallest, the best and the greatest batch that it is for
PORTABLE = "portable"  # TensorRT for RTX compiles its engines for the GPU when they are loaded


@dataclass(frozen=True)
class EngineFile:
    """What is known about an engine.

    Attributes:
        spec: of the model.
        plan_sha256: of the engine.
        onnx_sha256: of the ONNX file it was built from, before any change of precision.
        source: name of that file.
        flavour: "tensorrt" or "rtx".
        tensorrt: version that built it, and the only one that can load it.
        gpu: name of the GPU it was built on, "any" for rtx.
        compute_capability: "9.0" or "portable".
        precision: fp32, fp16, bf16 or int8.
        profiles: the ranges of batches that it has kernels for, smallest first; TensorRT chooses the kernels that are
            fastest for the best of each range.
        activation_bytes: GPU memory that one session takes for activations; 0 where TensorRT did not say. For people:
            a session asks the engine.
        products: the type of each convolution and matrix product, by ONNX node.
        version: of this layout.
    """

    spec: ModelSpec
    plan_sha256: str
    onnx_sha256: str
    source: str
    flavour: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    profiles: tuple[Profile, ...]
    activation_bytes: int
    products: dict[str, str]
    version: int = VERSION

    @property
    def rebuild_command(self) -> str:
        """The command that builds the engine again."""
        return (
            f"fashion-infer export {self.source} --engine --flavour {self.flavour} "
            f"--precision {self.precision} --batch {batch_text(self.profiles)}"
        )

    def to_json(self) -> str:
        """JSON that `from_json` reads back, for people to read too."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "EngineFile":
        """Read what `to_json` wrote.

        Raises:
            ModelError: not JSON, another version, or fields that are missing, unknown or of the wrong type.
        """
        try:
            fields = json.loads(text)
            if (version := fields.get("version")) != VERSION:
                raise ModelError(f"it has version {version!r}, this release of fashion-infer reads {VERSION}")
            fields["spec"] = ModelSpec.from_json(json.dumps(fields["spec"]))
            fields["profiles"] = check_profiles(tuple(tuple(profile) for profile in fields["profiles"]))
            result = cls(**fields)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, UsageError) as error:
            raise ModelError(f"it is not one of ours: {error!r}") from error
        _check_types(result)
        return result


def profiles_for(max_batch: int) -> tuple[Profile, ...]:
    """The profiles that suit batches of 1 to `max_batch` images.

    One for what runs while little is asked, tuned for an image alone, and one for what runs while much is, tuned for
    full batches. A single profile has one best size: 1:8:64 would run 64 on kernels that were chosen for 8.
    """
    few = min(4, max_batch)
    return ((1, 1, few),) if few == max_batch else ((1, 1, few), (few + 1, max_batch, max_batch))


def check_profiles(profiles: tuple[Any, ...]) -> tuple[Profile, ...]:
    """The same profiles, when there is one and each is a range.

    Raises:
        UsageError: one is none; the message shows how they are written.
    """
    for profile in profiles:
        numbers = len(profile) == 3 and all(type(size) is int for size in profile)
        if not (numbers and 1 <= profile[0] <= profile[1] <= profile[2]):
            text = ":".join(map(str, profile))
            raise UsageError(f"batch {text} is no range: it is smallest:best:greatest, such as 1:8:64")
    if not profiles:
        raise UsageError("an engine needs at least one range of batches, such as 1:8:64")
    return tuple(sorted(profiles))


def batch_text(profiles: tuple[Profile, ...]) -> str:
    """Profiles as the command line takes them: 1:1:4,5:32:32."""
    return ",".join(":".join(map(str, profile)) for profile in profiles)


def side_file(plan: Path) -> Path:
    """The path of the JSON beside a plan."""
    return plan.with_name(plan.name + ".json")


def read_engine(model: Path | ModelFile) -> tuple[bytes, EngineFile]:
    """Read an engine and what is known about it, and check that they belong together.

    Raises:
        EngineMismatchError: there is no such description, or the plan is not the one it describes.
    """
    file = read_model(model)
    plan = file.path
    path = side_file(plan)
    build = "build the engine again: fashion-infer export MODEL.onnx --engine"
    try:
        engine_file = EngineFile.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineMismatchError(f"{path} is missing, without it nothing is known about {plan}: {build}") from error
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise EngineMismatchError(f"{path} cannot be read, {error}: {build}") from error
    if file.sha256 != engine_file.plan_sha256:
        raise EngineMismatchError(
            f"{plan} has sha256 {file.sha256}, its description says {engine_file.plan_sha256}: it is truncated, was "
            f"changed or is another file; run {engine_file.rebuild_command}"
        )
    return plan.read_bytes(), engine_file


def check_fingerprint(
    plan: Path,
    engine_file: EngineFile,
    *,
    tensorrt: str | None = None,
    compute_capability: tuple[int, int] | None = None,
    onnx_sha256: str | None = None,
) -> None:
    """Compare what an engine was built for with what is found here; None leaves a part out.

    Raises:
        EngineMismatchError: the TensorRT version, the GPU's compute capability or the ONNX file differ.
    """
    mismatch = None
    if tensorrt is not None and tensorrt != engine_file.tensorrt:
        mismatch = f"was built by TensorRT {engine_file.tensorrt} ({engine_file.flavour}), here is {tensorrt}"
    elif compute_capability is not None and not _fits(engine_file.compute_capability, compute_capability):
        here = "{}.{}".format(*compute_capability)
        mismatch = f"was built for compute capability {engine_file.compute_capability}, this GPU has {here}"
    elif onnx_sha256 is not None and onnx_sha256 != engine_file.onnx_sha256:
        mismatch = f"was built from an ONNX file with sha256 {engine_file.onnx_sha256}, this one has {onnx_sha256}"
    if mismatch is not None:
        raise EngineMismatchError(f"{plan} {mismatch}: run {engine_file.rebuild_command}")


def _fits(built: str, found: tuple[int, int]) -> bool:
    if built == PORTABLE:
        return True
    return found == tuple(int(part) for part in built.split("."))


def _check_types(engine_file: EngineFile) -> None:
    """A JSON file is edited easily: every value must have the type of its field."""
    for field in dataclasses.fields(EngineFile):
        value = getattr(engine_file, field.name)
        if field.type in (str, int) and type(value) is not field.type:
            raise ModelError(f"it is not one of ours: {field.name} is {value!r}")
    if type(engine_file.products) is not dict:
        raise ModelError(f"it is not one of ours: products is {engine_file.products!r}")
    if engine_file.compute_capability != PORTABLE:
        major, _, minor = engine_file.compute_capability.partition(".")
        if not (major.isdigit() and minor.isdigit()):
            raise ModelError(f"it is not one of ours: compute_capability is {engine_file.compute_capability!r}")
