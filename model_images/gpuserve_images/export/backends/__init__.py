"""What runs in the export process: only the standard library, NumPy, ONNX and one framework are imported here.

The process may be another Python environment than gpuserve's own, so nothing outside of this package is imported either.
"""
