"""The load generator, a process of its own: photos by POST over kept connections, closed loop or open.

    python load.py '{"url": ..., "photos": [...], "form": null, "mode": "open", "rate": 80, "seconds": 20, "seed": 0}'

Closed: so many connections, each of which asks again when it has its answer. Open: requests come by a Poisson process
whatever the answers do, each on a connection that is free or new. A latency is counted from the moment at which its
request was due, so a generator that falls behind makes it longer, not shorter. Prints JSON: a latency in milliseconds
and a status for each request, and its own CPU seconds.
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
LIMIT_S = 60.0  # for one answer


class Client:
    """Sends photos in turn, and notes what became of each."""

    def __init__(self, url: str, photos: list[Path], form: str | None) -> None:
        self.parts = urlsplit(url)
        self.requests = [self._request(photo.read_bytes(), form) for photo in photos]
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
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
        """One request; status 0 is a connection that broke."""
        body = self.requests[self.count % len(self.requests)]
        self.count += 1
        try:
            async with asyncio.timeout(LIMIT_S):
                reader, writer = self.free.pop() if self.free else await self._connect()
                writer.write(body)
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:-2])
                await reader.readexactly(int(fields["content-length"]))
                status = int(head[9:12])
                if fields.get("connection") == "close":
                    writer.close()
                else:
                    self.free.append((reader, writer))
        except (OSError, EOFError, TimeoutError):
            status = 0
        self.samples.append(((perf_counter() - due) * 1e3, status))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.parts.hostname is not None
        return await asyncio.open_connection(self.parts.hostname, self.parts.port)

    async def closed(self, connections: int, seconds: float) -> None:
        """Ask over so many connections until the time is up."""
        end = perf_counter() + seconds

        async def one() -> None:
            while perf_counter() < end:
                await self.ask(perf_counter())

        await asyncio.gather(*(one() for _ in range(connections)))

    async def open(self, rate: float, count: int, seed: int) -> None:
        """Ask so many times at Poisson's moments."""
        moments, due = random.Random(seed), perf_counter()
        tasks = []
        for _ in range(count):
            due += moments.expovariate(rate)
            await asyncio.sleep(max(0.0, due - perf_counter()))
            tasks.append(asyncio.create_task(self.ask(due)))
        await asyncio.gather(*tasks)


def main(options: dict) -> None:
    """Run one load and print what came of it."""
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
