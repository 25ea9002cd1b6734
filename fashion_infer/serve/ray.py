"""The server on a Ray cluster: the same application in every replica of a Ray Serve deployment.

    serve run fashion_infer.serve.ray:build model=fashionnet-lite replicas=2

Ray's proxies take the requests and hand each to a replica. Only one queue is long, the one of each replica's Predictor,
which refuses what would wait too long: a replica accepts as many requests as that queue holds, and Ray keeps few.
"""

from pathlib import Path
from typing import Any

from fashion_infer.errors import missing_extra
from fashion_infer.gallery import Gallery
from fashion_infer.predictor import Predictor

try:
    from pydantic import BaseModel, ConfigDict, Field
    from ray import serve
except ImportError as error:
    raise missing_extra("ray", "ray", error) from error

QUEUE = 1024  # requests in a replica at once: what its Predictor lets wait
WAITING = 64  # requests in a proxy at once that no replica has accepted; one more is answered with 503


class Arguments(BaseModel):
    """What `build` takes, on the command line of Ray Serve or in its configuration file.

    Attributes:
        model: path, the same on every node, or a built-in name.
        gallery: of the searches; for several nodes http(s)://host:port/collection of a Qdrant cluster.
        replicas: processes with a Predictor each, at least 1.
        cpus: of each replica, for Ray's bookkeeping; its Predictor uses the cores that the process may use, or
            `threads` of them.
        gpus: of each replica; 0.5 lets two share one.
        device: "cuda:0" for a replica with a share of a GPU, which is the first that it sees.
        backend: as of `Predictor`.
        threads: likewise.
        max_wait_ms: milliseconds that a request may wait before it is refused.
        api_key_file: of a file with the key that requests must bring, on every node.
        root_path: the path below which a proxy in front of Ray's serves the application.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    gallery: str | None = None
    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    device: str | None = None
    backend: str | None = None
    threads: int | None = Field(default=None, ge=1)
    max_wait_ms: float = Field(default=100.0, gt=0)
    api_key_file: Path | None = None
    root_path: str = ""


def build(arguments: Arguments) -> serve.Application:
    """The Ray Serve application, for `serve run fashion_infer.serve.ray:build model=NAME` and `ray.serve.run`.

    Args:
        arguments: see there.
    """
    values = arguments.model_dump()

    def make() -> Any:  # Ray calls it in the replica; it must be a plain function
        return _application(Arguments(**values))

    replica = serve.ingress(make)()
    deployment: Any = serve.deployment(
        replica,
        name="fashion-infer",
        num_replicas=arguments.replicas,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
        max_ongoing_requests=QUEUE,
        max_queued_requests=WAITING,
    )
    bound: serve.Application = deployment.bind()
    return bound


def _application(options: Arguments) -> Any:
    """The application of one replica, made in its process."""
    from fashion_infer.serve.app import application
    from fashion_infer.serve.keys import read_key

    predictor = Predictor(
        options.model, device=options.device, backend=options.backend, threads=options.threads, max_queue=QUEUE
    )
    gallery = None if options.gallery is None else Gallery(options.gallery, predictor)
    return application(
        predictor,
        gallery,
        max_wait_ms=options.max_wait_ms,
        api_key=None if options.api_key_file is None else read_key(options.api_key_file),
        root_path=options.root_path,
    )
