"""TensorRT, all of it: its two flavours, building an engine, the engine's file, and running it on an NVIDIA GPU."""
