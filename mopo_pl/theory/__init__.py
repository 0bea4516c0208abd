"""The proof behind MOPO's penalty, with each statement as a function that is exact on finite MDPs. It needs only NumPy.

`mdp` and `returns`: MDPs and the values of policies; `distances` and `setting`: admissible penalties u and constants c;
`policies` and `supremum`: the policies that are compared; `statements`: the proof, in its order; `examples`: MDPs to
evaluate the statements on; `report` and `figures`: the output of `python -m mopo_pl theory`.
"""
