"""The engine's state and kernels on a device: an NVIDIA GPU, or the CPU as if it were one.

One source: `threads.py` calls the same scalar functions that the CPU's loops call.
"""
