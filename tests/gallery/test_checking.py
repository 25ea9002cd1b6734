import json
import sqlite3
from collections.abc import Callable

import numpy as np
import pytest

from fashion_infer.errors import UsageError
from fashion_infer.gallery import Gallery
from fashion_infer.gallery.checking import check, facts_about
from fashion_infer.gallery.local import LocalStore
from tests.gallery.conftest import row, vectors


def test_an_undamaged_gallery(filled: Callable[..., LocalStore]) -> None:
    store = filled(100)
    assert check(store) == ([], 1.0)
    facts = json.loads(json.dumps(facts_about(store)))
    assert (facts["rows"], facts["model"], facts["index"]["kind"]) == (100, "model.onnx", "exact scan")


def test_an_empty_gallery(store: LocalStore) -> None:
    assert check(store) == ([], 1.0)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM vectors_1 WHERE number = 3", "1 rows have no vector"),
        ("DELETE FROM rows_1 WHERE number = 3", "1 vectors have no row"),
        ("UPDATE vectors_1 SET vector = x'00' WHERE number = 3", "1 vectors have another length"),
    ],
)
def test_damage_is_reported(filled: Callable[..., LocalStore], statement: str, message: str) -> None:
    store = filled(10)
    with sqlite3.connect(store.folder / "gallery.sqlite") as connection:
        connection.execute(statement)
    connection.close()
    assert check(store)[0] == [message]


def test_embeddings_that_are_not_numbers(store: LocalStore) -> None:
    with store.writing():
        store.write([], [row("a", np.full(16, np.nan, np.float16)), row("b", vectors(1)[0])])
    assert check(store)[0] == ["1 embeddings are not of unit length"]


def test_a_cluster_checks_itself(cluster: str, predictor: object) -> None:
    with Gallery(cluster, predictor) as gallery, pytest.raises(UsageError, match="by the cluster itself"):  # type: ignore[arg-type]
        gallery.check()
