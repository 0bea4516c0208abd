"""How much of some columns a linear function of others explains."""

import numpy as np

MOST = 20_000
"""Rows that are looked at."""
ROUNDING = 1e-5
"""Share of the largest singular value below which a direction is rounding."""


def explained(inputs: np.ndarray, targets: np.ndarray, leave_out: float = 0.0) -> np.ndarray:
    """Return R² of least squares on rows that it was not fitted to, for each target column; 0 where a column is constant.

    Args:
        inputs: What explains [n, I].
        targets: What is explained [n, T].
        leave_out: Share of the rows, those with the largest errors, that do not count.

    """
    rows = len(inputs)
    if rows > MOST:
        taken = np.linspace(0, rows - 1, MOST).astype(int)
        inputs, targets, rows = inputs[taken], targets[taken], MOST
    # Least squares know neither float16 nor long double.
    inputs, targets = (np.asarray(array, np.float64) for array in (inputs, targets))
    scale = inputs.std(0)
    inputs = (inputs - inputs.mean(0)) / np.where(scale > 0, scale, 1.0)
    inputs = np.concatenate([inputs, np.ones((rows, 1))], 1)
    fitted = np.arange(rows) % 2 == 0
    # Columns of which one is a function of the others up to rounding (cosine, sine and their squares) have no weights of their own.
    weights = np.linalg.lstsq(inputs[fitted], targets[fitted], rcond=ROUNDING)[0]
    errors = np.sort((targets - inputs @ weights)[~fitted] ** 2, axis=0)
    errors = errors[: len(errors) - int(leave_out * len(errors))].mean(0)
    variance = targets[~fitted].var(0)
    return np.where(variance > 0, 1 - errors / np.where(variance > 0, variance, 1.0), 0.0)
