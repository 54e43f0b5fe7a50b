"""Every quantity of the package once, from its definition, with plain matrices; nothing here imports the package.

Oracles compute in the dtype of the tensors they are given (fp64 is the truth), are differentiable by autograd, and return
one number per row, so that a test can take the mean, the sum or the rows.
"""
