"""The engine of onnxruntime."""
