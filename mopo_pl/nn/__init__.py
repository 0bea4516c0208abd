"""What both LightningModules are built of: layers, random streams, Adam as a function, compilation, metrics rows."""
