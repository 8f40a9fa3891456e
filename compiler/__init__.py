"""Lower quantized ONNX graphs to accelerator programs."""
