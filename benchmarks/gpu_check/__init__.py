"""`make gpu-check`: what this package does on the GPU that is there, in one command under nine minutes.

    environment    the GPU, its driver, torch and Triton
    suite          the tests of the triton backend, on real CUDA tensors
    sanitizer      a few of them under compute-sanitizer
    behaviour      same bits twice, CUDA graphs, torch.compile, streams, threads, a second GPU, tensors beyond 2³¹ elements
    timing         times and peak memory, ours against the matrix form, torch.compile, flex_attention and installed rivals

It runs in the Python that is there, which needs torch, triton and pytest, builds nothing and asks no network. Each section is
a process of its own, since an illegal access on a GPU ends its process: what it had found by then is kept, and it goes on with
the step after. `--dry` runs the same code without a GPU, on the executor of the tests.
"""
