"""What a file of a model may say, read without trusting it: stored records, plain values, ranges, memory.

Import from the modules themselves. The readers are `twin_dcal.checkpoint` and `twin_dcal.inference.onnx_backend`.
"""
