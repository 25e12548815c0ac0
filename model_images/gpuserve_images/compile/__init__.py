"""ONNX in, engines out: one code path for TensorRT and TensorRT for RTX."""
