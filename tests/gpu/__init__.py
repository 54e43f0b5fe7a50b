"""What can be proved of GPU code without a GPU, beside its values: those the suite has, on the triton backend (`executor.py`)."""
