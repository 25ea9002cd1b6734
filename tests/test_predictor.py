import asyncio
import dataclasses
import gc
import io
import logging
import math
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fashion_infer import (
    DeadlineExceededError,
    DeviceError,
    ImageError,
    ModelError,
    ModelNotFoundError,
    ModelSpec,
    Prediction,
    Predictor,
    PredictorClosedError,
    QueueFullError,
    UsageError,
)
from fashion_infer.backends.onnxruntime import Layout, OnnxRuntimeBackend, choose_layout
from fashion_infer.files import sha256_of
from fashion_infer.images import read_image
from fashion_infer.preprocess import crop

SOON = 60.0  # seconds that any step of these tests may take, even on a slow machine


def photo(seed: int, width: int = 90, height: int = 120) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(seed: int, width: int = 90, height: int = 120) -> bytes:
    return bytes(cv2.imencode(".jpg", photo(seed, width, height))[1])


@pytest.fixture(scope="module")
def predictor(onnx_model: Path) -> Iterator[Predictor]:
    with Predictor(onnx_model, sessions=2, threads=1, max_batch=4) as predictor:
        yield predictor


def same(a: Prediction, b: Prediction) -> bool:
    """Whether two predictions are equal except for their last digits, which depend on the batch size."""
    scores = np.allclose(a.attribute_scores, b.attribute_scores, atol=1e-5)
    embeddings = np.allclose(a.embedding, b.embedding, atol=1e-5)
    points = np.allclose([p[1:3] for p in a.landmarks], [p[1:3] for p in b.landmarks], atol=1e-2)
    return scores and embeddings and points and (a.box, a.width, a.height) == (b.box, b.width, b.height)


# ---- the results


def test_a_prediction_holds_the_networks_outputs_for_the_whole_image(predictor: Predictor, onnx_model: Path) -> None:
    data = jpeg(1, 300, 200)
    prediction = predictor.predict(data)
    pixels = crop(read_image(data, side=64), None, 64).pixels
    outputs = OnnxRuntimeBackend(onnx_model).run(pixels[None])
    assert (prediction.width, prediction.height, prediction.box) == (300, 200, (0.0, 0.0, 300.0, 200.0))
    assert [label.name for label in prediction.categories] == [
        predictor.spec.categories[i] for i in np.argsort(-outputs["category"][0])
    ]
    assert prediction.category.score == pytest.approx(outputs["category"].max(), abs=1e-5)
    np.testing.assert_allclose(prediction.attribute_scores, outputs["attributes"][0], atol=1e-5)
    assert all(label.score > predictor.spec.threshold for label in prediction.attributes)
    np.testing.assert_allclose(prediction.embedding, outputs["embedding"][0], atol=1e-5)
    expected = outputs["landmarks"][0] * [300, 200]
    np.testing.assert_allclose([(p.x, p.y) for p in prediction.landmarks], expected, atol=0.01)
    assert list(prediction.timing) == ["decode", "preprocess", "queue", "compute", "post"]
    assert all(ms >= 0 for ms in prediction.timing.values())


