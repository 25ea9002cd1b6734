"""TensorRT: its two flavours, building an engine, the engine's file, and running the engine on an NVIDIA GPU."""
