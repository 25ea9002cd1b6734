"""Identity of embedding spaces: the hash of an embedding's weights, and the space of a converted file."""

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
    """The sha256, in hexadecimal, of all weights that influence the embedding, in the order of their use.

    The weights of the pose head are included, because landmarks and gates determine the pooled features. Those of the
    heads for category and attributes are not.
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
    spec: ModelSpec, expected: NDArray[np.float32], embeddings: NDArray[np.float32], *, precision: str, real: bool
) -> ModelSpec:
    """Make the ModelSpec of a file that was converted to another precision.

    It keeps the embedding space if the embeddings of both files agree on real pictures: if their mean cosine is at
    least MIN_EMBEDDING_COSINE. Otherwise it gets a new one.

    Args:
        spec: specification of the original file.
        expected: the original file's embeddings of some pictures, [N, D] of unit length.
        embeddings: the converted file's embeddings of the same pictures, [N, D] of unit length.
        precision: precision of the converted file.
        real: whether the pictures are real ones, not rendered ones.
    """
    cosine = float(np.nan_to_num((expected * embeddings).sum(axis=1), nan=-1.0).mean())
    if real and cosine >= MIN_EMBEDDING_COSINE:
        return dataclasses.replace(spec, embedding_cosine=cosine)
    other = hashlib.sha256(f"{spec.embedding_sha256 or spec.weights_sha256} {precision}".encode()).hexdigest()
    return dataclasses.replace(spec, embedding_sha256=other, embedding_cosine=cosine if real else None)
