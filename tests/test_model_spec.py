import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_infer.errors import ModelError
from fashion_infer.model_spec import LANDMARK_NAMES, OUTPUT_NAMES, SPEC_VERSION, ModelSpec

SPEC = ModelSpec(
    arch="vgg16",
    image_size=224,
    categories=("Tee", "Skirt", "Dress"),
    attributes=("floral", "denim"),
    attribute_groups=("texture", "fabric"),
    embedding_dim=256,
    trained=True,
    weights_sha256="ab" * 32,
)


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(SPEC.to_json()) | fields)


def test_json_round_trip_is_one_line() -> None:
    text = SPEC.to_json()
    assert "\n" not in text
    assert ModelSpec.from_json(text) == SPEC
    assert json.loads(text)["landmarks"] == list(LANDMARK_NAMES)


names = st.lists(st.text(), max_size=5).map(tuple)


@given(st.text(), names.filter(lambda some: 0 < len(some) == len(set(some))), names, st.floats(0, 1), st.booleans())
def test_any_words_and_numbers_round_trip(
    arch: str, categories: tuple[str, ...], attributes: tuple[str, ...], threshold: float, trained: bool
) -> None:
    spec = dataclasses.replace(
        SPEC,
        arch=arch,
        categories=categories,
        attributes=attributes,
        attribute_groups=attributes[::-1],
        threshold=threshold,
        trained=trained,
    )
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=256, max_size=256), st.floats(-99, 99))
def test_the_garment_score_round_trips(weights: list[float], bias: float) -> None:
    spec = dataclasses.replace(SPEC, garment_weights=tuple(weights), garment_bias=bias)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_whole_number_will_do_for_a_float() -> None:
    assert ModelSpec.from_json(changed(threshold=1, temperature=2)).temperature == 2


def test_fields_with_defaults_may_be_absent() -> None:
    fields = json.loads(SPEC.to_json())
    for name in ("threshold", "temperature", "landmarks", "garment_weights", "garment_bias"):
        del fields[name]
    assert ModelSpec.from_json(json.dumps(fields)) == SPEC


def test_output_shapes() -> None:
    shapes = SPEC.output_shapes()
    assert tuple(shapes) == OUTPUT_NAMES
    assert shapes == {
        "category": (3,),
        "attributes": (2,),
        "landmarks": (8, 2),
        "visibility": (8, 3),
        "embedding": (256,),
    }


@pytest.mark.parametrize("text", ["", "{", "spec", "[" * 100_000], ids=["empty", "open", "word", "deep"])
def test_what_is_not_json_is_said_to_be_so(text: str) -> None:
    with pytest.raises(ModelError, match="the ModelSpec is not JSON"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("text", [changed(version=v) for v in (0, 2, None, "1", [1])] + ["[]", "null", "3", "{}"])
def test_another_version_says_which_one_this_release_reads(text: str) -> None:
    with pytest.raises(ModelError, match=f"has version .*, this release of fashion-infer reads {SPEC_VERSION}: export"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    "name", ["arch", "image_size", "categories", "attributes", "attribute_groups", "trained", "weights_sha256"]
)
def test_a_missing_field_is_named(name: str) -> None:
    fields = json.loads(SPEC.to_json())
    del fields[name]
    with pytest.raises(ModelError, match=f"not one of ours: .*{name}"):
        ModelSpec.from_json(json.dumps(fields))


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ModelError, match="unexpected keyword argument 'colour'"):
        ModelSpec.from_json(changed(colour="red"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arch", 3),
        ("image_size", "224"),
        ("image_size", 224.0),
        ("image_size", True),
        ("categories", "Tee"),
        ("categories", [1, 2]),
        ("categories", [["Tee"]]),
        ("attribute_groups", ["texture", None]),
        ("embedding_dim", None),
        ("trained", 1),
        ("trained", "yes"),
        ("weights_sha256", None),
        ("threshold", "0.5"),
        ("threshold", True),
        ("temperature", []),
        ("landmarks", {"left_collar": 0}),
        ("garment_weights", 1.0),
        ("garment_weights", ["0.5"] * 256),
        ("garment_weights", [True] * 256),
        ("garment_bias", None),
        ("version", True),
        ("version", 1.0),
    ],
)
def test_a_field_of_the_wrong_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"not one of ours: {name} is "):
        ModelSpec.from_json(changed(**{name: value}))


def test_every_attribute_needs_its_group() -> None:
    with pytest.raises(ModelError, match="names 2 attributes but 1 groups"):
        dataclasses.replace(SPEC, attribute_groups=("texture",))
    with pytest.raises(ModelError, match="names 2 attributes but 3 groups"):
        ModelSpec.from_json(changed(attribute_groups=["a", "b", "c"]))


def test_the_embedding_needs_a_garment_weight_for_each_number() -> None:
    with pytest.raises(ModelError, match="has 3 garment weights, its embedding has 256"):
        dataclasses.replace(SPEC, garment_weights=(1.0, 2.0, 3.0))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_garment_weights_are_finite(number: str) -> None:
    for text in (changed(garment_bias=float(number)), changed(garment_weights=[0.0] * 255 + [float(number)])):
        with pytest.raises(ModelError, match="must be finite"):
            ModelSpec.from_json(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"categories": []}, "at least one category"),
        ({"categories": ["Tee", "Dress", "Tee"]}, "none of them twice"),
        ({"image_size": 0}, "image_size 0"),
        ({"image_size": -1}, "image_size -1"),
        ({"embedding_dim": 0}, "embedding_dim 0"),
        ({"threshold": float("nan")}, r"threshold must lie in \[0, 1\], got nan"),
        ({"threshold": -0.1}, "threshold must lie"),
        ({"threshold": 1.1}, "threshold must lie"),
        ({"temperature": 0}, "temperature must be a finite number above 0, got 0"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": float("inf")}, "temperature must be"),
    ],
)
def test_numbers_and_names_that_no_model_can_have(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelSpec.from_json(changed(**fields))
