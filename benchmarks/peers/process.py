"""A peer's process as its parent sees it."""

import json
import os
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

HERE = Path(__file__).resolve().parent


class PeerProcess:
    """A running peer that waits for requests."""

    def __init__(self, script: str, options: dict[str, Any], python: Path, log: Path) -> None:
        """Start it and wait for its first prediction.

        Args:
            script: file beside this one.
            options: of its `load`, and `first`, the path of the first image.
            python: of the peer's environment.
            log: where what it prints goes.

        Raises:
            RuntimeError: it ended instead.
        """
        command = [str(python), str(HERE / script), json.dumps(options)]
        paths = {"PYTHONPATH": str(HERE.parents[1]), "YOLO_CONFIG_DIR": str(log.parent)}
        self._log = log
        reading, writing = os.pipe()  # for the answers: libraries print to stdout as they like
        with log.open("w") as printed:
            start = perf_counter()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=printed,
                text=True,
                pass_fds=[writing],
                env=os.environ | paths | {"YOLO_AUTOINSTALL": "false", "ANSWERS": str(writing)},
            )
        os.close(writing)
        self._answers = os.fdopen(reading)
        ready = self._read()
        self.first_prediction_s = perf_counter() - start
        self.first_memory_mib: float = ready["memory_mib"]
        self.notes: dict[str, Any] = ready["notes"]

    def ask(self, do: str, **request: Any) -> Any:
        """One request, one answer.

        Raises:
            RuntimeError: the peer answered with an error, or ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End the process."""
        if self._answers.closed:
            return
        self._process.kill()
        self._process.communicate()
        self._answers.close()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the process ended: {self._log.read_text()[-1500:].strip()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
