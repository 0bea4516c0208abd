"""Checks this project on a GPU in eight minutes: answers, waiting, speed, a run, two ranks, memory.

`python benchmarks/gpu.py [--device cuda|cpu] [--out FOLDER] [--minutes 8]`. Each part is a process with a time limit of its
own, in order of value; one that fails does not stop the others. FOLDER/gpu.json and FOLDER/gpu.md are written again with
every finding. The exit code is 1 where a part fails. `--device cpu` tries the check itself. `--fault NAME` puts a fault in
on purpose, which the check must find.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"machine": 3, "answers": 6, "waits": 3, "speed": 8, "run": 7, "ranks": 5, "memory": 3}
"""Parts in order, and the share of the time of each; what a part leaves goes to those after it."""
FAULTS = {
    "old-torch": "machine",
    "wrong-weight": "answers",
    "wrong-place": "answers",
    "item": "waits",
    "slow-update": "speed",
    "changed-checkpoint": "run",
    "own-gradients": "ranks",
    "killed-rank": "ranks",
    "more-memory": "memory",
}
"""Faults that can be put in on purpose, and the part that must find each."""
TITLES = {
    "machine": "What machine",
    "answers": "The same answers",
    "waits": "No waiting",
    "speed": "Speed",
    "run": "A run",
    "ranks": "Two ranks",
    "memory": "Memory",
}


def work(name: str, device: str, folder: Path, seconds: float, fault: str | None) -> int:
    """Make one part in this process; write each finding as a line of `<part>.jsonl` as it comes."""
    import torch
    from gpu_parts.findings import Task

    if device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device: run it where there is one, or with --device cpu")
        return 1
    torch.set_num_threads(min(torch.get_num_threads(), 4))
    task = Task(
        device=torch.device("cuda", 0) if device == "cuda" else torch.device(device),
        folder=folder / name,
        seconds=seconds,
        fault=fault,
    )
    task.folder.mkdir(parents=True, exist_ok=True)
    passed = True
    with (folder / f"{name}.jsonl").open("w") as file:
        for finding in importlib.import_module(f"gpu_parts.{name}").findings(task):
            file.write(finding.line() + "\n")
            file.flush()
            passed = passed and finding.passed is not False
    return int(not passed)


def started(name: str, options: argparse.Namespace, seconds: float) -> subprocess.Popen[bytes]:
    """Start the process of a part; what it prints goes to `<part>.log`."""
    fault = options.fault if FAULTS.get(options.fault) == name else None
    command = [sys.executable, __file__, "--work", name, "--device", options.device, "--out", str(options.out)]
    command += ["--seconds", str(seconds), *(["--fault", fault] if fault else [])]
    paths = [str(ROOT), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    with (options.out / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def followed(name: str, options: argparse.Namespace, seconds: float, report: dict[str, Any]) -> None:
    """Run a part to its end or its limit, and keep the report on disk up to date."""
    lines = options.out / f"{name}.jsonl"
    lines.unlink(missing_ok=True)
    part: dict[str, Any] = {"state": "running", "limit [s]": round(seconds), "seconds": 0.0, "findings": []}
    report["parts"][name] = part
    begin, process, shown = time.monotonic(), started(name, options, seconds), -1
    while True:
        code = process.poll()
        part["seconds"] = round(time.monotonic() - begin, 1)
        late = code is None and part["seconds"] > seconds
        if late:
            ended(process)
        if lines.exists():
            whole = [line for line in lines.read_text().splitlines(keepends=True) if line.endswith("\n")]
            part["findings"] = [json.loads(line) for line in whole]
        failed = any(finding["passed"] is False for finding in part["findings"])
        if late or code is not None:
            part["state"] = "out of time" if late else ("failed" if code or failed else "passed")
            if part["state"] != "passed":
                part["last lines"] = (options.out / f"{name}.log").read_text(errors="replace").splitlines()[-25:]
        if len(part["findings"]) != shown or part["state"] != "running":
            shown = len(part["findings"])
            write(report, options.out)
        if part["state"] != "running":
            break
        time.sleep(0.2)
    ended(process)  # processes that it left behind
    print(f"{name}: {part['state']} after {part['seconds']:.0f} s", flush=True)


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a part's process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write(report: dict[str, Any], folder: Path) -> None:
    """Write the report as JSON and as a page."""
    for name, text in (("gpu.json", json.dumps(report, indent=2) + "\n"), ("gpu.md", page(report))):
        aside = folder / f"{name}.part"
        aside.write_text(text)
        os.replace(aside, folder / name)


def page(report: dict[str, Any]) -> str:
    """Return the report as Markdown: one table a part."""
    lines = [
        "# " + ("The check on a GPU" if report["device"] == "cuda" else "The check for a GPU, tried on a CPU"),
        "",
        f"`{report['command']}`, {report['began']}",
        "",
        "| part | state | seconds | limit |",
        "|---|---|---|---|",
    ]
    for name, part in report["parts"].items():
        lines.append(f"| {TITLES[name]} | {part['state']} | {part['seconds']:.0f} | {part['limit [s]']} |")
    for name, part in report["parts"].items():
        lines += ["", f"## {TITLES[name]}: {part['state']}", "", "| | found | must be | |", "|---|---|---|---|"]
        lines += [row(finding) for finding in part["findings"]]
        if "last lines" in part:
            lines += ["", "```", *part["last lines"], "```"]
    return "\n".join(lines) + "\n"


def row(finding: dict[str, Any]) -> str:
    """Return a finding as a row of a table."""
    value = finding["value"]
    shown = f"{value:.4g}" if isinstance(value, int | float) else str(value)
    verdict = {True: "passed", False: "**failed**", None: ""}[finding["passed"]]
    cells = [finding["what"], f"{shown} {finding['unit']}".strip(), finding["limit"], verdict]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main() -> int:
    """Run all parts; return 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--part", choices=tuple(SHARES), action="append", help="only this one; may be repeated")
    parser.add_argument("--fault", choices=tuple(FAULTS), help="a fault put in on purpose")
    parser.add_argument("--work", choices=tuple(SHARES), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.work:
        return work(options.work, options.device, options.out, options.seconds, options.fault)
    report: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "device": options.device,
        "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "parts": {},
    }
    names = [name for name in SHARES if options.part is None or name in options.part]
    until = time.monotonic() + 60 * options.minutes
    for i, name in enumerate(names):
        share = SHARES[name] / sum(SHARES[each] for each in names[i:])
        followed(name, options, (until - time.monotonic()) * share, report)
    print(f"{options.out / 'gpu.md'}")
    return int(any(part["state"] != "passed" for part in report["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
