"""Admission control: estimate how long a new image would wait, refuse it if that is too long, detect a stall."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from fashion_infer.serve.problems import RefusedError

WEIGHT = 1 / 64  # weight of the newest interval in the running mean
STALLED_S = 10.0  # the network hangs if images wait and no result arrives for this many seconds


class Admission:
    """Counter of admitted images, which estimates from the pace of the results how long a new image would wait.

    Only the thread of the event loop may use it.

    Attributes:
        max_wait: longest allowed estimate of an image's waiting time, seconds.
        cores: number of images that can be processed at the same time.
        pending: number of images that were admitted and are not answered yet.
        per_image: mean seconds between two results while all cores are busy.
    """

    def __init__(self, max_wait: float, cores: int) -> None:
        self.max_wait, self.cores = max_wait, cores
        self.pending = 0
        self.per_image = 0.0
        self._last_result = monotonic()
        self._was_busy = False  # whether all cores were busy at the last result and have been since
        self._numbers = itertools.count()
        self._since: dict[int, float] = {}  # time of admission of each pending group, oldest first

    def expected_wait(self) -> float:
        """Seconds that an image would wait if it arrived now."""
        return max(0, self.pending + 1 - self.cores) * self.per_image

    def check(self) -> None:
        """Raise RefusedError (503) if an image that arrived now would wait too long."""
        wait = self.expected_wait()
        if wait > self.max_wait:
            detail = (
                f"{self.pending} images are before yours, which would wait {wait * 1e3:.0f} ms; at most "
                f"{self.max_wait * 1e3:.0f} ms are allowed (--max-wait-ms): try again later, or elsewhere"
            )
            raise RefusedError(503, detail, name="OverloadedError", retry_after=wait - self.max_wait)

    @contextmanager
    def admitted(self, images: int) -> Iterator[None]:
        """Count a request's images as pending inside the `with` block, and learn from the time that they took.

        Args:
            images: number of images in the request, at least 1.

        Raises:
            RefusedError: the images would wait too long.
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
        """Update `per_image` with the time since the last result, if all cores were busy all that time."""
        now = monotonic()
        if self._was_busy:
            for _ in range(images):
                self.per_image += WEIGHT * ((now - self._last_result) / images - self.per_image)
        self._last_result = now
        self._was_busy = self.pending >= self.cores

    def is_stalled(self) -> bool:
        """Whether images have waited for more than STALLED_S seconds without any result."""
        if not self._since:
            return False
        oldest = next(iter(self._since.values()))
        return monotonic() - max(oldest, self._last_result) > STALLED_S
