"""The benchmarks work: each at its smallest, its figures against what is known, and how it is shown."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from benchmarks.__main__ import BENCHMARKS, run_all
from benchmarks.harness import Route, Samples, in_turns, measure
from benchmarks.readers import CATALOG
from benchmarks.replay import SHAPES
from benchmarks.results import Check, markdown, summary
from benchmarks.scale import FULL, QUICK, SMOKE
from benchmarks.server import Counts, Server, serving

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", params=BENCHMARKS)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return run_all(SMOKE, (request.param,), command="make bench")


def tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of the Markdown tables of a text."""
    for part in text.split("\n\n"):
        if part.startswith("| "):
            yield [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in part.splitlines()]


def test_each_benchmark_measures_and_shows_what_it_found(document: dict[str, Any], tmp_path: Path) -> None:
    (result,) = document["benchmarks"]
    assert result["tables"]
    assert all(seconds > 0 for seconds in numbers(result["samples"], "seconds"))
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    text = markdown(document)
    found = list(tables(text))
    assert len(found) == 1 + len(result["tables"])
    assert all(len({len(row) for row in table}) == 1 for table in found)
    assert all(check["what"] in text for check in result["checks"])
    file = tmp_path / "run.json"
    file.write_text(json.dumps(document))
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.results", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == summary(document) + "\n"
    assert text.startswith(summary(document))


def numbers(samples: dict[str, Any], figure: str) -> Iterator[float]:
    for rounds in samples.values():
        for figures in rounds.values():
            yield from (one[figure] for one in figures)


def assert_nearly_all(rows: Iterable[float], most: int) -> None:
    """The last ticks of a day arrive on the next one, and some of them have no file there."""
    assert all(0.99 * most < each <= most for each in rows)


def test_figures_are_of_the_whole_work(document: dict[str, Any]) -> None:
    (result,) = document["benchmarks"]
    samples = result["samples"]
    match result["name"]:
        case "ingest":
            assert_nearly_all(numbers({"trades": samples["trades"]}, "rows"), SMOKE.trades)
            (large,) = samples["memory"][f"{SMOKE.trades * SMOKE.growth:,} trades"]
            assert_nearly_all([large["rows"]], SMOKE.trades * SMOKE.growth)
            assert max(numbers({"books": samples["books"]}, "rows")) > 10 * SMOKE.snapshots
        case "jobs":
            assert_nearly_all(numbers(samples, "rows"), 8 * SMOKE.unit_trades)
        case "windows":
            # A fetch into a catalog may have the window already, as it is kept with others.
            asked = {
                name: [one["requests"] for one in rounds]
                for place in samples.values()
                for name, rounds in place.items()
                if name != CATALOG
            }
            assert all(requests >= 1 for each in asked.values() for requests in each)
        case "start":
            assert all(first > 0 for first in numbers({"day": samples["day"]}, "first_tick"))
            assert set(numbers({"many": samples["many"]}, "files")) == {SMOKE.many_files}
        case "replay":
            trades = samples["trades"]
            assert len(set(numbers({"trades": trades}, "events"))) == 1  # whatever the shape


def test_routes_have_names_of_their_own() -> None:
    Samples([str(shape) for shape in SHAPES])
    with pytest.raises(ValueError, match="routes share a name: one, one"):
        Samples(["one", "one"])


def test_ratios_are_taken_within_a_round() -> None:
    samples = Samples(["slow", "fast"])
    for slow, fast in ((2.0, 1.0), (40.0, 20.0), (9.0, 3.0)):
        samples.add("slow", {"seconds": slow})
        samples.add("fast", {"seconds": fast})
    assert samples.ratio("slow", "fast") == 2.0
    assert samples.difference("slow", "fast") == 6.0
    assert samples.median("slow") == 9.0


def test_rounds_are_interleaved_and_change_direction() -> None:
    order: list[str] = []

    def run(route: Route) -> dict[str, float]:
        order.append(route.name)
        return {"seconds": 1.0}

    in_turns([Route(name, "") for name in "abc"], 3, run=run)
    assert "".join(order) == "abccbaabc"


def test_a_child_times_the_work_alone_and_keeps_its_answer_apart(capfd: pytest.CaptureFixture[str]) -> None:
    figures = measure(Route("child", "test_benchmarks:noisy", {"seconds": 0.05}))
    assert figures["seconds"] >= 0.05
    assert figures["answer"] == 42
    assert 5 < figures["peak_mb"] < 1_000
    assert "noise" in capfd.readouterr().err


def noisy(seconds: float) -> Any:
    def work() -> dict[str, float]:
        print("noise")
        time.sleep(seconds)
        return {"answer": 42}

    return work


def test_the_bare_engine_imports_nothing_of_ours() -> None:
    script = "import sys, benchmarks.bare; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "nautilus_trader" in done.stdout.split()
    assert not {"ticklake", "pyarrow", "numpy", "pydantic"} & set(done.stdout.split())


def test_a_child_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="bad failed"):
        measure(Route("bad", "test_benchmarks:nothing"))


@pytest.mark.parametrize(
    ("value", "bound", "at_most", "met"),
    [(1.154, 1.15, True, True), (1.16, 1.15, True, False), (8.0, 8, False, True), (7.9, 8, False, False)],
)
def test_a_target_is_met_by_the_figure_that_is_shown(
    value: float, bound: float, at_most: bool, met: bool
) -> None:
    check = Check("one / other", value, "x", bound, at_most=at_most)
    assert check.met is met
    assert check.cells()[-1] == ("met" if met else "**missed**")
    assert Check("time", value, "ms", bound, at_most=at_most).cells()[-1].startswith("(")


def test_the_full_run_has_the_sizes_that_are_promised() -> None:
    assert (FULL.trades, FULL.trades * FULL.growth, FULL.snapshots) == (3_000_000, 30_000_000, 1_000_000)
    assert (FULL.large_group, FULL.latencies, FULL.adjacent) == (1_048_576, (0, 20, 50), 12)
    assert FULL.rounds >= 5
    assert QUICK.rounds == 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    with serving(tmp_path) as found:
        yield found


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    try:
        connection.request(method, parts.path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=10-19", 206, range(10, 20)),
        ("bytes=-5", 206, range(95, 100)),
        ("bytes=90-", 206, range(90, 100)),
        ("bytes=0-999", 206, range(100)),
        ("bytes=100-", 416, ()),
        ("", 200, range(100)),
    ],
)
def test_the_server_answers_ranges(server: Server, wanted: str, status: int, body: Any) -> None:
    server.take()
    assert get(f"{server.new_url()}/file", Range=wanted)[:2] == (status, bytes(body))
    assert server.take() == Counts(requests=1, bytes=len(body), connections=1, trips=1)


def test_the_server_knows_versions_and_counts_no_body_of_a_head(server: Server) -> None:
    url = f"{server.new_url()}/file"
    status, body, headers = get(url, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "100")
    assert get(url, If_Match=headers["ETag"])[0] == 200
    assert get(url, If_Match='"other"')[0] == 412
    assert get(f"{url}-not")[0] == 404
    assert server.take() == Counts(requests=4, bytes=100, connections=4, trips=4)


def test_the_server_answers_late(server: Server) -> None:
    server.take(latency=50)
    began = time.monotonic()
    get(f"{server.new_url()}/file")
    assert time.monotonic() - began >= 0.05
