"""The gallery: garments that were seen, and those most like a query among them."""

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
from fashion_infer.gallery.rows import Facts, Row
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
    """The keywords of `Gallery.search`."""

    ids: str | Sequence[str] | None
    vectors: NDArray[Any] | None
    box: Box | None
    together: bool
    like: Sequence[str]
    unlike: Sequence[str]
    where: str | Mapping[str, Any] | None
    limit: int
    offset: int
    min_score: float | None
    group_by: str | None
    diversity: float
    exact: bool


class Gallery:
    """Garments, kept with the embeddings of one model, searched by photo, id or vector.

    It may be used from many threads at once, and as a context manager. One process writes at a time; others read beside
    it and see what it has written.
    """

    def __init__(
        self, place: str | os.PathLike[str], predictor: Predictor | None = None, *, create: bool = True
    ) -> None:
        """Open a gallery, or make one.

        Args:
            place: a folder, or http(s)://host:port/collection of a Qdrant cluster (its key in QDRANT_API_KEY).
            predictor: of the model that the gallery is bound to; without one a gallery can be read, exported, cut and
                searched by vectors and ids.
            create: make it where there is none; that needs a predictor.

        Raises:
            GalleryError: no gallery, damaged, of another release, or one that cannot be opened.
            GalleryMismatchError: the predictor's embeddings are of another space.
            MissingExtraError: faiss, or for a cluster qdrant-client, is not installed.
        """
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
        """What it is bound to: embedding space and model."""
        return self._store.facts

    @property
    def columns(self) -> dict[str, str]:
        """The user's columns and their kinds."""
        return dict(self._store.kinds)

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[Row]:
        """Every row, in an order that stays the same."""
        return iter(self._store)

    def get(self, id: str) -> Row | None:
        """The row of an id, None where there is none."""
        return next(iter(self._store.get([id])), None)

    def add(
        self,
        images: Iterable[ImageSource],
        ids: Iterable[str] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        boxes: Iterable[Sequence[Box] | None] | None = None,
    ) -> AddReport:
        """Add garments; what is there already and unchanged is skipped, so adding again is the update.

        Args:
            images: any number of them, as `read_image` takes them; read lazily, with bounded memory.
            ids: of each; by default the path as given. An id that is there already is replaced.
            payloads: the user's own columns of each, {name: value}; None keeps those that are stored.
            boxes: the garments of each, x1 y1 x2 y2 in pixels of the upright photo; each box is a row of its own, whose
                id has "#n" for the n-th at its end. None is the whole photo.

        Returns:
            What became of each garment, in order. A bad image or box fails alone.

        Raises:
            GalleryLockedError: another process is writing.
            GalleryError: the gallery cannot be written; what was reported is kept.
            UsageError: without a predictor, or ids, payloads or boxes that are fewer or more than the images.
        """
        return AddReport(list(self.adding(images, ids, payloads, boxes)))

    def adding(
        self,
        images: Iterable[ImageSource],
        ids: Iterable[str] | None = None,
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
        boxes: Iterable[Sequence[Box] | None] | None = None,
    ) -> Generator[Outcome, None, None]:
        """`add`, lazily: each outcome comes once its row is safe on the disk. Close or exhaust the iterator."""
        predictor = self._needed_predictor()
        with self._store.writing():
            yield from add(self._store, predictor, photos_of(images, ids, payloads, boxes))  # type: ignore[arg-type]
            self._settle()

    def remove(self, ids: str | Sequence[str]) -> int:
        """Remove rows by their ids; says how many there were.

        Raises:
            GalleryLockedError: another process is writing.
        """
        with self._store.writing():
            count = self._store.remove([ids] if isinstance(ids, str) else list(ids))
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
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        where: str | Mapping[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        group_by: str | None = None,
        diversity: float = 0.0,
        exact: bool = False,
    ) -> Any:
        """The garments most like a query.

        Args:
            images: a photo, or the Prediction that the gallery's model made of one; a list of photos or of Predictions.
            ids: a row's id, or a list of them; the row itself is no hit.
            vectors: float [D], or [N, D] for N queries.
            box: of the garment in the photo, pixels of the upright photo.
            together: the queries show one thing: one search by their mean.
            like: ids that the hits should be more like; alone, they are the query.
            unlike: ids that the hits should be less like.
            where: a filter, as text ("price<=50 and category in (Dress, Skirt)") or dict ({"price": {"lte": 50}}).
            limit: hits (or groups), so many as long as there are that many.
            offset: hits before the first one given, for paging.
            min_score: hits that score less are left out; `dropped` says how many.
            group_by: a column, such as "item": only the best row of each value; its `views` counts the others too.
            diversity: 0 is by likeness alone; towards 1 the hits also differ from each other.
            exact: compare every row, also where the gallery has a graph to search.

        Returns:
            The Hits of a query; for a list, or [N, D], a list of Hits in that order, in which a bad query has `error`.

        Raises:
            ImageError: the only photo is bad.
            UsageError: an unknown column, an option out of range, no query, or photos without a predictor.
            GalleryError: the only id is not there.
        """
        options = Options(limit, offset, typed_filter(where, self._store.kinds), exact, group_by, min_score, diversity)
        asked, alone = self._queries(images, ids, vectors, box)
        if together and asked:
            asked, alone = [queries.together(asked)], True
        if like or unlike or not asked:
            alone = alone or not asked
            asked = queries.refined_by(self._store, self.place, asked, like, unlike)
        if alone and (error := asked[0].facts.get("error")) is not None:
            raise error
        results = search(self._store, asked, options)
        return results[0] if alone else results

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write every row to a Parquet file (columns as in docs/gallery.md); says how many.

        Raises:
            GalleryError: the file cannot be written.
        """
        from fashion_infer.gallery.parquet import export

        return export(self._store, Path(path))

    @classmethod
    def taking(cls, place: str | os.PathLike[str], source: str | os.PathLike[str]) -> Generator[Outcome, None, None]:
        """Add rows with their embeddings from Parquet, to a gallery that is made where there is none.

        Args:
            place: of the gallery.
            source: a file that `export` or `fashion-infer embed` wrote, or a folder of them.

        Raises:
            UsageError: it holds no embeddings of ours.
            GalleryMismatchError: they are of another space than the gallery's.
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
        """Make every embedding anew by another model, from the photos; the old ones serve until the last is done.

        A rebuild that was broken off goes on where it stopped. Close or exhaust the iterator.

        Args:
            predictor: of the new model; the gallery is bound to it from the end on.
            prune: leave out rows whose photo can no longer be read, instead of staying with the old ones.

        Raises:
            GalleryError: photos cannot be read, and not `prune`.
        """
        with self._store.writing():
            yield from rebuild(self._store, predictor, facts_of(predictor), prune=prune)
            settle(self._store)

    def duplicates(self, progress: Callable[[int], None] | None = None) -> "Iterator[Pair]":
        """Pairs of rows that show the same file, the same photo or the same item; nothing is dropped.

        Args:
            progress: called with the number of rows looked at.
        """
        from fashion_infer.gallery.duplicates import duplicates

        return duplicates(self._store, progress)

    def estimate(
        self,
        images: Iterable[ImageSource],
        payloads: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> tuple[Counter[str], float]:
        """What adding whole photos would do, without doing it.

        Returns:
            How many rows are "new", "changed", "unchanged" and "failed", and the seconds that they would take about.
        """
        photos = photos_of(images, None, payloads, None)  # type: ignore[arg-type]
        return estimate(self._needed_predictor(), planned(self._store, photos))

    def price_of_rebuild(self, predictor: Predictor) -> tuple[int, float]:
        """How many rows `rebuilding` has yet to compute, and about how many seconds that takes."""
        with self._store.writing():
            return price(self._store, predictor, facts_of(predictor))

    def info(self) -> dict[str, Any]:
        """What it holds and is bound to, in plain values."""
        from fashion_infer.gallery.checking import facts_about  # below an extra

        return facts_about(self._store)

    def check(self) -> tuple[list[str], float]:
        """Look for damage.

        Returns:
            What is wrong, in sentences, and the share of the ten nearest that a search finds, in [0, 1].

        Raises:
            UsageError: the gallery lies on a cluster, which checks itself.
        """
        from fashion_infer.gallery.checking import check  # below an extra

        return check(self._store)

    def settle(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Wait until the index is up to date, which `add` leaves to the background for a large gallery.

        Args:
            progress: called with the rows done, and all of them.
        """
        with self._store.writing():
            settle(self._store, wait=True, progress=progress)

    def gone(self, folders: Iterable[str]) -> list[Gone]:
        """Rows whose photos lay in these folders, as they were given, and are not there any more."""
        return gone(self._store, folders)

    def close(self) -> None:
        """Let go of the files; a graph that is being built comes to its end first."""
        self._store.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settle(self) -> None:
        """After writing: keep index and match levels in step with the rows."""
        settle(self._store)

    def _needed_predictor(self) -> Predictor:
        if self.predictor is None:
            raise UsageError("photos need a model: open the gallery with a predictor")
        return self.predictor

    def _check_bound(self, predictor: Predictor) -> None:
        held, offered = self.facts, facts_of(predictor)
        if held.space != offered.space:
            raise GalleryMismatchError(
                f"gallery {self.place} holds embeddings of {held.model} (space {held.space}), and {offered.model} "
                f"gives others (space {offered.space}): use {held.model}, or make all embeddings anew with "
                f"fashion-infer index {self.place} --rebuild {offered.model}"
            )

    def _queries(self, images: Any, ids: Any, vectors: Any, box: Box | None) -> tuple[list[Query], bool]:
        """The queries, and whether there is but one, that was not in a list."""
        kinds = [what for what in (images, ids, vectors) if what is not None]
        if len(kinds) > 1:
            raise UsageError("give images, ids or vectors, one of them")
        if box is not None and (images is None or isinstance(images, list | tuple | Prediction)):
            raise UsageError("a box goes with one photo")
        if images is not None:
            return queries.by_photo(self._needed_predictor(), self.facts, images, box), not isinstance(
                images, list | tuple
            )
        if ids is not None:
            return queries.by_id(self._store, self.place, [ids] if isinstance(ids, str) else list(ids)), isinstance(
                ids, str
            )
        if vectors is not None:
            return queries.by_vector(self.facts.dim, np.asarray(vectors)), np.ndim(vectors) == 1
        return [], False


def facts_of(predictor: Predictor) -> Facts:
    """What a gallery made with a predictor is bound to."""
    spec = predictor.spec
    groups = dict(zip(spec.attributes, spec.attribute_groups, strict=True))
    path = predictor.path
    name = path.stem if path.parent == BUILT_IN else str(path.resolve())
    return Facts(spec.embedding_space, spec.embedding_dim, name, predictor.sha256, groups)


def open_store(place: str, create: Facts | None) -> Store:
    """The store of a place; the extra that it needs is named when it is missing."""
    if place.startswith(("http://", "https://")):
        from fashion_infer.gallery.qdrant import ClusterStore

        return ClusterStore(place, create)
    from fashion_infer.gallery.local import LocalStore

    return LocalStore(Path(place), create)


def settle(store: Store, *, wait: bool = False, progress: Any = None) -> None:
    """After writing: bring the index up to date and measure anew what a score means, where that is due."""
    store.settle(wait=wait, progress=progress)
    if match.is_due(store):
        store.set_meta(match.META, match.measure(store, store.sample(match.QUERIES)))
