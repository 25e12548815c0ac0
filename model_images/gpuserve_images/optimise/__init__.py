"""ONNX in, ONNX out: graph optimisation and quantisation."""
