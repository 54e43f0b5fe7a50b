"""The vocabulary in which a pairwise problem is stated. Every room may import it; it imports torch and the checks alone.

score     the score of each pair, never stored
exclude   which pairs are excluded
phi, psi  the scalar functions of a score and of a sum
row_loss  whole losses of rows
types     further arguments of backends, and their results
"""
