"""What every stage knows of an ONNX file: that it is whole, its signature, and how to run it."""