def sources(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "a.png"
    Image.fromarray(photo(2)).save(path)
    return {
        "str": str(path),
        "Path": path,
        "bytes": path.read_bytes(),
        "BytesIO": io.BytesIO(path.read_bytes()),
        "PIL": Image.fromarray(photo(2)),
        "ndarray": photo(2),
        "ndarray of the other channel order": photo(2)[:, :, ::-1].copy()[:, :, ::-1],
    }


def test_every_kind_of_source_and_every_method_gives_the_same(predictor: Predictor, tmp_path: Path) -> None:
    expected = predictor.predict(photo(2))
    for name, source in sources(tmp_path).items():
        prediction = predictor.predict(source)
        assert same(prediction, expected), name
        assert prediction.image == (str(source) if name in ("str", "Path") else None)
    assert all(same(p, expected) for p in predictor.predict(list(sources(tmp_path).values())))
    submitted = [predictor.submit(source) for source in sources(tmp_path).values()]
    assert all(same(future.result(SOON), expected) for future in submitted)


def test_a_file_may_be_closed_after_submit(predictor: Predictor, tmp_path: Path) -> None:
    with sources(tmp_path)["Path"].open("rb") as file:
        prediction = predictor.predict(file)
    assert prediction.plot().shape[2] == 3


def test_apredict_reads_a_file_outside_of_the_event_loops_thread(predictor: Predictor) -> None:
    readers: list[int] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            readers.append(threading.get_ident())
            return super().read(size)

    assert asyncio.run(predictor.apredict(Slow(jpeg(1)))).error is None
    assert readers
    assert threading.get_ident() not in readers


def test_predict_stream_submit_apredict_and_run_agree(predictor: Predictor) -> None:
    images = [jpeg(seed) for seed in range(25)]
    alone = [predictor.predict(image) for image in images]

    async def at_once() -> list[Prediction]:
        return await asyncio.gather(*(predictor.apredict(image, deadline_ms=1e6) for image in images))

    outputs = predictor.run(np.stack([crop(read_image(i, side=64), None, 64).pixels for i in images]))
    assert {len(values) for values in outputs.values()} == {25}
    np.testing.assert_allclose(outputs["embedding"], [p.embedding for p in alone], atol=1e-5)
    for many in (
        predictor.predict(images),
        predictor.predict(tuple(images)),
        list(predictor.stream(iter(images))),
        [future.result(SOON) for future in [predictor.submit(image) for image in images]],
        asyncio.run(at_once()),
    ):
        assert len(many) == 25
        assert all(same(a, b) for a, b in zip(many, alone, strict=True))


def test_submitted_runs_give_the_same_outputs_as_run(predictor: Predictor) -> None:
    images = [jpeg(seed) for seed in range(3)]
    batch = np.stack(
        [crop(read_image(image, side=64), None, 64).pixels for image in images] * 3
    )  # more rows than max_batch
    outputs = predictor.run(batch)
    submitted = predictor.submit_run(batch).result(SOON)
    encoded = [predictor.submit_run(image).result(SOON) for image in images]
    boxed = predictor.submit_run(images[0], [9, 9, 80, 100]).result(SOON)
    for name, values in outputs.items():
        np.testing.assert_allclose(submitted[name], values, atol=1e-5)
        np.testing.assert_allclose(np.concatenate([rows[name] for rows in encoded]), values[:3], atol=1e-5)
    (expected,) = predictor.predict(images[0], boxes=[[9, 9, 80, 100]])
    np.testing.assert_allclose(boxed["embedding"][0], expected.embedding, atol=1e-5)


def test_submitted_runs_that_fail(predictor: Predictor) -> None:
    with pytest.raises(ImageError, match="the image"):
        predictor.submit_run(b"no image").result(SOON)
    with pytest.raises(ImageError, match="box"):
        predictor.submit_run(jpeg(1), [900, 900, 901, 901]).result(SOON)
    with pytest.raises(ImageError, match="a batch must be"):
        predictor.submit_run(np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(DeadlineExceededError):
        predictor.submit_run(jpeg(1), deadline_ms=0).result(SOON)


def test_empty_inputs_give_empty_results(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert predictor.predict(b"not even read", boxes=[]) == []
    assert list(predictor.stream([])) == []
    assert {len(values) for values in predictor.run(np.zeros((0, 64, 64, 3), np.uint8)).values()} == {0}


def test_boxes(predictor: Predictor) -> None:
    image = photo(3, 400, 300)  # an array, because a JPEG may be decoded at a size that depends on its smallest box
    boxes = [[0, 0, 100, 100], [50.0, 60.0, 350.0, 290.0], [390, 0, 500, 50], *([[0, 0, 200, 300]] * 5)]
    predictions = predictor.predict(image, boxes=boxes)
    assert [p.box for p in predictions[:3]] == [(0, 0, 100, 100), (50, 60, 350, 290), (390, 0, 400, 50)]
    assert len(predictions) == len(boxes)
    for box, prediction in zip(boxes, predictions, strict=True):
        assert same(prediction, predictor.predict(image, boxes=np.array([box]))[0])
    assert same(predictor.predict(image, boxes=[[0, 0, 400, 300]])[0], predictor.predict(image))


def test_boxes_of_a_stream_a_future_and_a_task(predictor: Predictor) -> None:
    image, boxes = photo(3, 400, 300), [[0, 0, 100, 100], [9, 9, 9, 9], [50, 60, 350, 290]]
    expected = predictor.predict(image, boxes=boxes)
    assert [p.error is None for p in expected] == [True, False, True]

    def agree(predictions: list[Prediction]) -> bool:
        return len(predictions) == 3 and same(predictions[0], expected[0]) and same(predictions[2], expected[2])

    assert agree(predictor.submit(image, boxes).result(SOON))
    assert agree(asyncio.run(predictor.apredict(image, boxes, deadline_ms=1e6)))
    assert predictor.submit(image, []).result(SOON) == []
    first, none, bad, last = predictor.stream([image, image, b"bad", image], [boxes, [], boxes, boxes])
    assert agree(first) and agree(last)
    assert none == []
    assert [type(p.error) for p in bad] == [ImageError] * 3 and bad[0].source == b"bad"


@pytest.mark.parametrize(("images", "boxes"), [(2, 3), (3, 2), (0, 1), (1, 0)])
def test_a_stream_takes_the_boxes_of_each_image(images: int, boxes: int, predictor: Predictor) -> None:
    stream = predictor.stream([photo(1)] * images, [[[0, 0, 9, 9]]] * boxes)
    for _ in range(min(images, boxes)):
        assert len(next(stream)) == 1
    with pytest.raises(UsageError, match="images and boxes are not equally many"):
        next(stream)


def test_an_exception_of_a_streams_images_comes_after_the_earlier_results(predictor: Predictor) -> None:
    def images() -> Iterator[Any]:
        yield photo(1)
        yield b"bad"
        raise ZeroDivisionError

    stream = predictor.stream(images())
    assert [next(stream).error is None, next(stream).error is None] == [True, False]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_an_abandoned_stream_cancels_its_pending_images(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=1, threads=1, max_batch=1) as predictor:
        for _ in predictor.stream(photo(i) for i in range(1000)):
            break
        start = monotonic()
        assert predictor.predict(photo(1)).error is None
        assert monotonic() - start < SOON


def test_all_sessions_work_on_a_stream_of_small_batches(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=8, threads=1, max_batch=1) as predictor:
        running, most, lock = 0, 0, threading.Lock()
        backend = predictor.backends[0]
        run = backend.run

        def counted(batch: np.ndarray, session: int = 0) -> Any:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            sleep(0.05)
            try:
                return run(batch, session)
            finally:
                with lock:
                    running -= 1

        backend.run = counted  # type: ignore[method-assign]
        assert len(list(predictor.stream([photo(1)] * 64))) == 64
    assert most == 8


def test_boxes_go_with_one_image(predictor: Predictor) -> None:
    with pytest.raises(TypeError, match="boxes go with one image"):
        predictor.predict([jpeg(1)], boxes=[[0, 0, 1, 1]])  # type: ignore[call-overload]


def test_streams_are_lazy_and_read_ahead_within_bounds(predictor: Predictor) -> None:
    images = 0

    def endless() -> Iterator[bytes]:
        nonlocal images
        while True:
            images += 1
            yield jpeg(images)

    stream = predictor.stream(endless())
    assert images == 0
    for results in range(1, 20):
        next(stream)
        assert images <= results + 2 * 4
    stream.close()  # type: ignore[attr-defined]


# ---- bad images

BAD: dict[str, tuple[Any, str]] = {
    "missing": ("/no/such/file.jpg", "/no/such/file.jpg cannot be read"),
    "empty": (b"", "the image is empty"),
    "text": (b"hello", "is not an image of a kind read here"),
    "truncated": (jpeg(1)[:-200], "is truncated"),
    "no pixels": (np.zeros((0, 5, 3), np.uint8), "the image must be RGB"),
    "a file read to its end": (io.BytesIO(), "the image is empty"),
    "a text file": (io.StringIO("a.jpg"), "gives str, not bytes"),
    "no image at all": (17, "is of type int"),
    "None": (None, "is of type NoneType"),
}


def closed_file() -> io.BytesIO:
    file = io.BytesIO(jpeg(1))
    file.close()
    return file


BAD["a closed file"] = (closed_file(), "the image cannot be read: I/O operation on closed file")


@pytest.mark.parametrize("name", BAD)
def test_a_single_bad_image_raises_and_in_a_list_it_keeps_its_place(name: str, predictor: Predictor) -> None:
    bad, message = BAD[name]
    good = jpeg(4)
    with pytest.raises(ImageError, match=re.escape(message)):
        predictor.predict(bad)
    with pytest.raises(ImageError, match=re.escape(message)):
        predictor.submit(bad).result(SOON)
    with pytest.raises(ImageError, match=re.escape(message)):
        asyncio.run(predictor.apredict(bad))
    with pytest.raises(ImageError, match=re.escape(message)):
        predictor.predict(bad, boxes=[[0, 0, 5, 5]])
    first, failed, last = predictor.predict([good, bad, good])
    assert isinstance(failed.error, ImageError)
    assert message in str(failed.error)
    assert failed.source is bad
    with pytest.raises(ImageError):
        _ = failed.category
    assert same(first, predictor.predict(good)) and same(last, first)


def test_many_bad_images_among_good_ones(predictor: Predictor) -> None:
    images = [jpeg(i) if i % 3 else b"bad" for i in range(40)]
    predictions = predictor.predict(images)
    assert [p.error is None for p in predictions] == [i % 3 > 0 for i in range(40)]
    assert all(same(p, predictor.predict(i)) for p, i in zip(predictions, images, strict=True) if p.error is None)
    assert all(p.error is not None for p in predictor.predict([b"bad"] * 10))


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [500, 500, 600, 600], [0, 0, math.nan, 1], [1, 2, 3], None, "abcd"])
def test_a_bad_box_keeps_its_place_among_others(box: Any, predictor: Predictor) -> None:
    image = jpeg(5)
    good, bad, last = predictor.predict(
        image, boxes=[[0, 0, 50, 50], [9, 9, 9, 9] if box is None else box, [5, 5, 60, 60]]
    )
    assert (good.error, last.error) == (None, None)
    assert isinstance(bad.error, ImageError)
    assert bad.source is image


def test_pixel_limit(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=1, threads=1, max_pixels=90 * 120) as predictor:
        predictor.predict(jpeg(1))
        with pytest.raises(ImageError, match="has 91 x 120 pixels, above the limit of 10800"):
            predictor.predict(jpeg(1, 91, 120))


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.float32),
    ],
)
def test_batches_of_another_shape_or_type(batch: np.ndarray, predictor: Predictor) -> None:
    with pytest.raises(ImageError, match=r"a batch must be uint8 \[N, 64, 64, 3\], got " + f"{batch.dtype}"):
        predictor.run(batch)


