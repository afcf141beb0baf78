"""Events in a Frigate server, by its HTTP API for manual events.

``POST /api/events/<camera>/<label>/create`` begins one, at the time of the call: the API takes no
start. ``PUT /api/events/<id>/end`` ends it. There is nothing for what comes between.
"""

import json
from urllib.parse import quote

from recognizer.config.alerts import FrigateSink
from recognizer.live.events import LiveEvent
from recognizer.live.sinks.http import HttpClient, server_of
from recognizer.live.sinks.sink import SinkError
from recognizer.live.store import Notice, Store


class Frigate:
    """Creates an event for every new one, and ends it.

    A process killed between the creation and the note of its id finds the event again by its
    ``sub_label``, which holds the first digits of our id.

    Args:
        name: the sink's.
        config: address, token, time limit.
        store: keeps the ids that the server gives.

    Raises:
        ValueError: the token cannot be read.

    """

    def __init__(self, name: str, config: FrigateSink, store: Store) -> None:
        self._name, self._store = name, store
        self._url = config.url.rstrip("/") + "/api/events"
        headers = {"Authorization": f"Bearer {config.token.read()}"} if config.token else {}
        self._client = HttpClient(config.timeout_s, headers)
        self._sure = False  # whether the last notice of a process before this one was settled

    def send(self, notice: Notice) -> None:
        """Create or end an event.

        Raises:
            SinkError: no answer, or one without an event.

        """
        event = notice.event
        remote_id = self._store.remote_id(self._name, event.event_id)
        if event.state == "new" and remote_id is None:
            remote_id = self._left_open(event) if notice.attempts or not self._sure else None
            remote_id = remote_id or self._create(event)
            self._store.put_remote_id(self._name, event.event_id, remote_id)
        elif event.state == "end" and remote_id is not None:
            body = json.dumps({"end_time": event.end_utc_s}).encode()
            self._client.send("PUT", f"{self._url}/{quote(remote_id, safe='')}/end", body, {})
        self._sure = True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _create(self, event: LiveEvent) -> str:
        body = {
            "source_type": "api",
            "sub_label": _sub_label(event),
            "score": event.peak_probability,
            "duration": None,  # until it is ended
            "include_recording": True,
        }
        place = f"{quote(event.camera, safe='')}/{quote(event.class_name.lower(), safe='')}"
        url = f"{self._url}/{place}/create"
        answer = self._client.send("POST", url, json.dumps(body).encode(), {})
        value = self._parsed(answer)
        remote_id = value.get("event_id") if isinstance(value, dict) else None
        if not isinstance(remote_id, str) or not remote_id:
            raise SinkError(f"{server_of(self._url)}: expected event_id in the answer, got none")
        return remote_id

    def _left_open(self, event: LiveEvent) -> str | None:
        """Return the id of the event that an earlier try created."""
        query = f"?cameras={quote(event.camera, safe='')}&in_progress=1&limit=100"
        value = self._parsed(self._client.send("GET", self._url + query, b"", {}))
        for one in value if isinstance(value, list) else []:
            if isinstance(one, dict) and one.get("sub_label") == _sub_label(event):
                return str(one["id"]) if "id" in one else None
        return None

    def _parsed(self, answer: bytes) -> object:
        try:
            return json.loads(answer)
        except ValueError:
            raise SinkError(f"{server_of(self._url)}: expected JSON as an answer") from None


def _sub_label(event: LiveEvent) -> str:
    return f"recognizer {event.event_id[:12]}"
