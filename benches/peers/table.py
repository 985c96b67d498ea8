"""One table out of all measurements: a row for each measure and server."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from measures import Measure

COLUMNS = ("server", "median", "lowest – highest", "× {reference}", "p50 ms", "p99 ms", "CPU", "messages/send", "notes")


def number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def middle(values: list) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def cpu(result: dict) -> float | None:
    """Nanoseconds a delivery, or microseconds a handshake."""
    parts = result.get("server_cpu_ns_per_delivery") or result.get("server_cpu_us_per_handshake")
    return sum(parts.values()) if parts else None


def notes(measure: Measure, results: list[dict], failures: list[str], frame_bytes: float) -> str:
    found = []
    if failures:
        found.append(f"{len(failures)} failed: {failures[0]}")
    wrong = sum(result.get("lost_or_repeated", 0) + result.get("refused", 0) for result in results)
    if wrong:
        found.append(f"{wrong} lost, repeated or refused")
    lengths = [result["frame_bytes"] for result in results if "frame_bytes" in result]
    if any(abs(length - frame_bytes) > 0.5 for length in lengths):
        found.append(f"frames of {middle(lengths):.1f} bytes")
    shares = [result["floor"]["share"] for result in results if "floor" in result]
    if shares:
        line = "TLS" if any("tls" in result for result in results) else "kernel's"
        found.append(f"{middle(shares) * 100:.0f} % of the {line} line")
    suites = {tls["suite"] if isinstance(tls, dict) else tls for result in results if (tls := result.get("tls"))}
    found += sorted(suites - {"TLS13_AES_128_GCM_SHA256"})
    if any(isinstance(tls := result.get("tls"), dict) and tls.get("resumed") and tls["full"] for result in results):
        found.append("not all were resumed")
    busy = [result["client_busy"] for result in results if "client_busy" in result]
    if busy and middle(busy) > 0.9:
        found.append("the tool was the bound")
    return "; ".join(found)


def rows(measure: Measure, servers: list[str], lines: list[dict], reference: str, frame_bytes: float) -> list[list[str]]:
    """The measure's rows. A ratio is of two results of the same round, the median of the rounds' is shown."""
    rounds: dict[str, dict[int, dict]] = defaultdict(dict)
    failures = defaultdict(list)
    for line in lines:
        if line["measure"] != measure.name:
            continue
        if "result" in line:
            rounds[line["server"]][line["round"]] = line["result"]
        else:
            failures[line["server"]].append(line["failed"])
    table = []
    for server in servers:
        results = rounds[server]
        if not results:
            why = (failures[server] or ["not measured"])[0]
            table.append([server, "none", *["–"] * 6, why])
            continue
        figures = {index: measure.figure(result) for index, result in results.items()}
        ratios = [
            figure / measure.figure(rounds[reference][index])
            for index, figure in figures.items()
            if index in rounds[reference] and measure.figure(rounds[reference][index])
        ]
        ages = [result.get("latency_us", {}) for result in results.values()]
        at = lambda key: number(middle([age[key] / 1000 for age in ages if key in age]))  # noqa: E731
        values = figures.values()
        table.append([
            server,
            number(middle(list(values))),
            f"{number(min(values))} – {number(max(values))}",
            number(middle(ratios), 2),
            at("p50"),
            at("p99"),
            number(middle([cpu(result) for result in results.values()])),
            number(middle([result.get("messages_per_send") for result in results.values()]), 1),
            notes(measure, list(results.values()), failures[server], frame_bytes),
        ])  # fmt: skip
    return table


def title(measure: Measure, quick: bool) -> str:
    return f"like {measure.title}, but small" if quick else measure.title


def text(measures, servers, lines, reference, frame_bytes, quick) -> str:
    """For a terminal."""
    out = []
    head = [column.format(reference=reference) for column in COLUMNS]
    bodies = [(measure, rows(measure, servers, lines, reference, frame_bytes)) for measure in measures]
    everything = [head, *(row for _, body in bodies for row in body)]
    widths = [max(len(row[index]) for row in everything) for index in range(len(head) - 1)]
    show = lambda row: "  ".join(  # noqa: E731
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:])), row[-1]]
    ).rstrip()
    for measure, body in bodies:
        better = "lower is better" if measure.low else "higher is better"
        out += [f"{measure.name}: {title(measure, quick)}: {measure.unit}, {better}", show(head), *map(show, body), ""]
    return "\n".join(out)


def markdown(measures, servers, lines, reference, frame_bytes, quick) -> str:
    """The same, one Markdown table."""
    head = ["measure", *(column.format(reference=reference) for column in COLUMNS)]
    out = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for measure in measures:
        for row in rows(measure, servers, lines, reference, frame_bytes):
            out.append(f"| {title(measure, quick)}: {measure.unit} | {' | '.join(row)} |")
    return "\n".join(out)
