"""ONNX in, engines out."""
