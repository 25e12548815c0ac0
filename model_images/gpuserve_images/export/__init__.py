"""From a model in its own framework to ONNX: one small back end per framework, each in a process of its own."""
