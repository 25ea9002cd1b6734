"""Who may come in: how long a new request would wait for those before it, and whether the network still answers."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from fashion_infer.serve.problems import RefusedError

WEIGHT = 1 / 64  # of the newest interval in the mean
STALLED_S = 10.0  # without any result while images wait: the network hangs


class Admission:
    """Counts the images that are being worked on, and learns from their pace how long a new one would wait.

    It belongs to the event loop's thread.

    Attributes:
        max_wait: seconds that an image may wait for those before it.
        cores: images that are worked on at once without one waiting for another.
        pending: images that were admitted and are not answered yet.
        per_image: seconds between two results when all cores are busy.
    """

    def __init__(self, max_wait: float, cores: int) -> None:
        self.max_wait, self.cores = max_wait, cores
        self.pending = 0
        self.per_image = 0.0
        self._last_result = monotonic()
        self._was_busy = False  # at the last result, and ever since
        self._numbers = itertools.count()
        self._since: dict[int, float] = {}  # when each group that is pending was admitted, oldest first

    def expected_wait(self) -> float:
        """Seconds that an image would wait that came now."""
        return max(0, self.pending + 1 - self.cores) * self.per_image

    def check(self) -> None:
        """Raise RefusedError (503) where an image would wait too long."""
        wait = self.expected_wait()
        if wait > self.max_wait:
            detail = (
                f"{self.pending} images are before yours, which would wait {wait * 1e3:.0f} ms; at most "
                f"{self.max_wait * 1e3:.0f} ms are allowed (--max-wait-ms): try again later, or elsewhere"
            )
            raise RefusedError(503, detail, name="OverloadedError", retry_after=wait - self.max_wait)

    @contextmanager
    def admitted(self, images: int) -> Iterator[None]:
        """Work on some images of one request.

        Raises:
            RefusedError: they would wait too long.
        """
        self.check()
        number = next(self._numbers)
        self._since[number] = monotonic()
        self.pending += images
        try:
            yield
            self._learn(images)
        finally:
            self.pending -= images
            del self._since[number]
            self._was_busy = self._was_busy and self.pending >= self.cores

    def _learn(self, images: int) -> None:
        now = monotonic()
        if self._was_busy:
            for _ in range(images):
                self.per_image += WEIGHT * ((now - self._last_result) / images - self.per_image)
        self._last_result = now
        self._was_busy = self.pending >= self.cores

    def is_stalled(self) -> bool:
        """Whether images have waited for long without any result."""
        if not self._since:
            return False
        oldest = next(iter(self._since.values()))
        return monotonic() - max(oldest, self._last_result) > STALLED_S
