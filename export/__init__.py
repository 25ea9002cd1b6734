"""Exporting a checkpoint to one ONNX file; needs the extra `export`."""
