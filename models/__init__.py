"""PyTorch networks, their quantized ONNX files, and the integer reference (the oracle)."""
