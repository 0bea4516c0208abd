"""The trained policy as users run it: `Policy`, its guards and its files. It needs only torch, NumPy and safetensors."""

from mopo_pl.policy.policy import Policy

__all__ = ["Policy"]
