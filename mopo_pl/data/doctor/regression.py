"""`explained`: the R² of linear fits of columns by other columns."""

import numpy as np

MOST = 20_000
"""Largest number of rows, evenly spaced, that a fit and its test use."""
ROUNDING = 1e-5
"""Singular values below this share of the largest one are treated as rounding errors."""


def explained(inputs: np.ndarray, targets: np.ndarray, leave_out: float = 0.0) -> np.ndarray:
    """Return the R² of a least squares fit for each target column, [T]; 0 for a constant column.

    The fit uses the rows with even indices, and R² is computed on the others.

    Args:
        inputs: Explanatory columns, [n, I].
        targets: Columns to be explained, [n, T].
        leave_out: Share of the rows, those with the largest errors, that do not count.

    """
    rows = len(inputs)
    if rows > MOST:
        taken = np.linspace(0, rows - 1, MOST).astype(int)
        inputs, targets, rows = inputs[taken], targets[taken], MOST
    # NumPy's least squares supports neither float16 nor long double.
    inputs, targets = (np.asarray(array, np.float64) for array in (inputs, targets))
    scale = inputs.std(0)
    inputs = (inputs - inputs.mean(0)) / np.where(scale > 0, scale, 1.0)
    inputs = np.concatenate([inputs, np.ones((rows, 1))], 1)
    fitted = np.arange(rows) % 2 == 0
    # Columns that are linearly dependent up to rounding (such as the squares of cosine and sine) get weights of minimal norm.
    weights = np.linalg.lstsq(inputs[fitted], targets[fitted], rcond=ROUNDING)[0]
    errors = np.sort((targets - inputs @ weights)[~fitted] ** 2, axis=0)
    errors = errors[: len(errors) - int(leave_out * len(errors))].mean(0)
    variance = targets[~fitted].var(0)
    return np.where(variance > 0, 1 - errors / np.where(variance > 0, variance, 1.0), 0.0)
