"""What the Triton kernels cost on GPUs that are not here: their machine code, compiled ahead of time, counted."""