# ---- bad models and arguments


def test_no_such_file(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(ModelNotFoundError, match=f"there is no model file {path}"):
            Predictor(path)


def test_files_that_are_not_onnx(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="is not an ONNX file that ONNX Runtime can load"):
        Predictor(path)
    with pytest.raises(ModelError, match=r"is neither an \.onnx nor a \.plan file"):
        Predictor(checkpoint)


def test_the_file_of_another_model_or_release(with_spec: Callable[[Any], Path]) -> None:
    with pytest.raises(ModelError, match="not one that fashion-infer export wrote"):
        Predictor(with_spec(None))
    with pytest.raises(ModelError, match="version 2, this release of fashion-infer reads 1: export the model again"):
        Predictor(with_spec('{"version": 2}'))


def test_another_hash(onnx_model: Path) -> None:
    digest = sha256_of(onnx_model)
    with Predictor(onnx_model, sessions=1, threads=1, require_hash=digest.upper()) as predictor:
        assert predictor.sha256 == digest
    with pytest.raises(ModelError, match=f"has sha256 {digest}, expected 1234: it is another file, or was changed"):
        Predictor(onnx_model, require_hash="1234")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "tflite"}, UsageError, "there is no backend 'tflite'"),
        ({"device": "tpu"}, DeviceError, "unknown device 'tpu'"),
        ({"device": ["cpu", "tpu"]}, DeviceError, "unknown device 'tpu'"),
        ({"device": "cuda:x"}, DeviceError, "not on 'cuda:x'"),
        ({"device": []}, UsageError, "device is an empty list"),
        ({"max_batch": 0}, UsageError, "max_batch must be a whole number of at least 1, got 0"),
        ({"max_queue": 0}, UsageError, "max_queue must be a whole number of at least 1, got 0"),
        ({"sessions": 0}, UsageError, "sessions must be a whole number of at least 1, got 0"),
        ({"threads": -1}, UsageError, "threads must be a whole number of at least 1, got -1"),
        ({"max_batch": 2.5}, UsageError, "max_batch must be a whole number of at least 1, got 2.5"),
        ({"max_queue": "9"}, UsageError, "max_queue must be a whole number of at least 1, got '9'"),
        ({"max_delay_ms": "2"}, UsageError, "max_delay_ms must be a number of at least 0, got '2'"),
        ({"max_delay_ms": -1}, UsageError, "max_delay_ms must be a number of at least 0, got -1"),
        ({"max_delay_ms": math.nan}, UsageError, "max_delay_ms must be a number of at least 0, got nan"),
        ({"max_batch": 10**30}, UsageError, "max_batch must be at most 2147483647, got 1000"),  # it hung every call
        ({"max_batch": True}, UsageError, "max_batch must be a whole number of at least 1, got True"),
        ({"max_pixels": math.nan}, UsageError, "max_pixels must be a whole number of at least 1, got nan"),
        ({"max_bytes": -1}, UsageError, "max_bytes must be a whole number of at least 1, got -1"),
        ({"device": ""}, DeviceError, "unknown device ''"),
        ({"device": 0}, UsageError, "device must be a name or a list of names, got 0"),
        ({"device": ["cpu", 0]}, UsageError, "device must be a name or a list of names, got ['cpu', 0]"),
        ({"require_hash": 7}, ModelError, "expected 7"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str, onnx_model: Path) -> None:
    before = threading.active_count()
    with pytest.raises(error, match=re.escape(message)):
        Predictor(onnx_model, **arguments)
    assert threading.active_count() == before


