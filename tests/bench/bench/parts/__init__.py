"""The parts of script/bench. Each is a module with

    TITLE                 of its section in the report
    runs(settings)        how many runs of the load generator it makes, for the progress
    measure(bench)        what results.json keeps of it; of what can be serialised only
    section(results)      Markdown, as a list of lines
    goals(results)        perhaps: those of the goals that it decides, as report.Goal
    plots(results)        perhaps: SVG by file name
"""

from bench.parts import (
    calls,
    compression,
    crosscheck,
    echo,
    growth,
    handshakes,
    latency,
    memory,
    relay,
    tcp,
    tls,
    webhook,
    workers,
)

# In the order of the report.
PARTS = {
    "echo": echo,
    "relay": relay,
    "tcp": tcp,
    "webhook": webhook,
    "latency": latency,
    "compression": compression,
    "tls": tls,
    "handshakes": handshakes,
    "workers": workers,
    "memory": memory,
    "calls": calls,
    "growth": growth,
    "crosscheck": crosscheck,
}
