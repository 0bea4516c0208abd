"""Run the policy in policy.npz, with NumPy alone. Python 3.8 and NumPy 1.20 suffice.

    from run_policy import Policy

    policy = Policy()                 # policy.npz next to this file
    action = policy(observation)      # [D] or [B, D], or a dict by column name; returns [A] or [B, A] float32

`python run_policy.py` prints the inputs and outputs of the policy; `python run_policy.py --check` replays vectors.npz.

This file is part of mopo_pl, licence MIT. The weights in policy.npz have the licence that their metadata state.
"""

import hashlib
import json
import os
import sys
from fnmatch import fnmatchcase

import numpy as np

FORMAT = 1
HERE = os.path.dirname(os.path.abspath(__file__))
ON_INVALID = ("error", "last", "safe_action")


class Policy:
    """A policy that maps observations to actions within their bounds, both in the environment's units.

    The action is low + (tanh mu(s) + 1)/2 * (high - low), which is deterministic. mu is a network with ReLU that includes its scaling.

    `metadata`: the metadata in policy.npz. `outside_now`: columns of the last call beyond the range of the log.
    `invalid`: how many observations so far were not finite.
    """

    def __init__(self, path=None, on_invalid="error", safe_action=None, rate_limits=None):
        """Read policy.npz.

        path: the file (default: policy.npz next to this one).
        on_invalid: the reaction to an observation with NaN or inf, or at which the network overflows: "error" (ValueError), "last" (the
            last action, or safe_action where there is none yet), or "safe_action".
        safe_action: one number for each action, within the bounds.
        rate_limits: largest change of an action in one step, by name or pattern of names; the first step is not limited.

        A policy with a history, the reaction "last" or a rate limit remembers its last step: call it once a step, and
        `reset` before each episode.
        """
        path = os.path.expanduser(path or os.path.join(HERE, "policy.npz"))
        arrays = arrays_of(path)
        self.metadata = json.loads(str(arrays.pop("metadata")))
        if self.metadata["format"] > FORMAT:
            raise ValueError("%s is of a newer format than this run_policy.py: copy the one beside it" % path)
        self.sha256 = digest_of(arrays)
        signals = self.metadata["observations"], self.metadata["actions"]
        self.names, self.action_names = signals[0]["names"], signals[1]["names"]
        self.history = self.metadata["history"]
        self.obs_dim, self.action_dim = len(self.names), len(self.action_names)
        self._mean, self._std = arrays["mean"], arrays["std"]
        self._low, self._high = arrays["action_low"], arrays["action_high"]
        layers = sum(name.startswith("weight_") for name in arrays)
        self._layers = [(arrays["weight_%d" % i], arrays["bias_%d" % i]) for i in range(layers)]
        # Without a known range, these are the largest numbers of float32: one comparison finds NaN, inf and values outside the range.
        most = np.full(self.obs_dim, np.finfo(np.float32).max, np.float32)
        self._ranged = signals[0]["low"] is not None
        self._seen_low = np.array(signals[0]["low"], np.float32) if self._ranged else -most
        self._seen_high = np.array(signals[0]["high"], np.float32) if self._ranged else most
        self._counts = np.zeros(self.obs_dim, np.int64)
        self.outside_now, self.invalid = (), 0
        self._configure(on_invalid, safe_action, rate_limits or {})
        self._prepare()
        self.reset()

    def _configure(self, on_invalid, safe_action, rate_limits):
        if on_invalid not in ON_INVALID:
            raise ValueError("on_invalid=%r is none of %s" % (on_invalid, ", ".join(ON_INVALID)))
        if on_invalid == "safe_action" and safe_action is None:
            raise ValueError("on_invalid='safe_action' needs safe_action=[...], one number for each action column")
        self._on_invalid, self._safe = on_invalid, None
        if safe_action is not None:
            given = array_of(safe_action)
            numeric = given.dtype.kind in "biuf"
            with np.errstate(over="ignore"):
                safe = given.astype(np.float32) if numeric else np.empty(0, np.float32)
            if safe.shape != self._low.shape or not np.all((safe >= self._low) & (safe <= self._high)):
                told = safe_action.tolist() if hasattr(safe_action, "tolist") else safe_action
                bounds = self._low.tolist(), self._high.tolist()
                raise ValueError("safe_action=%r is no action within the bounds %s to %s" % ((told, *bounds)))
            self._safe = safe
        limits = np.full(self.action_dim, np.inf, np.float32)
        for entry, limit in rate_limits.items():
            taken = [name == entry or fnmatchcase(name, str(entry)) for name in self.action_names]
            number = array_of(limit)
            with np.errstate(over="ignore", under="ignore"):
                known = number.dtype.kind in "biuf" and number.ndim == 0 and number.astype(np.float32) > 0
            if not any(taken) or not known:
                wrong = "is not above 0" if any(taken) else "is of no action column: " + ", ".join(self.action_names)
                raise ValueError("rate_limits: %s=%s %s" % (entry, limit, wrong))
            with np.errstate(over="ignore"):
                limits[np.array(taken)] = number
        self._limits = limits if rate_limits else None

    def _prepare(self):
        """Allocate buffers for one observation, so that the fast call allocates only the action that it returns."""
        # Within the range of the log no number overflows; without a known range the general call checks for overflow.
        self._quick = self.history == 1 and self._on_invalid != "last" and self._limits is None and self._ranged
        self._shape = (self.obs_dim,)
        self._raw, self._x = np.empty(self._shape, np.float64), np.empty(self._shape, np.float32)
        self._above, self._below = np.empty(self._shape, np.bool_), np.empty(self._shape, np.bool_)
        self._all_inside = np.ones(self._shape, np.bool_).tobytes()
        # Column-major weights: the product then sums over columns, which is faster for wide layers with few inputs.
        self._steps = [(np.asfortranarray(w), b, np.empty(len(b), np.float32)) for w, b in self._layers[:-1]]
        weight, bias = self._layers[-1]
        self._head = np.ascontiguousarray(weight[: self.action_dim]), bias[: self.action_dim].copy()
        self._u, self._zero = np.empty(self.action_dim, np.float32), np.float32(0)
        self._half, self._one = (self._high - self._low) / np.float32(2), np.float32(1)

    def __call__(self, observation):
        """Return the action [A] float32 for an observation [D], or [B, A] for [B, D]; a dict contains each column by its name."""
        if (
            self._quick
            and type(observation) is np.ndarray
            and observation.shape == self._shape
            and observation.dtype.kind in "fiu"
        ):
            raw = self._raw
            raw[...] = observation
            np.greater_equal(raw, self._seen_low, out=self._above)
            np.less_equal(raw, self._seen_high, out=self._below)
            np.logical_and(self._above, self._below, out=self._above)
            if self._above.tobytes() == self._all_inside:
                if self.outside_now:
                    self.outside_now = ()
                return self._act_quickly(raw)
        return self._act(self._checked(observation, stepping=True))

    def _act_quickly(self, raw):
        """Return the action for one valid observation within the range of the log."""
        x = self._x
        x[...] = raw
        np.subtract(x, self._mean, out=x)
        np.divide(x, self._std, out=x)
        zero = self._zero
        for weight, bias, hidden in self._steps:
            np.dot(weight, x, out=hidden)
            np.add(hidden, bias, out=hidden)
            np.maximum(hidden, zero, out=hidden)
            x = hidden
        weight, bias = self._head
        u = self._u
        np.dot(weight, x, out=u)
        np.add(u, bias, out=u)
        np.tanh(u, out=u)
        np.add(u, self._one, out=u)
        np.multiply(u, self._half, out=u)
        np.add(u, self._low, out=u)
        np.maximum(u, self._low, out=u)
        return np.minimum(u, self._high)

    def reset(self):
        """Forget the last step: the next call is the first of an episode, or of several."""
        self._window: tuple[np.ndarray, np.ndarray] | None = None
        self._last: np.ndarray | None = None

    @property
    def outside(self):
        """Return how many observations so far lay beyond the range of the log, by column."""
        return dict(zip(self.names, self._counts.tolist()))

    def distribution(self, observation):
        """Return (mu, log sigma) [..., A] before tanh, if the policy was exported with them; the call stores no step."""
        if not self.metadata["distribution"]:
            raise ValueError("this policy was exported without its distribution (export --distribution)")
        if self.history > 1:
            raise ValueError(
                "the distribution of a policy with a history depends on its window, which this call has not"
            )
        both = self._network(self._checked(observation)[0])
        mean, log_std = both[..., : self.action_dim], both[..., self.action_dim :]
        limits = self.metadata["log_std_min"], self.metadata["log_std_max"]
        return mean, np.clip(log_std, np.float32(limits[0]), np.float32(limits[1]))

    def _checked(self, observation, stepping=False):
        """Return observations [..., D] float32, and which are finite [...] (None: all). Counts values outside the range of the log."""
        given = observation
        if isinstance(observation, dict):
            observation = self._row(observation)
        values = array_of(observation)
        if values.dtype.kind not in "biuf" or values.ndim == 0:
            raise ValueError(
                "an observation is a vector of %d real numbers, or a batch of such; this is %s"
                % (self.obs_dim, described(given))
            )
        if values.shape[-1] != self.obs_dim:
            raise ValueError("observation has shape %s; the last must be %d" % (values.shape, self.obs_dim))
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if stepping:
            self._refuse_another_batch(values)  # before a row that is not valid is given that of another batch
        finite = np.isfinite(values)
        self.outside_now = ()
        if self._ranged:
            outside = finite & ((values < self._seen_low) | (values > self._seen_high))
            rows = [int(np.count_nonzero(column)) for column in outside.reshape(-1, self.obs_dim).T]
            self._counts += rows
            self.outside_now = tuple(name for name, count in zip(self.names, rows) if count)
        if finite.all():
            return values, None
        valid = finite.all(-1)
        self.invalid += int(valid.size - valid.sum())
        if self._on_invalid == "error":
            wrong = np.logical_not(finite).reshape(-1, self.obs_dim)
            names = [name for name, column in zip(self.names, wrong.T) if np.any(column)]
            raise ValueError(
                "the observation is not finite: it holds NaN, inf, or a number too large for the policy's precision, in column%s "
                "%s%s" % ("s" if len(names) > 1 else "", ", ".join(names[:5]), " ..." if len(names) > 5 else "")
            )
        return values, valid

    def _row(self, columns):
        """Return the columns of an observation that is given by name, in order [..., D]."""
        missing = [name for name in self.names if name not in columns]
        unknown = [str(name)[:40] for name in columns if name not in self.names]
        if missing or unknown:
            more = " and %d more" % (len(unknown) - 5) if len(unknown) > 5 else ""
            wrong = "has %s%s, which is no column" % (", ".join(unknown[:5]), more)
            wrong = "lacks " + ", ".join(missing) if missing else wrong
            raise ValueError("an observation given as a dict holds each column by its name; this one " + wrong)
        try:
            return np.stack([array_of(columns[name], ragged=False) for name in self.names], -1)
        except (ValueError, IndexError) as error:  # IndexError: more dimensions than an array has
            raise ValueError("an observation given as a dict holds one number, or as many, for each column") from error

    def _act(self, checked):
        """Return the actions for checked observations, with history, fallback and rate limits."""
        observations, valid = checked
        if valid is not None:
            observations = self._held(observations, valid)
        states = self._with_history(observations)
        squashed, before = self._squashed(states), self._last
        finite = np.isfinite(squashed).all(-1)
        overflows = not finite.all()
        if overflows:  # treated as an observation that is not finite
            self.invalid += int(
                np.count_nonzero(np.logical_not(finite) if valid is None else valid & np.logical_not(finite))
            )
            valid = finite if valid is None else valid & finite
            states = self._with_history(self._held(observations, valid))
            squashed = self._squashed(states)
        scaled = self._low + (squashed + self._one) * self._half
        scaled = np.minimum(np.maximum(scaled, self._low), self._high)
        refuses = overflows and self._on_invalid == "error"
        action = self._taken(scaled, None if refuses else valid)
        if self.history > 1:
            done = squashed if action is scaled else np.clip((action - self._low) / self._half - self._one, -1, 1)
            self._window = states, done
        if refuses:
            self._last = before
            raise ValueError(
                "the action is not finite: the observation holds a number that is too large for the network, or the weights do"
            )
        return action

    def _refuse_another_batch(self, observations):
        """Raise ValueError where the last step, if it was kept, had another number of observations."""
        if self._window is not None and self._window[0].shape[:-1] != observations.shape[:-1]:
            raise ValueError(
                "the last step was of observations %s, this one is of %s: call policy.reset() before another episode"
                % ([*self._window[0].shape[:-1], self.obs_dim], list(observations.shape))
            )

    def _held(self, observations, valid):
        """Replace observations that are not valid by the last ones; in the first step, by the mean."""
        known = self._mean if self._window is None else self._window[0]
        return np.where(valid[..., np.newaxis], observations, known[..., : self.obs_dim])

    def _squashed(self, states):
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is checked by the caller
            return np.tanh(self._network(states)[..., : self.action_dim])

    def _network(self, states):
        hidden = (states - self._mean) / self._std
        for weight, bias in self._layers[:-1]:
            hidden = np.maximum(np.dot(hidden, weight.T) + bias, self._zero)
        weight, bias = self._layers[-1]
        return np.dot(hidden, weight.T) + bias

    def _with_history(self, observations):
        """Return the state (o_t, ..., o_{t-k+1}, a_{t-1}, ..., a_{t-k+1}), newest first.

        In the first step, o_0 replaces all earlier observations, and 0 replaces earlier actions.
        """
        if self.history == 1:
            return observations
        k, d, a = self.history, self.obs_dim, self.action_dim
        if self._window is None:
            none = np.zeros((*observations.shape[:-1], (k - 1) * a), np.float32)
            return np.concatenate([observations] * k + [none], -1)
        states, actions = self._window
        seen, done = states[..., : (k - 1) * d], states[..., k * d : k * d + (k - 2) * a]
        return np.concatenate([observations, seen, actions, done], -1)

    def _taken(self, action, valid):
        remembers = self._on_invalid == "last" or self._limits is not None
        if valid is None and not remembers:
            return action
        if self._last is not None and self._last.shape != action.shape:
            raise ValueError(
                "the last actions were %s, these are %s: call policy.reset() before another episode"
                % (list(self._last.shape), list(action.shape))
            )
        taken = action if valid is None else np.where(valid[..., np.newaxis], action, self._fallback())
        if self._limits is not None and self._last is not None:
            # The result lies between two actions within the bounds.
            taken = np.minimum(np.maximum(taken, self._last - self._limits), self._last + self._limits)
        self._last = taken if remembers else None
        return taken

    def _fallback(self):
        known = self._safe if self._on_invalid == "safe_action" or self._last is None else self._last
        if known is None:
            raise ValueError(
                "the observation is not finite, and on_invalid='last' has no last action yet: give safe_action=[...] for the "
                "first step"
            )
        return known


