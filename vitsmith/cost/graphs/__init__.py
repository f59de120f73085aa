"""ONNX graphs of any configuration, with random weights: what `vitsmith export` writes, made without torch."""
