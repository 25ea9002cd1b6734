"""Requests from several threads, and from asyncio."""

# --8<-- [start:threads]
from concurrent.futures import ThreadPoolExecutor

from fashion_infer import Predictor

predictor = Predictor("fashionnet-lite", max_delay_ms=2)


def answer(path: str) -> str:
    return predictor.submit(path, deadline_ms=5000).result().category.name


with ThreadPoolExecutor(8) as clients:
    names = list(clients.map(answer, ["a.jpg", "b.jpg", "photo.jpg"]))
# --8<-- [end:threads]
# --8<-- [start:asyncio]
import asyncio


async def answers(paths: list[str]) -> list[str]:
    predictions = await asyncio.gather(*(predictor.apredict(path) for path in paths))
    return [prediction.category.name for prediction in predictions]


same_names = asyncio.run(answers(["a.jpg", "b.jpg", "photo.jpg"]))
predictor.close()
# --8<-- [end:asyncio]

assert names == same_names
