"""The proof behind the penalty, executed: every statement a function, exact on finite MDPs. NumPy alone.

`mdp` and `returns` are what the statements speak of, `distances` and `constants` what makes u admissible, `policies` and
`supremum` what is compared, `statements` the proof in its order. `draws` and `examples` make MDPs to try them on; `report`
and `figures` show them to people (`python -m mopo_pl theory`).
"""
