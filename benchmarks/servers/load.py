"""The load generator, a process of its own: it posts photos over kept connections, in a closed or an open loop.

    python load.py '{"url": ..., "photos": [...], "form": null, "mode": "open", "rate": 80, "seconds": 20, "seed": 0}'

In the closed loop each of some connections sends its next request when the last one was answered. In the open loop
requests start as a Poisson process, whether or not the earlier ones were answered, each on a free connection or a new
one. A latency counts from the moment at which its request was due, so a generator that falls behind makes it longer,
not shorter. The output is JSON: a latency in milliseconds and a status for each request, and the generator's own CPU
seconds.
"""

import asyncio
import json
import random
import resource
import sys
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

BOUNDARY = "photo-boundary"
LIMIT_S = 60.0  # time limit of a request
IDLE_S = 2.0  # idle time after which a connection is not used again; servers close theirs after 5 seconds


class Client:
    """Sends the photos in turn and keeps the latency and status of each request."""

    def __init__(self, url: str, photos: list[Path], form: str | None) -> None:
        self.parts = urlsplit(url)
        self.requests = [self._request(photo.read_bytes(), form) for photo in photos]
        self.free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []  # with the time of the last use
        self.samples: list[tuple[float, int]] = []
        self.count = 0

    def _request(self, photo: bytes, form: str | None) -> bytes:
        kind = "image/jpeg"
        if form is not None:
            head = f'Content-Disposition: form-data; name="{form}"; filename="a.jpg"\r\nContent-Type: image/jpeg'
            photo = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()
            kind = f"multipart/form-data; boundary={BOUNDARY}"
        lines = [f"POST {self.parts.path} HTTP/1.1", f"Host: {self.parts.netloc}", f"Content-Type: {kind}"]
        return "\r\n".join([*lines, f"Content-Length: {len(photo)}", "", ""]).encode() + photo

    async def ask(self, due: float) -> None:
        """Send one request; status 0 stands for a connection that broke."""
        body = self.requests[self.count % len(self.requests)]
        self.count += 1
        try:
            async with asyncio.timeout(LIMIT_S):
                reader, writer = await self._connection()
                writer.write(body)
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:-2])
                await reader.readexactly(int(fields["content-length"]))
                status = int(head[9:12])
                if fields.get("connection") == "close":
                    writer.close()
                else:
                    self.free.append((perf_counter(), reader, writer))
        except (OSError, EOFError, TimeoutError):
            status = 0
        self.samples.append(((perf_counter() - due) * 1e3, status))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.free:
            used, reader, writer = self.free.pop()
            if perf_counter() - used < IDLE_S:
                return reader, writer
            writer.close()
        assert self.parts.hostname is not None
        return await asyncio.open_connection(self.parts.hostname, self.parts.port)

    async def closed(self, connections: int, seconds: float) -> None:
        """Send requests over this many connections until the time is up."""
        end = perf_counter() + seconds

        async def one() -> None:
            while perf_counter() < end:
                await self.ask(perf_counter())

        await asyncio.gather(*(one() for _ in range(connections)))

    async def open(self, rate: float, count: int, seed: int) -> None:
        """Send this many requests, which start as a Poisson process with this rate per second."""
        moments, due = random.Random(seed), perf_counter()
        tasks = []
        for _ in range(count):
            due += moments.expovariate(rate)
            await asyncio.sleep(max(0.0, due - perf_counter()))
            tasks.append(asyncio.create_task(self.ask(due)))
        await asyncio.gather(*tasks)


def main(options: dict) -> None:
    """Run one load and print its result."""
    client = Client(options["url"], [Path(photo) for photo in options["photos"]], options["form"])
    start = perf_counter()
    if options["mode"] == "closed":
        asyncio.run(client.closed(options["connections"], options["seconds"]))
    else:
        count = options.get("count") or max(1, round(options["rate"] * options["seconds"]))
        asyncio.run(client.open(options["rate"], count, options["seed"]))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"seconds": perf_counter() - start, "cpu_s": usage.ru_utime + usage.ru_stime, "samples": client.samples}
    print(json.dumps(facts))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
