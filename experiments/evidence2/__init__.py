"""A bijective encoder, trained against a linear classifier."""
