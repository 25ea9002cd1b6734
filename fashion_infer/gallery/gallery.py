"""The Gallery class: it stores garments and finds those that are most similar to a query."""

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import GalleryMismatchError, UsageError
from fashion_infer.gallery import match, queries
from fashion_infer.gallery.adding import AddReport, Outcome, add, estimate, planned
from fashion_infer.gallery.filters import typed_filter
from fashion_infer.gallery.folders import Gone, gone
from fashion_infer.gallery.hits import Hits
from fashion_infer.gallery.photos import photos_of
from fashion_infer.gallery.rebuild import price, rebuild
from fashion_infer.gallery.rows import Facts, Row, is_single_id, text_of_id, texts_of_ids
from fashion_infer.gallery.searching import Options, Query, search
from fashion_infer.gallery.store import Store
from fashion_infer.images import ImageSource
from fashion_infer.models import FOLDER as BUILT_IN
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import Box

if TYPE_CHECKING:
    from fashion_infer.gallery.duplicates import Pair


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `Gallery.search`."""

    ids: str | Sequence[str] | None
    vectors: NDArray[Any] | None
    box: Box | None
    together: bool
    like: str | Sequence[str]
    unlike: str | Sequence[str]
    where: str | Mapping[str, Any] | None
    limit: int
    offset: int
    min_score: float | None
    group_by: str | None
    diversity: float
    exact: bool


class Gallery:
    """Garments stored with the embeddings of one model, searched by photo, id or vector.

    A Gallery may be used from many threads at once, and as a context manager. Only one process can write at a time.
    Others can read meanwhile, and they see what has been written.
    """

    def __init__(
        self, place: str | os.PathLike[str], predictor: Predictor | None = None, *, create: bool = True
    ) -> None:
        """Open a gallery, or create one.

        Args:
            place: a folder, or the address http(s)://host:port/collection of a Qdrant cluster, whose key is read from
                QDRANT_API_KEY.
            predictor: predictor with the model that the gallery is bound to. Without one, a gallery can be read,
                exported and searched by vectors and ids, and rows can be removed.
            create: whether to create a gallery if there is none; this needs a predictor.

        Raises:
            GalleryError: there is no gallery, it is damaged, another release wrote it, or it cannot be opened.
            GalleryMismatchError: the predictor's embeddings belong to another embedding space.
            TypeError: `predictor` is no Predictor, such as the name of a model.
            MissingExtraError: faiss, or for a cluster qdrant-client, is not installed.
        """
        if not isinstance(predictor, Predictor | None):
            raise TypeError(f"predictor must be a Predictor, not a {type(predictor).__name__}")
        self.place = os.fspath(place)
        self.predictor = predictor
        self._store = open_store(self.place, facts_of(predictor) if predictor is not None and create else None)
        if predictor is not None:
            try:
                self._check_bound(predictor)
            except GalleryMismatchError:
                self._store.close()
                raise

    @property
    def facts(self) -> Facts:
        """The embedding space and the model that the gallery is bound to."""
        return self._store.facts

    @property
    def columns(self) -> dict[str, str]:
        """The user's columns and their kinds."""
        return dict(self._store.kinds)

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, always in the same order."""
        return iter(self._store)

    def get(self, id: str) -> Row | None:
        """Return the row with this id, or None.

        Raises:
            UsageError: the id is no text, path or whole number.
        """
        return next(iter(self._store.get([text_of_id(id)])), None)

    def add(
        self,
        images: Iterable[ImageSource],
        ids: Iterable[str] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        boxes: Iterable[Sequence[Box] | None] | None = None,
    ) -> AddReport:
        """Add garments. Photos that are stored already and have not changed are skipped, so call it again to update.

        Args:
            images: images of any kind that `read_image` accepts, in any number; they are read lazily, with bounded
                memory.
            ids: id of each image; by default its path as passed. A row that already has this id is replaced.
            payloads: the user's columns of each image, {name: value}; None keeps the stored columns.
            boxes: boxes of the garments in each image, x1 y1 x2 y2 in pixels of the upright image, or None for the
                whole image. Each box becomes a row, and "#n" for the n-th box is appended to its id.

        Returns:
            The result for each garment, in order. A bad image or box does not affect the others.

        Raises:
            GalleryLockedError: another process is writing.
            GalleryError: the gallery cannot be written; rows that were reported before are kept.
            UsageError: there is no predictor, or ids, payloads or boxes are not as many as the images.
        """
        return AddReport(list(self.adding(images, ids, payloads, boxes)))

    def adding(
        self,
        images: Iterable[ImageSource],
        ids: Iterable[str] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        boxes: Iterable[Sequence[Box] | None] | None = None,
    ) -> Generator[Outcome, None, None]:
        """Add lazily: each outcome is yielded once its row is safe on the disk. Close or exhaust the iterator."""
        predictor = self._needed_predictor()
        with self._store.writing():
            yield from add(self._store, predictor, photos_of(images, ids, payloads, boxes))  # type: ignore[arg-type]
            self._settle()

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove rows by their ids, and return how many there were.

        Raises:
            GalleryLockedError: another process is writing.
            UsageError: an id is no text, path or whole number.
            TypeError: `ids` is neither an id nor an iterable of ids.
        """
        with self._store.writing():
            count = self._store.remove(texts_of_ids(ids))
            self._settle()
        return count

    @overload
    def search(
        self, images: list[ImageSource] | tuple[ImageSource, ...] | list[Prediction], **options: Unpack[SearchOptions]
    ) -> list[Hits]: ...
    @overload
    def search(self, images: ImageSource | Prediction, **options: Unpack[SearchOptions]) -> Hits: ...
    @overload
    def search(self, images: None = None, **options: Unpack[SearchOptions]) -> Any: ...

    def search(
        self,
        images: Any = None,
        *,
        ids: str | Sequence[str] | None = None,
        vectors: NDArray[Any] | None = None,
        box: Box | None = None,
        together: bool = False,
        like: str | Sequence[str] = (),
        unlike: str | Sequence[str] = (),
        where: str | Mapping[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        group_by: str | None = None,
        diversity: float = 0.0,
        exact: bool = False,
    ) -> Any:
        """Find the garments that are most similar to a query.

        Args:
            images: a photo, a Prediction that the gallery's model made of one, or a list of photos or of Predictions.
            ids: id of a row, or a list of ids; the row itself is not among its hits.
            vectors: float [D] for one query, or [N, D] for N queries.
            box: box of the garment in the only photo, x1 y1 x2 y2 in pixels of the upright photo.
            together: whether all queries show one thing; their mean is then searched.
            like: ids of rows, or one id, that the hits should resemble; without another query, these are the query.
            unlike: ids of rows, or one id, that the hits should not resemble.
            where: filter as text ("price<=50 and category in (Dress, Skirt)") or dict ({"price": {"lte": 50}}).
            limit: greatest number of hits, or of groups; it is reached if at least as many rows satisfy the filter.
            offset: number of hits to skip before the first one, for paging.
            min_score: cosine similarity below which hits are left out; `Hits.dropped` counts them.
            group_by: a column, such as "item"; only the best row of each value is a hit, and its `views` is the number
                of rows with that value.
            diversity: number in [0, 1]. 0 ranks by similarity to the query alone; the higher it is, the more the hits
                differ from each other.
            exact: whether to compare every row even if the gallery has a graph.

        Returns:
            The Hits of a single query. For a list or for [N, D], a list of Hits in the same order, in which the Hits
            of a bad query have an `error`.

        Raises:
            ImageError: the only photo cannot be used.
            UsageError: a column is unknown, an option is out of range, there is no query, or a photo is the query and
                there is no predictor.
            GalleryError: the only id is not in the gallery.
            TypeError: `ids`, `like` or `unlike` is neither an id nor an iterable of ids.
        """
        options = Options(limit, offset, typed_filter(where, self._store.kinds), exact, group_by, min_score, diversity)
        parsed, is_single = self._queries(images, ids, vectors, box)
        if together and parsed:
            parsed, is_single = [queries.together(parsed)], True
        if like or unlike or not parsed:
            is_single = is_single or not parsed
            parsed = queries.refined_by(self._store, self.place, parsed, like, unlike)
        if is_single and (error := parsed[0].facts.get("error")) is not None:
            raise error
        results = search(self._store, parsed, options)
        return results[0] if is_single else results

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write every row to a Parquet file (docs/gallery.md lists its columns), and return the number of rows.

        Raises:
            OutputError: the file cannot be written.
        """
        from fashion_infer.gallery.parquet import export

        return export(self._store, Path(path))

    @classmethod
    def taking(cls, place: str | os.PathLike[str], source: str | os.PathLike[str]) -> Generator[Outcome, None, None]:
        """Add rows with their embeddings from Parquet to a gallery, which is created if there is none.

        Args:
            place: folder or address of the gallery.
            source: a file that `export` or `fashion-infer embed` wrote, or a folder of such files.

        Raises:
            UsageError: the source is no file of embeddings.
            GalleryMismatchError: the embeddings belong to another space than the gallery's.
        """
        from fashion_infer.gallery.parquet import facts_in
        from fashion_infer.gallery.taking import take

        store = open_store(os.fspath(place), facts_in(Path(source)))
        try:
            with store.writing():
                yield from take(store, Path(source))
                settle(store)
        finally:
            store.close()

    def rebuilding(self, predictor: Predictor, *, prune: bool = False) -> Generator[Outcome, None, None]:
        """Compute every embedding again with another model, from the photos; until the end the old ones are searched.

        A rebuild that was interrupted continues where it stopped. Close or exhaust the iterator.

        Args:
            predictor: predictor with the new model, to which the gallery is bound once the rebuild is complete.
            prune: whether to leave out rows whose photo can no longer be read, instead of keeping all old embeddings.

        Raises:
            GalleryError: some photos cannot be read, and `prune` is False.
        """
        with self._store.writing():
            yield from rebuild(self._store, predictor, facts_of(predictor), prune=prune)
            settle(self._store)

    def duplicates(self, progress: Callable[[int], None] | None = None) -> "Iterator[Pair]":
        """Yield pairs of rows that show the same file, the same photo or the same item; no row is removed.

        Args:
            progress: called with the number of rows that have been compared.
        """
        from fashion_infer.gallery.duplicates import duplicates

        return duplicates(self._store, progress)

    def estimate(
        self,
        images: Iterable[ImageSource],
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> tuple[Counter[str], float]:
        """Estimate what adding whole photos would do, without doing it.

        Args:
            images: images as `add` accepts them.
            payloads: the user's columns of each image, as `add` accepts them.

        Returns:
            The numbers of rows that are "new", "changed", "unchanged" and "failed", and roughly the seconds that the
            network would take.
        """
        photos = photos_of(images, None, payloads, None)  # type: ignore[arg-type]
        return estimate(self._needed_predictor(), planned(self._store, photos))

    def price_of_rebuild(self, predictor: Predictor) -> tuple[int, float]:
        """Estimate a rebuild: the number of rows still to compute, and roughly the seconds that they take."""
        with self._store.writing():
            return price(self._store, predictor, facts_of(predictor))

    def info(self) -> dict[str, Any]:
        """Return what the gallery holds and which model it is bound to, as values that JSON can hold."""
        from fashion_infer.gallery.checking import facts_about  # needs faiss

        return facts_about(self._store)

    def check(self) -> tuple[list[str], float]:
        """Check the gallery for damage.

        Returns:
            The problems as sentences, and the share in [0, 1] of the ten nearest rows that a search finds.

        Raises:
            UsageError: the gallery is on a cluster, which checks itself.
        """
        from fashion_infer.gallery.checking import check  # needs faiss

        return check(self._store)

    def settle(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Wait until the index is up to date. For a large gallery, `add` lets a background thread build it.

        Args:
            progress: called with the number of rows done and the number of all rows.
        """
        with self._store.writing():
            settle(self._store, wait=True, progress=progress)

    def gone(self, folders: Iterable[str]) -> list[Gone]:
        """Return the rows whose photos were in these folders, as passed to `index`, and are no longer there."""
        return gone(self._store, folders)

    def close(self) -> None:
        """Close the files, after waiting for a graph that is being built."""
        self._store.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settle(self) -> None:
        """Bring the index and the match levels up to date after writing."""
        settle(self._store)

    def _needed_predictor(self) -> Predictor:
        if self.predictor is None:
            raise UsageError("photos need a model: open the gallery with a predictor")
        return self.predictor

    def _check_bound(self, predictor: Predictor) -> None:
        bound, new = self.facts, facts_of(predictor)
        if bound.space != new.space:
            raise GalleryMismatchError(
                f"gallery {self.place} holds embeddings of {bound.model} (space {bound.space}), and {new.model} "
                f"gives others (space {new.space}): use {bound.model}, or compute all embeddings again with "
                f"fashion-infer index {self.place} --rebuild {new.model}"
            )

    def _queries(self, images: Any, ids: Any, vectors: Any, box: Box | None) -> tuple[list[Query], bool]:
        """Return the queries, and whether the caller passed a single one outside a list."""
        sources = [source for source in (images, ids, vectors) if source is not None]
        if len(sources) > 1:
            raise UsageError("give only one of images, ids and vectors")
        if box is not None and (images is None or isinstance(images, list | tuple | Prediction)):
            raise UsageError("a box goes with one photo")
        if images is not None:
            return queries.by_photo(self._needed_predictor(), self.facts, images, box), not isinstance(
                images, list | tuple
            )
        if ids is not None:
            return queries.by_id(self._store, self.place, ids), is_single_id(ids)
        if vectors is not None:
            try:
                vectors = np.asarray(vectors)
            except Exception as error:  # of whatever the caller passed
                raise UsageError(f"vectors must be an array of numbers: {error}") from error
            return queries.by_vector(self.facts.dim, vectors), vectors.ndim == 1
        return [], False


def facts_of(predictor: Predictor) -> Facts:
    """Return the embedding space and the model that a gallery made with this predictor is bound to."""
    spec = predictor.spec
    groups = dict(zip(spec.attributes, spec.attribute_groups, strict=True))
    path = predictor.path
    name = path.stem if path.parent == BUILT_IN else str(path.resolve())
    return Facts(spec.embedding_space, spec.embedding_dim, name, predictor.sha256, groups)


def open_store(place: str, create: Facts | None) -> Store:
    """Open the store at a folder or an address; `create` is None, or what a new gallery is bound to.

    Raises:
        MissingExtraError: the extra that the store needs is not installed.
    """
    if place.startswith(("http://", "https://")):
        from fashion_infer.gallery.qdrant import ClusterStore

        return ClusterStore(place, create)
    from fashion_infer.gallery.local import LocalStore

    return LocalStore(Path(place), create)


def settle(store: Store, *, wait: bool = False, progress: Any = None) -> None:
    """Bring the index up to date after writing, and measure the match levels again if that is due."""
    store.settle(wait=wait, progress=progress)
    if match.is_due(store):
        store.set_meta(match.META, match.measure(store, store.sample(match.QUERIES)))
