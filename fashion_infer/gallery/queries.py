"""Making queries: vectors from photos, from rows or as passed, and moved towards or away from other rows."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.arguments import several
from fashion_infer.errors import GalleryError, ImageError, UsageError
from fashion_infer.gallery.match import look_of
from fashion_infer.gallery.rows import Facts, is_single_id, text_of_id, texts_of_ids
from fashion_infer.gallery.searching import Query, failed, refined, unit
from fashion_infer.gallery.store import Store
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import Box

logger = logging.getLogger("fashion_infer")


def by_photo(predictor: Predictor, facts: Facts, images: Any, box: Box | None) -> list[Query]:
    """Make queries from a photo, a box in it, its Prediction, or a list of photos or of Predictions.

    Raises:
        ImageError: the only photo cannot be used.
    """
    image_list = images if isinstance(images, list | tuple) else [images]
    if image_list and all(isinstance(image, Prediction) for image in image_list):
        predictions = list(image_list)
    elif isinstance(images, list | tuple):
        predictions = predictor.predict(images)
    elif box is not None:
        predictions = predictor.predict(images, boxes=[box])
    else:
        predictions = [predictor.predict(images)]
    return [_query_of(prediction, facts) for prediction in predictions]


def _query_of(prediction: Prediction, facts: Facts) -> Query:
    if prediction.error is not None:
        return failed(prediction.error)
    if prediction.is_garment is not None and prediction.is_garment < 0.5:
        logger.warning("there may be no garment in %s: its hits may be meaningless", prediction.image or "the query")
    try:
        vector = unit(prediction.embedding)
    except UsageError as error:
        return failed(ImageError(f"the model gave no usable embedding: {error}"))
    shown = {"box": prediction.box, "category": prediction.category.name}
    return Query(vector, look_of(prediction, facts), facts=shown)


def by_id(store: Store, place: str, ids: Any) -> list[Query]:
    """Make queries from rows of the gallery; the row of a query is not among its hits."""
    texts = [_text_or_error(id) for id in ([ids] if is_single_id(ids) else several("ids", ids))]
    rows = {row.id: row for row in store.get([text for text in texts if isinstance(text, str)])}
    return [
        failed(id)
        if isinstance(id, UsageError)
        else Query(unit(rows[id].vector), look_of(rows[id], store.facts), {id})
        if id in rows
        else failed(GalleryError(f"gallery {place} has no row {id!r}"))
        for id in texts
    ]


def _text_or_error(id: object) -> str | UsageError:
    try:
        return text_of_id(id)
    except UsageError as error:
        return error


def by_vector(dim: int, vectors: NDArray[Any]) -> list[Query]:
    """Make queries from vectors, [D] or [N, D].

    Raises:
        UsageError: the vectors have another shape, or are not of real numbers.
    """
    if vectors.dtype.kind not in "fiu":
        raise UsageError(f"vectors must be of real numbers, got {vectors.dtype}")
    rows = vectors[None] if vectors.ndim == 1 else vectors
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise UsageError(f"vectors must be [N, {dim}] or [{dim}], got {list(vectors.shape)}")
    queries = []
    for row in rows:
        try:
            queries.append(Query(unit(row)))
        except UsageError as error:
            queries.append(failed(error))
    return queries


def refined_by(
    store: Store, place: str, queries: list[Query], like: str | Iterable[str], unlike: str | Iterable[str]
) -> list[Query]:
    """Move queries towards the rows in `like` and away from those in `unlike`; without queries, make one from the rows.

    Raises:
        GalleryError: the gallery does not have one of the ids.
        UsageError: there are neither queries nor ids.
    """
    like, unlike = texts_of_ids(like or ()), texts_of_ids(unlike or ())
    rows = {row.id: row for row in store.get([*like, *unlike])}
    if missing := [id for id in (*like, *unlike) if id not in rows]:
        raise GalleryError(f"gallery {place} has no row {missing[0]!r}")
    if not queries and not rows:
        raise UsageError("give a query: images, ids, vectors, like or unlike")
    liked, unliked = [rows[id] for id in like], [rows[id] for id in unlike]
    return [
        query
        if query.facts.get("error")
        else replace(query, vector=refined(query.vector, liked, unliked), without=query.without | rows.keys())
        for query in queries or [Query(None)]
    ]


def together(queries: list[Query]) -> Query:
    """Make one query, the mean of the vectors, from several queries that show one thing."""
    for query in queries:
        if query.facts.get("error") is not None:
            return query
    vectors = [query.vector for query in queries if query.vector is not None]
    return replace(
        queries[0],
        vector=unit(np.mean(vectors, axis=0)),
        without=set().union(*(query.without for query in queries)),
        facts=queries[0].facts | {"box": None} if len(queries) > 1 else queries[0].facts,
    )
