"""Training FashionNet; needs the extra `train`."""

from fashion_infer.errors import missing_extra

try:
    import safetensors as safetensors
    import timm as timm
    import torch as torch  # checked once for every module of this package
except ImportError as error:
    raise missing_extra(error.name or "torch", "train", error) from error
