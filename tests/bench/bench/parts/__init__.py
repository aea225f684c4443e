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
    idle,
    latency,
    memory,
    publish,
    reconnect,
    relay,
    slow,
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
    "publish": publish,
    "slow": slow,
    "reconnect": reconnect,
    "workers": workers,
    "memory": memory,
    "idle": idle,
    "calls": calls,
    "growth": growth,
    "crosscheck": crosscheck,
}
