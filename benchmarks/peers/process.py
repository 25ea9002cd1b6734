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
            log: where its stderr goes.

        Raises:
            RuntimeError: it ended instead.
        """
        command = [str(python), str(HERE / script), json.dumps(options)]
        paths = {"PYTHONPATH": str(HERE.parents[1]), "YOLO_CONFIG_DIR": str(log.parent)}
        self._log = log
        with log.open("w") as errors:
            start = perf_counter()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | paths | {"YOLO_AUTOINSTALL": "false"},
            )
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
        found = self._read()
        if "error" in found:
            raise RuntimeError(found["error"])
        return found["answer"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the process ended: {self._log.read_text()[-1500:].strip()}")
        found: dict[str, Any] = json.loads(line)
        return found
