#!/usr/bin/env python3
"""From a log to a policy that beats it: `python train.py [group=choice] [key=value] …`; `--help` lists everything."""

from mopo_pl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
