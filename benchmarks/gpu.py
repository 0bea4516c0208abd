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
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"machine": 10, "answers": 8, "waits": 5, "speed": 8, "run": 7, "ranks": 5, "memory": 3}
"""Parts in order, and the share of the time of each; what a part leaves goes to those after it.

The first one waits for torch to come from a disk, which can take a minute.
"""
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
    begin, used = time.monotonic(), time.process_time()
    import torch
    from gpu_parts.findings import Task

    part = importlib.import_module(f"gpu_parts.{name}")
    # On an idle machine an import is all work. A GPU's work is not the processor's.
    pace = max(1.0, (time.monotonic() - begin) / (time.process_time() - used)) if device == "cpu" else 1.0

    if device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device: run it where there is one, or with --device cpu")
        return 1
    # Threads of one product wait for each other: where others take the cores, one is faster than two.
    torch.set_num_threads(1 if device == "cpu" else min(torch.get_num_threads(), 4))
    task = Task(
        device=torch.device("cuda", 0) if device == "cuda" else torch.device(device),
        folder=folder / name,
        seconds=seconds,
        fault=fault,
        pace=pace,
        begin=begin,
    )
    task.folder.mkdir(parents=True, exist_ok=True)
    passed = True
    with (folder / f"{name}.jsonl").open("w") as file:
        for finding in part.findings(task):
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
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if options.device == "cpu" else {}
    with (options.out / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def followed(name: str, options: argparse.Namespace, seconds: float, report: dict[str, Any]) -> None:
    """Run a part to its end or its limit, and keep the report on disk up to date."""
    lines = options.out / f"{name}.jsonl"
    lines.unlink(missing_ok=True)
    part: dict[str, Any] = {"state": "running", "limit [s]": round(seconds), "seconds": 0.0, "findings": []}
    report["parts"][name] = part
    used, begin, process = processor_seconds(), time.monotonic(), started(name, options, seconds)
    try:
        shown = -1
        while part["state"] == "running":
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
            elif len(part["findings"]) != shown:
                shown = len(part["findings"])
                write(report, options.out)
            if part["state"] == "running":
                time.sleep(0.2)
    except (KeyboardInterrupt, SystemExit):
        part["state"] = "interrupted"
        raise
    finally:
        ended(process)  # it, and processes that it left behind
        part["processor [s]"] = round(processor_seconds() - used, 1)
        if part["state"] != "passed":
            part["last lines"] = (options.out / f"{name}.log").read_text(errors="replace").splitlines()[-25:]
        write(report, options.out)
    print(f"{name}: {part['state']} after {part['seconds']:.0f} s", flush=True)


def processor_seconds() -> float:
    """Return the processor time of the processes that this one has started and awaited [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
        "| part | state | seconds | limit | of a processor |",
        "|---|---|---|---|---|",
    ]
    for name, part in report["parts"].items():
        used = f"{part['processor [s]']:.0f}" if "processor [s]" in part else ""
        lines.append(f"| {TITLES[name]} | {part['state']} | {part['seconds']:.0f} | {part['limit [s]']} | {used} |")
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
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    names = [name for name in SHARES if options.part is None or name in options.part]
    until = time.monotonic() + 60 * options.minutes
    for i, name in enumerate(names):
        share = SHARES[name] / sum(SHARES[each] for each in names[i:])
        followed(name, options, (until - time.monotonic()) * share, report)
    print(f"{options.out / 'gpu.md'}")
    return int(any(part["state"] != "passed" for part in report["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
