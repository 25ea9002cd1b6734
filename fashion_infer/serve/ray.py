"""The server on a Ray cluster: every replica of a Ray Serve deployment runs the same application.

    serve run fashion_infer.serve.ray:build model=fashionnet-lite replicas=2

Ray's proxies accept the requests and pass each to a replica. The queue of a replica's Predictor refuses images that
would wait too long, so it is the only long one: a replica accepts as many requests as this queue holds, and Ray's own
queue is short.
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

QUEUE = 1024  # most requests in a replica at once, equal to the max_queue of its Predictor
WAITING = 64  # most requests in a proxy that no replica has accepted; further ones are answered with 503


class Arguments(BaseModel):
    """Arguments of `build`, from the command line of Ray Serve or from its configuration file.

    Attributes:
        model: name of a built-in model, or a path that is the same on every node.
        gallery: the gallery to search; for several nodes http(s)://host:port/collection of a Qdrant cluster. None for a
            server without a gallery.
        replicas: number of processes, each with its own Predictor, at least 1.
        cpus: cores that Ray reserves for each replica. Ray does not enforce this: the replica's Predictor uses all
            cores that its process may use, or `threads` of them.
        gpus: GPUs that Ray reserves for each replica; with 0.5 two replicas share one.
        device: device of each replica's Predictor; "cuda:0" for replicas with a GPU, because each sees its own GPU as
            the first one.
        backend: backend of each replica's Predictor; None chooses one by the file and the device.
        threads: CPU threads of each session of the Predictor; None uses the cores that the process may use.
        max_wait_ms: longest estimated waiting time of an image, milliseconds; a longer one is answered with a 503.
        api_key_file: path, the same on every node, of the file with the key that requests must send; None for no key.
        root_path: prefix of every path, such as /fashion, if a proxy serves the application under one.
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
    """Make the Ray Serve application, for `serve run fashion_infer.serve.ray:build model=NAME` or `ray.serve.run`.

    Args:
        arguments: the model and the settings of the replicas.

    Returns:
        The application, whose replicas load the model when Ray starts them.
    """
    values = arguments.model_dump()

    def make() -> Any:  # called in the replica; Ray requires a plain function
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
    """Make the ASGI application of one replica, in the replica's process."""
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
