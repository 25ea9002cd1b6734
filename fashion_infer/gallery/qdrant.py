"""A store on a cluster: the rows are the points of a Qdrant collection and their payload.

A gallery NAME is an alias of the collection NAME.1 (NAME.2 after a rebuild). The collection's metadata holds the
embedding space and the model that the gallery is bound to. A point's id is a UUID made from the row's id. The cluster
stores the vectors as float16 and computes the scores.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid4, uuid5

import numpy as np

from fashion_infer.errors import GalleryError, UsageError, missing_extra
from fashion_infer.gallery.database import joined_kinds
from fashion_infer.gallery.filters import All, Compare, Filter
from fashion_infer.gallery.rows import Facts, Row
from fashion_infer.gallery.store import Candidates, Float32s, Nearest
from fashion_infer.gallery.values import OWN, Value, from_json, to_json

try:
    from qdrant_client import QdrantClient
    from qdrant_client import models as q
    from qdrant_client.http.exceptions import ApiException
except ImportError as error:
    raise missing_extra("qdrant-client", "cluster", error) from error

FACTS, KINDS, META = "fashion_infer.facts", "fashion_infer.kinds", "fashion_infer.meta"
PREFIX = "u_"  # prefix of the payload keys of the user's columns
PORTION = 256  # points in one request
SPARE = 8  # rows that are fetched beyond the requested ones, to see whether the last ones tie
SECONDS = 30  # time limit of a request


@contextmanager
def client_errors(place: str) -> Iterator[None]:
    """Raise the client's errors as GalleryErrors."""
    try:
        yield
    except (ApiException, ConnectionError, OSError, ValueError) as error:
        raise GalleryError(f"gallery {place}: the cluster request failed ({str(error).strip()[:300]})") from error


