"""Face recognition networks, each cut into stages: layouts of public weights, ONNX files, and where a face lies."""
