"""Critics and encoders: looser bounds with better representations, equal bounds with unequal ones, false bounds."""