class ClusterStore:
    """A `Store` on a Qdrant cluster. Writing is not locked: let one process index at a time."""

    def __init__(self, place: str, create: Facts | None = None) -> None:
        """Open or create a gallery.

        Args:
            place: address http(s)://host:port/collection; the cluster's key is read from QDRANT_API_KEY.
            create: embedding space and model for a new gallery; None to open an existing one only.

        Raises:
            GalleryError: the cluster cannot be reached, or there is no such gallery.
        """
        try:
            url = urlsplit(place)
        except ValueError as error:
            raise GalleryError(f"{place} is no address: {error}") from error
        self.place, self._name = place, url.path.strip("/")
        if not self._name or "/" in self._name:
            raise GalleryError(f"{place} names no collection: it is http(s)://host:port/collection")
        with client_errors(place):
            self._client = QdrantClient(
                url=f"{url.scheme}://{url.netloc}", api_key=os.environ.get("QDRANT_API_KEY"), timeout=SECONDS
            )
            collection = self._serving()
            if collection is None and create is None:
                raise GalleryError(f"there is no gallery {place}: fashion-infer index {place} PHOTOS makes one")
            if collection is None and create is not None:
                collection = self._create(f"{self._name}.1", create)
                self._point_alias(collection, None)
            self._collection = str(collection)
            self.refresh()

    def refresh(self) -> None:
        """Read the collection's metadata again."""
        metadata = self._client.get_collection(self._collection).config.metadata or {}
        self.facts = Facts(**metadata[FACTS])
        self.kinds: dict[str, str] = metadata.get(KINDS, {})
        self.meta: dict[str, Any] = metadata.get(META, {})

    def close(self) -> None:
        self._client.close()

    def __len__(self) -> int:
        return self.count(None)

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self.numbered())

    def numbered(self) -> Iterator[tuple[str, Row]]:
        return ((_fields(record)["mark"], self._row(record)) for record in self._scroll(vectors=True))

    def paths(self) -> Iterator[tuple[str, str | None, str]]:
        for record in self._scroll(vectors=False):
            fields = _fields(record)
            yield fields["id"], fields["path"], fields["content_hash"]

    def sample(self, count: int) -> list[Row]:
        return list(islice(self, count))  # the order of the points' ids, which are hashes, is as good as random

    def get(self, ids: Sequence[str], *, by: str = "id") -> list[Row]:
        chosen = q.Filter(must=[q.FieldCondition(key=by, match=q.MatchAny(any=list(ids)))])
        return [self._row(record) for record in self._scroll(vectors=True, where=chosen)] if ids else []

    def nearest(self, queries: Float32s, count: int, where: Filter | None, *, exact: bool = False) -> Nearest:
        searched, fetched = self.count(where), count + SPARE
        while True:
            fetched = min(fetched, searched)
            requests = [
                q.QueryRequest(
                    query=query.tolist(),
                    filter=None if where is None else condition(where),
                    limit=max(fetched, 1),
                    params=q.SearchParams(exact=exact),
                    with_payload=True,
                )
                for query in queries
            ]
            with client_errors(self.place):
                answers = self._client.query_batch_points(self._collection, requests)
            ranked = [self._candidates(answer.points) for answer in answers]
            tied = any(len(c) == fetched > count > 0 and c[count - 1][0] == c[-1][0] for c in ranked)
            if fetched == searched or not tied:
                return Nearest([candidates[:count] for candidates in ranked], searched, exact)
            fetched *= 4

    def count(self, where: Filter | None) -> int:
        with client_errors(self.place):
            chosen = None if where is None else condition(where)
            return int(self._client.count(self._collection, count_filter=chosen, exact=True).count)

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def write(self, records: Iterable[str], rows: Iterable[Row]) -> None:
        rows = list(rows)
        self._widen_kinds(rows)
        # stale rows are removed after the new ones are written, so that an interruption loses nothing
        self._upsert(self._collection, rows, [None] * len(rows))
        kept = {row.id for row in rows}
        stale = [row.id for row in self.get(list(records), by="record") if row.id not in kept]
        self.remove(stale)

    def remove(self, ids: Sequence[str]) -> int:
        count = len(self.get(ids))
        with client_errors(self.place):
            for start in range(0, len(ids), PORTION):
                points: list[Any] = [_point_id(id) for id in ids[start : start + PORTION]]
                self._client.delete(self._collection, q.PointIdsList(points=points), wait=True)
        return count

    def set_meta(self, key: str, value: Any) -> None:
        self.meta = self.meta | {key: value}
        self._update_metadata({META: self.meta})

    def settle(self, *, wait: bool = False, progress: Callable[[int, int], None] | None = None) -> None:
        """Do nothing: the cluster keeps its index up to date itself."""

    def begin_epoch(self, facts: Facts) -> str:
        number = int(self._collection.rpartition(".")[2]) + 1
        collection = f"{self._name}.{number}"
        with client_errors(self.place):
            if self._client.collection_exists(collection):
                metadata = self._client.get_collection(collection).config.metadata or {}
                if metadata.get(FACTS, {}).get("space") == facts.space:
                    return collection
                self._client.delete_collection(collection)
            return self._create(collection, facts, self.kinds)

    def origins(self, epoch: str) -> set[str]:
        marks = {mark for mark, _ in self.numbered()}
        done: set[str] = set()
        for record in self._scroll(vectors=False, collection=epoch):
            origin = _fields(record)["origin"]
            if origin in marks:
                done.add(origin)
            else:
                self._client.delete(epoch, q.PointIdsList(points=[record.id]), wait=True)
        return done

    def write_epoch(self, epoch: str, origins: Sequence[str], rows: Sequence[Row]) -> None:
        self._upsert(epoch, rows, origins)

    def switch_epoch(self, epoch: str) -> None:
        with client_errors(self.place):
            old = self._collection
            self._point_alias(epoch, old)
            self._client.delete_collection(old)
            self._collection = epoch
            self.refresh()

    def _serving(self) -> str | None:
        aliases = self._client.get_aliases().aliases
        return next((alias.collection_name for alias in aliases if alias.alias_name == self._name), None)

    def _create(self, collection: str, facts: Facts, kinds: Mapping[str, str] | None = None) -> str:
        vectors = q.VectorParams(size=facts.dim, distance=q.Distance.COSINE, datatype=q.Datatype.FLOAT16)
        metadata = {FACTS: asdict(facts), KINDS: dict(kinds or {}), META: {}}
        self._client.create_collection(collection, vectors_config=vectors, metadata=metadata)
        for name in ("id", "record", "category", "item"):
            self._client.create_payload_index(collection, name, q.PayloadSchemaType.KEYWORD)
        return collection

    def _point_alias(self, collection: str, old: str | None) -> None:
        create = q.CreateAlias(collection_name=collection, alias_name=self._name)
        changes: list[Any] = [q.CreateAliasOperation(create_alias=create)]
        if old is not None:
            changes.insert(0, q.DeleteAliasOperation(delete_alias=q.DeleteAlias(alias_name=self._name)))
        self._client.update_collection_aliases(change_aliases_operations=changes)

    def _update_metadata(self, metadata: dict[str, Any]) -> None:
        with client_errors(self.place):
            self._client.update_collection(self._collection, metadata=metadata)

    def _widen_kinds(self, rows: Sequence[Row]) -> None:
        wider = joined_kinds(self.kinds, [row.columns for row in rows])
        if wider != self.kinds:
            self.kinds = wider
            self._update_metadata({KINDS: wider})

    def _upsert(self, collection: str, rows: Sequence[Row], origins: Sequence[str | None]) -> None:
        points = [
            q.PointStruct(
                id=_point_id(row.id),
                vector=row.vector.astype(np.float32).tolist(),
                payload=_payload(row, origin),
            )
            for row, origin in zip(rows, origins, strict=True)
        ]
        with client_errors(self.place):
            for start in range(0, len(points), PORTION):
                self._client.upsert(collection, points[start : start + PORTION], wait=True)

    def _scroll(
        self, *, vectors: bool, where: q.Filter | None = None, collection: str | None = None
    ) -> Iterator[q.Record]:
        offset: Any = None
        while True:
            with client_errors(self.place):
                records, offset = self._client.scroll(
                    collection or self._collection,
                    scroll_filter=where,
                    limit=PORTION,
                    offset=offset,
                    with_vectors=vectors,
                )
            yield from records
            if offset is None:
                return

    def _candidates(self, points: Sequence[q.ScoredPoint]) -> Candidates:
        pairs = [(min(max(point.score, -1.0), 1.0), self._row(point)) for point in points]
        return sorted(pairs, key=lambda pair: (-pair[0], pair[1].id))

    def _row(self, point: Any) -> Row:
        fields = _fields(point)
        own = {_name(key): fields.pop(key) for key in list(fields) if key.startswith(PREFIX)}
        columns = {name: _read(value, self.kinds[name]) for name, value in own.items()}
        del fields["mark"], fields["origin"]
        colors = json.loads(fields.pop("color_facts"))
        fields.pop("colors")
        landmarks = fields.pop("landmarks")
        for name in ("box", "asked"):
            fields[name] = None if fields[name] is None else tuple(fields[name])
        return Row(
            **fields,
            colors=colors,
            columns=columns,
            landmarks=None if landmarks is None else np.array(landmarks, np.float32),
            vector=np.array(point.vector if point.vector is not None else [], np.float16),
        )


