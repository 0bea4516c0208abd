"""Building blocks of both LightningModules: layers, random generators, functional Adam, compilation, metrics rows."""
