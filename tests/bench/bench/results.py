"""docs/benchmarks: what was measured (results.json), and the report and the plots made of it."""

import datetime
import json
import pathlib
import sys

from bench import machine
from bench.parts import PARTS
from bench.report import goal_table, table

FOLDER = pathlib.Path(__file__).parents[3] / "docs" / "benchmarks"
MACHINE_KEYS = ("cpu", "cores", "memory_gib", "kernel", "system")
PREFACE = """\
Written by `script/bench`, made of [results.json](results.json). [README.md](README.md) says what
each part does and how to read it. CPU-seconds a million messages are CPU µs a message: of the
server alone, user and kernel, all its threads and processes. Shown are the median and, in brackets,
the extremes of all rounds; a ratio compares runs that were next to each other in time. A workload
is *payload x batch x connections*: so many connections, on each of which a batch of messages is
sent, and the next when all of it has come back. Latencies of such a *closed loop* are from a batch's
first byte sent to its last received; a slow server is asked less, which hides how long its users would
wait. Latencies that are corrected for that (coordinated omission) stand under *Latency*. *busy* is the
share of its core that the server used; where it is *generator busy* that says *limit*, the load
generator used more than 95 % of its own and the server less: it waited, and sleeps and short turns
cost it time that it would not need under more load.
""".splitlines()


def as_json(value, indent=""):
    """A line for each run, so that a diff shows what has changed."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(inner, list) or not any(isinstance(one, (dict, list)) for one in inner):
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [f"{deeper}{json.dumps(key)}: {as_json(one, deeper)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + as_json(one, deeper) for one in value) + f"\n{indent}]"


def is_readable(name, kept):
    """Whether the part still makes something of what it has measured: its form may have changed."""
    part = PARTS.get(name)
    if part is None:
        return False
    try:
        part.section(kept["results"])
        for function in ("goals", "plots"):
            list(getattr(part, function, lambda _: [])(kept["results"]))
    except (KeyError, TypeError):
        print(f"{name}: was kept in another form, and is forgotten", file=sys.stderr)
        return False
    return True


def largest(key, measured):
    """Of all figures of that name, however deep they are; None if there is none."""
    if isinstance(measured, dict):
        found = [measured.get(key), *(largest(key, one) for one in measured.values())]
    elif isinstance(measured, list):
        found = [largest(key, one) for one in measured]
    else:
        return None
    return max((one for one in found if one is not None), default=None)


def with_stolen(name, measured):
    stolen = largest("stolen", measured)
    return name if stolen is None else f"{name} ({stolen:.0%})"


class Results:
    """Of all parts; each with the day, the machine and the versions that it was measured with."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.path = self.folder / "results.json"
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.parts = {name: part for name, part in kept.items() if is_readable(name, part)}

    def keep(self, name, measured, settings, versions):
        self.parts[name] = {
            "date": datetime.date.today().isoformat(),
            "machine": machine.describe(),
            "settings": settings,
            "versions": versions,
            # As it will be read: the keys of JSON are texts.
            "results": json.loads(json.dumps(measured)),
        }

    def write(self):
        """Everything anew: results.json, report.md and the plots."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(as_json(self.parts) + "\n")
        for name, svg in self.plots().items():
            (self.folder / name).write_text(svg)
        (self.folder / "report.md").write_text("\n".join(self.report()) + "\n")

    def measured(self):
        """(name, module, what is kept of it), in the order of the report."""
        return [
            (name, part, self.parts[name]) for name, part in PARTS.items() if name in self.parts
        ]

    def plots(self):
        plots = {}
        for _, part, kept in self.measured():
            if hasattr(part, "plots"):
                plots.update(part.plots(kept["results"]))
        return plots

    def report(self):
        lines = ["# What was measured", "", *PREFACE, *self.warning(), "", "## Goals", ""]
        lines += goal_table(
            goal
            for _, part, kept in self.measured()
            if hasattr(part, "goals")
            for goal in part.goals(kept["results"])
        )
        lines += ["", "## Where and when", "", *self.machine_table()]
        lines += ["", "## Versions", "", *self.version_table()]
        for _, part, kept in self.measured():
            lines += ["", f"## {part.TITLE}", "", *part.section(kept["results"])]
            if hasattr(part, "plots"):
                for name in part.plots(kept["results"]):
                    lines += ["", f"![{name}]({name})"]
        return lines

    def warning(self):
        """Figures of several states of the source cannot be compared with each other."""
        versions = sorted({kept["versions"].get("sluice", "?") for _, _, kept in self.measured()})
        dirty = any(version.endswith("-dirty") for version in versions)
        if len(versions) < 2 and not dirty:
            return []
        several = "parts were measured with different versions of Sluice" if versions[1:] else ""
        changed = "what was measured has changes that are in no commit" if dirty else ""
        what = "; ".join(one for one in (several, changed) if one)
        return ["", f"**Warning: {what} ({', '.join(versions)}).**"]

    def machine_table(self):
        """A row for all parts that were measured alike."""
        parts_by_row = {}
        for name, _, kept in self.measured():
            here, settings = kept["machine"], kept["settings"]
            row = (
                kept["date"],
                f"{here['cores']} x {here['cpu']}, {here['memory_gib']} GiB",
                f"{here['kernel']}, {here['system']}",
                f"{settings['rounds']} x {settings['seconds']:g} s",
            )
            parts_by_row.setdefault(row, []).append(with_stolen(name, kept["results"]))
        rows = [(*row, ", ".join(parts)) for row, parts in parts_by_row.items()]
        return [
            *table(["measured on", "machine", "system", "runs of each", "parts"], rows),
            "",
            "In brackets, where it was recorded: how much of the server's core the hypervisor gave to"
            " others, in the run that lost the most.",
        ]

    def version_table(self):
        """Of each contestant, and of which parts if they were measured with several."""
        parts_by_version = {}
        for name, _, kept in self.measured():
            for program, version in kept["versions"].items():
                parts_by_version.setdefault((program, version), []).append(name)
        rows = [
            (program, version, ", ".join(parts) if len(parts) < len(self.parts) else "all")
            for (program, version), parts in sorted(parts_by_version.items())
        ]
        return table(["", "version", "parts"], rows)
