import inspect
import pickle
import re
from pathlib import Path
from types import ModuleType

import pytest

import fashion_infer
from fashion_infer import errors

ROOT = Path(__file__).parent.parent
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling_with_its_message(kind: type[errors.FashionInferError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a.jpg is empty")))
    assert type(error) is kind
    assert str(error) == "a.jpg is empty"
    assert isinstance(error, errors.FashionInferError)
    assert kind.__doc__


def test_exit_codes_are_those_of_the_tree() -> None:
    drawn = dict(re.findall(r"^(?:│   )?[├└]── (\w+) +(\d?)", errors.__doc__ or "", re.MULTILINE))
    assert set(drawn) == {kind.__name__ for kind in CLASSES} - {"FashionInferError"}
    for name, code in drawn.items():
        kind = getattr(errors, name)
        assert issubclass(kind, errors.FashionInferError)
        if code:
            assert kind.exit_code == int(code), name


def test_missing_extra_names_package_and_extra() -> None:
    error = errors.missing_extra("onnxruntime", "cpu", ModuleNotFoundError("No module named 'onnxruntime'"))
    assert type(error) is errors.MissingExtraError
    assert str(error).startswith('onnxruntime is not installed: pip install "fashion-infer[cpu]"')


def test_a_broken_package_is_not_reported_as_missing() -> None:
    cause = ImportError("libcudart.so.13: cannot open shared object file")
    message = str(errors.missing_extra("onnxruntime-gpu", "gpu", cause))
    assert message.startswith("onnxruntime-gpu is installed but cannot be imported: libcudart.so.13: cannot open")
    assert 'pip install "fashion-infer[gpu]"' in message


def test_all_lists_everything_that_can_be_imported() -> None:
    public = {
        name
        for name, value in vars(fashion_infer).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(fashion_infer.__all__) == public
    assert len(fashion_infer.__all__) == len(public)
    assert {kind.__name__ for kind in CLASSES} <= public


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_page(kind: type[errors.FashionInferError]) -> None:
    assert f"site_url: {errors.DOCUMENTATION}\n" in (ROOT / "mkdocs.yml").read_text()
    page = kind("a.jpg is empty").help_url.removeprefix(errors.DOCUMENTATION).rstrip("/")
    assert (ROOT / "docs" / f"{page}.md").read_text().startswith(f"# {kind.__name__}\n")