def test_an_untrained_model_logs_a_warning(
    onnx_model: Path, with_spec: Callable[[ModelSpec], Path], caplog: pytest.LogCaptureFixture
) -> None:
    with Predictor(onnx_model, sessions=1, threads=1) as predictor:
        spec = predictor.spec
    assert not caplog.records
    Predictor(with_spec(dataclasses.replace(spec, trained=False)), sessions=1, threads=1).close()
    assert [(r.name, r.levelno) for r in caplog.records] == [("fashion_infer", logging.WARNING)]
    assert "has random weights, it was never trained" in caplog.text


# ---- sessions, threads, devices


@pytest.mark.parametrize(
    ("sessions", "threads", "cores", "expected"),
    [
        (None, None, 1, Layout(1, 1, 1)),
        (None, None, 8, Layout(8, 1, 8)),
        (3, 2, 2, Layout(3, 2, 2)),
        (2, None, 8, Layout(2, 4, 4)),
        (9, None, 8, Layout(9, 1, 1)),
        (None, 2, 8, Layout(4, 2, 2)),
        (None, 9, 8, Layout(1, 9, 9)),
    ],
)
def test_the_division_of_the_cores(
    sessions: int | None, threads: int | None, cores: int, expected: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fashion_infer.backends.onnxruntime.usable_cores", lambda: cores)
    assert choose_layout("cpu", sessions, threads, model_bytes=1) == expected


def test_sessions_and_threads_can_be_set(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=3, threads=2) as predictor:
        assert predictor.backends[0].layout == Layout(3, 2, 2)  # type: ignore[attr-defined]


def test_default_sessions_and_threads(onnx_model: Path) -> None:
    with Predictor(onnx_model) as predictor:
        assert same(predictor.predict(jpeg(1)), predictor.predict([jpeg(1)] * 9)[8])


def test_several_devices_share_the_work(onnx_model: Path) -> None:
    with Predictor(onnx_model, device=["cpu", "cpu", "cpu"], sessions=1, threads=1, max_batch=1) as predictor:
        expected = predictor.predict(jpeg(1))
        assert len(predictor.backends) == 3
        assert all(same(p, expected) for p in predictor.predict([jpeg(1)] * 30))
        assert len(predictor.run(np.zeros((5, 64, 64, 3), np.uint8))["category"]) == 5


# ---- many threads, a full queue, deadlines


def test_many_threads_may_use_every_method_at_once(predictor: Predictor) -> None:
    expected = [predictor.predict(jpeg(seed)) for seed in range(8)]

    def use(i: int) -> bool:
        image = jpeg(i % 8)
        if i % 4 == 0:
            return same(predictor.predict(image), expected[i % 8])
        if i % 4 == 1:
            return same(predictor.submit(image).result(SOON), expected[i % 8])
        if i % 4 == 2:
            return all(same(p, expected[i % 8]) for p in predictor.predict([image] * 5))
        return len(predictor.run(np.zeros((3, 64, 64, 3), np.uint8))["category"]) == 3

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(use, range(160)))


