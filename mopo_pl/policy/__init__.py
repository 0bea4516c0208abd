"""The trained policy as it is used: `Policy`, its guards and its files. Needs only torch, NumPy and safetensors."""

from mopo_pl.policy.policy import Policy

__all__ = ["Policy"]
