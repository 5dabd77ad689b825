"""A checkpoint as one ONNX file that runs without torch: written only once it gives what the checkpoint gives."""