def test_images_submitted_together_share_a_batch(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=1, threads=1, max_batch=6, max_delay_ms=20_000) as predictor:
        predictions = [future.result(SOON) for future in [predictor.submit(photo(i)) for i in range(6)]]
        batches = predictor.batches
    assert len({p.timing["compute"] for p in predictions}) == 1
    assert batches == {("full", 6): 1}


def test_a_single_predict_does_not_wait_for_others(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=1, threads=1, max_delay_ms=1e9) as predictor:
        predictor.predict(photo(1))
        predictor.predict([photo(1), photo(2)])
        predictor.predict(photo(1), boxes=[[0, 0, 50, 50]] * 3)


def test_an_endless_delay_ends_when_the_batch_is_full(onnx_model: Path) -> None:
    with Predictor(onnx_model, sessions=1, threads=1, max_batch=2, max_delay_ms=math.inf) as predictor:
        wait([predictor.submit(photo(1)), predictor.submit(photo(2))], SOON)


@pytest.fixture
def stalled(onnx_model: Path) -> Iterator[Predictor]:
    """A Predictor whose queue has one place, and whose batches wait nearly for ever for a second image."""
    with Predictor(onnx_model, sessions=1, threads=1, max_queue=1, max_delay_ms=1e9) as predictor:
        yield predictor


