"""Stands for `mopo_pl train` where a test is about what starts runs: leaves a run's files in no time.

The return is −|penalty.coef − 1|. `MISHAPS` in the environment says what befalls runs at their first start, by a part of their
folder: `fail`; `kill`: the command that started it is killed; `wait`: until a signal comes, which it obeys as a run does.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    given = dict(argument.split("=", 1) for argument in arguments)
    resumed = "resume" in given
    folder = Path(given["resume"] if resumed else json.loads(given["run_dir"]))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.starts").open("a") as file:
        file.write("resumed\n" if resumed else "new\n")
    if not resumed:
        (folder / "config.yaml").write_text(json.dumps({"penalty": {"coef": float(given.get("penalty.coef", 1))}}))
        (folder / "arguments.json").write_text(json.dumps(arguments))
    mishaps = json.loads(os.environ.get("MISHAPS", "{}"))
    mishap = next((what for part, what in mishaps.items() if part in str(folder)), None)
    if mishap == "fail":
        print("a first line\nerror: the loss is not finite", flush=True)
        return 1
    if mishap == "kill" and not resumed:
        os.kill(os.getppid(), signal.SIGKILL)
        return 0
    if mishap == "wait" and not resumed:
        return wait(folder)
    coef = json.loads((folder / "config.yaml").read_text())["penalty"]["coef"]
    result = {"behaviour_return": 0.0, "final_return": -abs(coef - 1), "updates": 1}
    result |= {"seconds": {"dynamics": None, "policy": 2.0}, "dataset": {"name": "log", "hash": "abc"}}
    (folder / "result.json").write_text(json.dumps(result))
    return 0


def wait(folder: Path) -> int:
    code = []
    signal.signal(signal.SIGINT, lambda number, frame: code.append(128 + number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    (folder / "waits").touch()
    while not code:
        time.sleep(0.01)
    (folder / "saved").touch()
    return code[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