def condition(node: Filter) -> q.Filter:
    """Convert a filter from `typed_filter` into Qdrant's form.

    Raises:
        UsageError: the filter compares the order of texts, which Qdrant does not support.
    """
    if isinstance(node, All):
        return q.Filter(must=[condition(part) for part in node.parts])
    if not isinstance(node, Compare):
        return q.Filter(should=[condition(part) for part in node.parts])
    key = node.column if node.column in OWN else _path(node.column)
    is_missing = q.IsEmptyCondition(is_empty=q.PayloadField(key=key))
    if node.value is None:
        return q.Filter(must=[is_missing]) if node.operator == "=" else q.Filter(must_not=[is_missing])
    if node.operator == "in":
        return q.Filter(should=[condition(Compare(node.column, "=", value)) for value in node.value])
    value = _keyed(to_json(node.value))
    if node.operator in ("=", "!="):
        if isinstance(value, float):
            same = q.FieldCondition(key=key, range=q.Range(gte=value, lte=value))
        else:
            same = q.FieldCondition(key=key, match=q.MatchValue(value=value))
        return q.Filter(must=[same]) if node.operator == "=" else q.Filter(must_not=[same, is_missing])
    bound = {{"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[node.operator]: value}
    if isinstance(node.value, date):
        return q.Filter(must=[q.FieldCondition(key=key, range=q.DatetimeRange(**bound))])
    if isinstance(value, str):
        raise UsageError(f"a cluster cannot compare the order of texts: {node.column!r} allows =, != and in")
    return q.Filter(must=[q.FieldCondition(key=key, range=q.Range(**bound))])


def _key(column: str) -> str:
    """Return the payload key of a user's column. Dots and brackets are escaped, since Qdrant reads them as paths."""
    return PREFIX + column.replace("%", "%25").replace(".", "%2E").replace("[", "%5B")


def _path(column: str) -> str:
    """Return the path of a user's column in a condition; Qdrant needs quotes around other characters than these."""
    key = _key(column)
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'


def _name(key: str) -> str:
    return unquote(key.removeprefix(PREFIX))


def _keyed(value: Any) -> Any:
    """Return a boolean as a keyword, since not every Qdrant can filter by a boolean's value."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _read(value: Any, kind: str) -> Value:
    return value == "true" if kind == "bool" else from_json(value, kind)


def _payload(row: Row, origin: str | None) -> dict[str, Any]:
    own = {name: _keyed(to_json(value)) for name, value in row.columns.items()}
    return {
        "id": row.id,
        "record": row.record,
        "path": row.path,
        "asked": None if row.asked is None else list(row.asked),
        "box": None if row.box is None else list(row.box),
        "is_garment": row.is_garment,
        "category": row.category,
        "category_score": row.category_score,
        "attributes": row.attributes,
        "colors": row.value("colors"),
        "color_facts": json.dumps(row.colors),
        "landmarks": None if row.landmarks is None else row.landmarks.tolist(),
        "content_hash": row.content_hash,
        "mark": uuid4().hex,
        "origin": origin,
        **{_key(name): value for name, value in own.items()},
    }


def _fields(point: Any) -> dict[str, Any]:
    """Return a copy of a point's payload."""
    return dict(point.payload)


def _point_id(id: str) -> str:
    return str(uuid5(NAMESPACE_URL, id))