def test_a_full_queue(stalled: Predictor) -> None:
    first = stalled.submit(photo(1))
    with pytest.raises(QueueFullError, match="1 requests wait already"):
        stalled.submit(photo(2))
    with pytest.raises(QueueFullError):
        asyncio.run(stalled.apredict(photo(2)))
    assert first.cancel()


@pytest.mark.parametrize("deadline_ms", [0, -1])
def test_a_deadline_already_past(deadline_ms: float, predictor: Predictor) -> None:
    future = predictor.submit(photo(1), deadline_ms=deadline_ms)
    with pytest.raises(DeadlineExceededError):
        future.result(SOON)
    with pytest.raises(DeadlineExceededError):
        asyncio.run(predictor.apredict(photo(1), deadline_ms=deadline_ms))


def test_cancelling_a_task_cancels_its_request(stalled: Predictor) -> None:
    async def give_up() -> None:
        await asyncio.wait_for(stalled.apredict(photo(1)), timeout=0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    stalled.close()  # would not return if the request were still in the queue


# ---- the end


def test_a_closed_predictor(onnx_model: Path) -> None:
    predictor = Predictor(onnx_model, sessions=1, threads=1)
    stream = predictor.stream([jpeg(1)] * 3)
    predictor.close()
    predictor.close(drain=False)
    uses: list[Callable[[], object]] = [
        lambda: predictor.predict(jpeg(1)),
        lambda: predictor.predict([jpeg(1)]),
        lambda: predictor.predict(b"bad", boxes=[[0, 0, 1, 1]]),
        lambda: predictor.submit(jpeg(1)),
        lambda: asyncio.run(predictor.apredict(jpeg(1))),
        lambda: predictor.run(np.zeros((1, 64, 64, 3), np.uint8)),
        lambda: next(stream),
    ]
    for use in uses:
        with pytest.raises(PredictorClosedError, match="this Predictor was closed"):
            use()


def test_closing_finishes_or_fails_the_submitted_requests(onnx_model: Path) -> None:
    for drain in (True, False):
        predictor = Predictor(onnx_model, sessions=1, threads=1, max_delay_ms=1e9)
        futures = [predictor.submit(jpeg(i)) for i in range(20)]
        predictor.close(drain=drain)
        assert all(future.done() for future in futures)
        errors = {type(future.exception()) for future in futures}
        assert errors == {type(None)} if drain else PredictorClosedError in errors


def test_closing_frees_the_model(onnx_model: Path) -> None:
    predictor = Predictor(onnx_model, sessions=2, threads=1)
    backend = weakref.ref(predictor.backends[0])
    predictor.predict([photo(1)] * 5)
    predictor.close()
    gc.collect()
    assert backend() is None
    assert predictor.backends == []


def test_a_predictor_without_references_ends_its_threads(onnx_model: Path) -> None:
    predictor = Predictor(onnx_model, sessions=2, threads=1)
    predictor.predict([photo(1)] * 5)
    threads = predictor._pool._threads
    del predictor
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


SCRIPTS = {
    "left open": "predictor.predict([image] * 3)",
    "left with work": "futures = [predictor.submit(image) for _ in range(300)]; predictor.submit(image).result()",
    "fork": """
import os, warnings
from fashion_infer import PredictorClosedError
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    for use in (predictor.predict, predictor.submit, lambda i: predictor.predict([i]), lambda i: predictor.run(batch)):
        try:
            use(image)
        except PredictorClosedError as error:
            assert "load one in each process" in str(error), error
        else:
            raise AssertionError(use)
    predictor.close()
    os._exit(7)  # multiprocessing ends children this way too; ONNX Runtime's destructors hang in a forked child
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
predictor.predict(image)
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_end_of_a_process(name: str, onnx_model: Path) -> None:
    head = """
import sys
import numpy as np
from fashion_infer import Predictor
predictor = Predictor(sys.argv[1], sessions=2, threads=1)
image, batch = np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8)
predictor.predict(image)
"""
    command = [sys.executable, "-c", head + SCRIPTS[name], str(onnx_model)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# ---- sources that change, and bad inputs among good ones


def test_if_every_box_is_bad_each_has_its_error(predictor: Predictor) -> None:
    image = np.zeros((99, 99, 3), np.uint8)
    for boxes in ([[9, 9, 3, 3]], [[9, 9, 3, 3], [0, 0, 1, 1]], [[np.nan] * 4]):
        predictions = predictor.predict(image, boxes=boxes)
        assert [type(prediction.error) for prediction in predictions] == [ImageError] * len(boxes)


def test_a_buffer_may_be_reused_for_each_picture(predictor: Predictor) -> None:
    pictures = [np.array(Image.open(io.BytesIO(jpeg(i)))) for i in range(12)]
    buffer = np.empty_like(pictures[0])

    def frames() -> Iterator[np.ndarray]:
        for pixels in pictures:
            buffer[:] = pixels
            yield buffer

    predictions = list(predictor.stream(frames()))
    assert all(same(a, b) for a, b in zip(predictions, predictor.predict(pictures), strict=True))
    futures = []
    for pixels in pictures:
        buffer[:] = pixels
        futures.append(predictor.submit(buffer))
    assert all(same(a.result(SOON), b) for a, b in zip(futures, predictions, strict=True))


@pytest.mark.parametrize("kind", ["file", "PIL"])
def test_one_open_source_used_many_times_gives_the_same_result(kind: str, predictor: Predictor) -> None:
    file = io.BytesIO(jpeg(3))
    source: Any = file if kind == "file" else Image.open(file)
    expected = predictor.predict(jpeg(3) if kind == "file" else Image.open(io.BytesIO(jpeg(3))))
    assert all(same(prediction, expected) for prediction in predictor.predict([source] * 16))


class Unlucky(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise KeyError("no such part of the archive")


def test_a_file_that_raises_any_exception_does_not_affect_others(predictor: Predictor) -> None:
    first, bad, last = predictor.predict([jpeg(1), Unlucky(b"-"), jpeg(2)])
    assert "the image cannot be read: 'no such part of the archive'" in str(bad.error)
    assert same(first, predictor.predict(jpeg(1))) and same(last, predictor.predict(jpeg(2)))


class OpenFile:
    """A file that is no io.IOBase, like those of `tempfile` and of web frameworks."""

    def read(self, size: int = -1) -> bytes:
        return b""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"line"])


@pytest.mark.parametrize(
    "source",
    [
        "a.jpg",
        Path("a.jpg"),
        b"bytes",
        np.zeros((9, 9, 3), np.uint8),
        Image.new("RGB", (9, 9)),
        io.BytesIO(),
        OpenFile(),
    ],
)
def test_stream_refuses_one_image(source: Any, predictor: Predictor) -> None:
    with pytest.raises(TypeError, match="images must be an iterable of several, not one"):
        predictor.stream(source)


def test_kept_pictures_are_drawn_on(onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (2000, 1500)).save(path)
    with Predictor(onnx_model, keep_pictures=True) as predictor:
        prediction = predictor.predict(path)
        path.unlink()
        assert prediction.plot().shape[1] == 1280
        assert prediction.picture.pixels.shape == (960, 1280, 3)
        buffer = photo(3)
        of_buffer = predictor.predict(buffer)
        buffer[:] = 0
        assert of_buffer.picture is not None
        np.testing.assert_array_equal(of_buffer.picture.pixels, photo(3))
    with Predictor(onnx_model) as predictor:
        assert predictor.predict(jpeg(1)).picture is None


def test_the_caller_can_set_max_bytes(onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    with Predictor(onnx_model, max_bytes=100) as predictor:
        for source in (path, jpeg(1), io.BytesIO(jpeg(1))):
            with pytest.raises(ImageError, match=r"has more than 100 bytes, the limit \(max_bytes\)$"):
                predictor.predict(source)


# ---- boxes and sources of any sort


class Unusual:
    """An object that fails wherever a library looks at it, such as a tensor on a GPU or the proxy of a request."""

    def __array__(self, *_: object, **__: object) -> Any:
        raise RuntimeError("no array")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


GOOD_BOX = [0, 0, 50, 50]


@pytest.mark.parametrize(
    ("boxes", "errors"),
    [
        ([None], [True]),
        ([Unusual()], [True]),
        ([[10**400, 0, 1, 1], GOOD_BOX], [True, False]),
        (iter([GOOD_BOX, "box"]), [False, True]),
        (Unusual(), [True]),
        (5, [True]),
        ("abcd", [True]),
        ({"box": GOOD_BOX}, [True]),
        (None, [True]),
    ],
    ids=["none", "unusual box", "overflow", "iterator", "unusual", "number", "text", "mapping", "none of none"],
)
def test_bad_boxes_of_one_image_spoil_no_other(boxes: Any, errors: list[bool], predictor: Predictor) -> None:
    before, middle, after = predictor.stream([jpeg(1), jpeg(2), jpeg(3)], boxes=[[GOOD_BOX], boxes, [GOOD_BOX]])
    assert [prediction.error is not None for prediction in middle] == errors
    assert all(isinstance(prediction.error, ImageError | None) for prediction in middle)
    assert before[0].error is after[0].error is None


def test_boxes_may_be_changed_after_submit(predictor: Predictor) -> None:
    box, futures = [0, 0, 0, 50], []
    for right in range(10, 60):
        box[2] = right
        futures.append(predictor.submit(jpeg(1), [box]))
    assert [future.result()[0].box[2] for future in futures] == list(range(10, 60))


def test_paths_of_any_class_keep_their_name(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))

    class Raw:
        def __fspath__(self) -> bytes:
            return os.fsencode(tmp_path / "a.jpg")

    class Broken(Raw):
        def __fspath__(self) -> bytes:
            raise RuntimeError("no path")

    with os.scandir(tmp_path) as entries:
        sources: list[Any] = [*entries, Raw(), Broken()]
    *good, bad = predictor.predict(sources)
    assert [prediction.image for prediction in good] == [str(tmp_path / "a.jpg")] * 2
    assert (bad.image, str(bad.error)) == (None, "the image has no path: no path")


def test_an_object_that_fails_when_it_is_looked_at(predictor: Predictor) -> None:
    bad, good = predictor.predict([Unusual(), jpeg(1)])  # type: ignore[list-item]
    assert (str(bad.error), good.error) == ("the image cannot be read: no read", None)


def test_a_file_that_gives_few_bytes_at_a_time(predictor: Predictor) -> None:
    class Socket(io.RawIOBase):
        data = io.BytesIO(jpeg(1))

        def read(self, size: int = -1) -> bytes:
            return self.data.read(min(size, 100))

    assert same(predictor.predict(Socket()), predictor.predict(jpeg(1)))  # type: ignore[call-overload]


def test_max_pixels_is_for_arrays_too(onnx_model: Path) -> None:
    with (
        Predictor(onnx_model, sessions=1, threads=1, max_pixels=99) as predictor,
        pytest.raises(ImageError, match="has 10 x 10 pixels, above the limit of 99"),
    ):
        predictor.predict(np.zeros((10, 10, 3), np.uint8))


def test_a_deadline_that_is_no_number(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="deadline_ms must be a number, got nan"):
        predictor.submit(jpeg(1), deadline_ms=math.nan)


def test_a_prediction_is_drawn_on_a_file_object(predictor: Predictor) -> None:
    assert predictor.predict(jpeg(1)).plot(io.BytesIO(jpeg(1))).shape[2] == 3


def test_a_model_whose_name_is_too_long() -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model file a"):
        Predictor("a" * 300)


def test_colours_are_ready_when_a_submitted_image_is(onnx_model: Path) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    with Predictor(onnx_model) as predictor:
        assert "colors" not in vars(predictor.predict(image))
        box = (0, 0, 20, 20)
        every = [predictor.submit(image).result(), *predictor.submit(image, [box, (5, 5, 5, 5), box]).result()]
        assert [vars(prediction).get("colors") for prediction in every] == [
            every[0].colors,
            every[0].colors,
            None,
            every[0].colors,
        ]
        assert every[0].colors
