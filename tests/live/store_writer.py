"""A process that writes events without end and delivers them, to be killed at any moment.

``python -m tests.live.store_writer FOLDER NAME`` prints the key of each state after it is written.
"""

import itertools
import sys
from pathlib import Path

from recognizer.live.sinks.deliver import Delivery
from recognizer.live.sinks.jsonl import JsonLines
from recognizer.live.store import Store
from tests.live.events import UTC_S, file_sink, whole


def main(folder: Path, name: str) -> None:
    """Write and deliver until killed."""
    sinks = [file_sink(folder, "one"), file_sink(folder, "two")]
    store = Store(folder / "events.db", sinks)
    store.close_left_open(UTC_S)
    for sink in sinks:
        Delivery(store, sink.name, JsonLines(sink.path)).start()
    sys.stdout.write("started\n")
    for number in itertools.count():
        for one in whole(f"{name}-{number}", after_s=float(number)):
            store.put([one], UTC_S + number)
            sys.stdout.write(f"{one.key}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