def array_of(values, ragged=True):
    """Return values as an array, with NaN for masked values. For rows of different lengths: an empty object array, or ValueError."""
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "biuf":
        return np.ma.filled(values.astype(np.float64), np.nan)
    try:
        return np.asarray(values)
    except ValueError:
        if ragged:
            return np.empty(0, object)
        raise


def described(observation):
    """Describe in words an object that is no observation."""
    if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
        return "a pair: write observation, info = env.reset()"
    if observation is None or isinstance(observation, (str, bytes)):
        return "a " + type(observation).__name__
    if isinstance(observation, (int, float, np.generic)) or getattr(observation, "shape", None) == ():
        return "a number"
    return "a %s of what are no real numbers" % type(observation).__name__


def arrays_of(path):
    """Return the arrays of a .npz file."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened.files}


def digest_of(arrays):
    """Return the SHA-256 over names, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(("%s %s " % (name, arrays[name].shape)).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def largest_difference(policy, vectors):
    """Return the largest difference of an action, in half ranges of each action, on test vectors.

    The vectors [T, B, D] are replayed as B episodes of T steps, together and one by one.
    """
    observations, expected = vectors["observations"], vectors["actions"]
    found = []
    policy.reset()
    for step, rows in enumerate(observations):
        found.append(policy(rows) - expected[step])
    for episode in range(observations.shape[1]):
        policy.reset()
        for step in range(observations.shape[0]):
            found.append((policy(observations[step, episode]) - expected[step, episode])[np.newaxis])
    policy.reset()
    half = (policy._high.astype(np.float64) - policy._low) / 2
    return float(np.max(np.abs(np.concatenate(found)) / half))


def check(folder=HERE):
    """Compare policy.npz with its checksum, and its actions with vectors.npz; returns 0 where both agree, else 1."""
    try:
        policy = Policy(os.path.join(folder, "policy.npz"))
        vectors = arrays_of(os.path.join(folder, "vectors.npz"))
        checksums, tolerance = policy.metadata["sha256"], policy.metadata["tolerance"]
        steps, episodes = vectors["observations"].shape[:2]
    except Exception as error:  # any error that a damaged file may raise
        print("FAILED: policy.npz or vectors.npz cannot be read (%s)" % error)
        return 1
    problems = []
    for name, found in (("policy.npz", policy.sha256), ("vectors.npz", digest_of(vectors))):
        if found != checksums[name]:
            problems.append("%s is not the file that was exported: its checksum differs" % name)
    try:
        difference = largest_difference(policy, vectors)
    except Exception as error:  # any error, as above
        print("\n".join("FAILED: " + text for text in [*problems, "the actions cannot be compared (%s)" % error]))
        return 1
    if not difference <= tolerance:
        problems.append("actions differ from those of the exported policy by %.2g of half their range" % difference)
    for problem in problems:
        print("FAILED: " + problem)
    where = "Python %s, NumPy %s" % (sys.version.split()[0], np.__version__)
    words = (steps * episodes, difference, tolerance, where)
    print("%d test vectors: largest difference %.2g of half an action's range, tolerance %.0e (%s)" % words)
    return 1 if problems else 0


def summary(policy):
    """Describe the inputs and outputs of the policy, one line for each column."""
    lines = []
    for kind in ("observations", "actions"):
        signals = policy.metadata[kind]
        lines.append("%s (name, unit, range in the log%s)" % (kind, ", bounds" if kind == "actions" else ""))
        for i, name in enumerate(signals["names"]):
            seen = "?" if signals["low"] is None else "%.4g to %.4g" % (signals["low"][i], signals["high"][i])
            bounds = "  %.4g to %.4g" % (policy._low[i], policy._high[i]) if kind == "actions" else ""
            lines.append("  %-20s %-8s %s%s" % (name, signals["units"][i] or "-", seen, bounds))
    return "\n".join(lines)


def main(arguments):
    """Run the program with these arguments; returns its exit code."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # for units such as a degree sign that the terminal cannot show
    if arguments == ["--check"]:
        return check()
    if arguments:
        print("usage: python run_policy.py [--check]", file=sys.stderr)
        return 2
    try:
        policy = Policy()
    except Exception as error:  # any error, as in check
        print("FAILED: policy.npz cannot be read (%s)" % error, file=sys.stderr)
        return 1
    print(summary(policy))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
