"""Which weights make an embedding, and whether a converted file's embeddings are still the same ones."""

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import missing_extra
from fashion_infer.model_spec import MIN_EMBEDDING_COSINE, ModelSpec

try:
    from onnx import GraphProto, numpy_helper
except ImportError as error:
    raise missing_extra("onnx", "export", error) from error


def hash_of_embedding(graph: GraphProto) -> str:
    """sha256, in hexadecimal, of the weights from which a path leads to the embedding, in the order of their use.

    A landmark or a gate moves the pooling windows, so the pose head counts, and the heads of category and attributes do
    not.
    """
    producers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    reached: set[str] = set()
    pending = ["embedding"]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += producers[name].input if name in producers else []
    digest = hashlib.sha256()
    for name in dict.fromkeys(name for node in graph.node for name in node.input):
        if name in reached and name in weights:
            values = numpy_helper.to_array(weights[name])
            digest.update(f"{values.dtype} {list(values.shape)}\n".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def converted_spec(
    spec: ModelSpec, ours: NDArray[np.float32], theirs: NDArray[np.float32], *, precision: str, real: bool
) -> ModelSpec:
    """The spec of a file in another precision: of the same space where both files' embeddings agree on real pictures.

    Args:
        spec: of the file that was converted.
        ours: its embeddings of some pictures, [N, D] of unit length.
        theirs: those of the new file.
        precision: of the new file.
        real: whether the pictures are the user's, not rendered ones.
    """
    cosine = float(np.nan_to_num((ours * theirs).sum(axis=1), nan=-1.0).mean())
    if real and cosine >= MIN_EMBEDDING_COSINE:
        return dataclasses.replace(spec, embedding_cosine=cosine)
    other = hashlib.sha256(f"{spec.embedding_sha256 or spec.weights_sha256} {precision}".encode()).hexdigest()
    return dataclasses.replace(spec, embedding_sha256=other, embedding_cosine=cosine if real else None)
