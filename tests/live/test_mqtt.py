"""The MQTT sink against a real broker."""

import json
import shutil
import subprocess
import time

import pytest

from recognizer.config.alerts import MqttSink, SecretConfig
from recognizer.live.sinks.mqtt import Mqtt
from recognizer.live.sinks.mqtt_topics import Entity
from recognizer.live.sinks.sink import SinkError
from tests.live.broker import Listener, broker, free_port
from tests.live.events import notice

HALL = Entity("hall", "Fight")
STATE, EVENT = "recognizer/hall/Fight/state", "recognizer/hall/Fight/event"
DISCOVERY = HALL.discovery("recognizer", "homeassistant")[0]


@pytest.fixture
def port():
    return free_port()


def opened(port, **other):
    values = {"name": "home", "host": "127.0.0.1", "port": port, "timeout_s": 3.0, **other}
    return Mqtt(MqttSink(**values), [HALL])


def sent(sink, one, tries=8):
    """Send as a delivery does, until it arrives."""
    for _ in range(tries):
        try:
            return sink.send(one)
        except SinkError:
            time.sleep(0.2)
    return sink.send(one)


def test_an_event_is_a_state_and_every_notice_a_message(port):
    with broker(port):
        listener, sink = Listener(port), opened(port)
        for number, state in enumerate(("new", "update", "end")):
            sink.send(notice(state, number))
        events = [json.loads(text) for text in listener.wait(EVENT, 3)]
        assert [e["key"] for e in events] == ["e1:0", "e1:1", "e1:2"]
        assert events[0]["event"]["people"][0]["track_id"] == 7
        assert listener.wait(STATE, 4) == ["OFF", "ON", "ON", "OFF"]
        assert listener.wait("recognizer/status")[-1] == "online"
        sink.close()
        assert listener.wait("recognizer/status", 2)[-1] == "offline"
        listener.close()


def test_states_discovery_and_availability_are_retained(port):
    with broker(port):
        sink = opened(port)
        sink.send(notice())
        later = Listener(port)
        assert later.wait(STATE) == ["ON"]
        assert later.wait("recognizer/status") == ["online"]
        (text,) = later.wait(DISCOVERY)
        value = json.loads(text)
        assert value["state_topic"] == STATE
        assert value["availability_topic"] == "recognizer/status"
        assert json.loads(later.wait(value["json_attributes_topic"])[0])["event_id"] == "e1"
        assert later.texts(EVENT) == []
        later.close()
        sink.close()


def test_all_is_published_again_after_the_birth_message(port):
    with broker(port):
        sink = opened(port)
        sink.send(notice())
        listener = Listener(port, "homeassistant/binary_sensor/#")
        listener.wait(DISCOVERY)
        listener.client.publish("homeassistant/status", "online", 1)
        assert len(set(listener.wait(DISCOVERY, 2))) == 1
        listener.close()
        sink.close()


def test_a_broker_that_comes_back_has_everything_again(port):
    sink = opened(port, timeout_s=0.5)
    with pytest.raises(SinkError, match="no connection"):
        sink.send(notice())
    with broker(port):
        sent(sink, notice())
    with pytest.raises(SinkError, match=r"no connection|in time"):
        sink.send(notice("update", 1))
    with broker(port):
        listener = Listener(port)
        sent(sink, notice("update", 1))
        assert listener.wait(STATE)[-1] == "ON"
        listener.wait(DISCOVERY)
        keys = [json.loads(text)["key"] for text in listener.wait(EVENT)]
        assert keys == ["e1:1"]
        listener.close()
        sink.close()


def test_the_will_says_offline_when_the_connection_breaks(port):
    with broker(port):
        listener, sink = Listener(port, "recognizer/status"), opened(port)
        sink.send(notice())
        listener.wait("recognizer/status")
        sink._client.socket().shutdown(2)  # as a killed process does
        assert "offline" in listener.wait("recognizer/status", 2)
        sink.close()
        listener.close()


def test_a_wrong_password_is_an_error_that_does_not_show_it(port, tmp_path, monkeypatch):
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    users = tmp_path / "users"
    users.write_text("")
    plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(users)}}
    password = SecretConfig(env="MQTT_PASSWORD")
    with broker(port, plugins):
        sink = opened(port, user="kim", password=password, timeout_s=1.0)
        with pytest.raises(SinkError, match="no connection") as caught:
            sink.send(notice())
        sink.close()
    assert "Not authorized" in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value)


@pytest.fixture
def certificate(tmp_path):
    """Return a file with a key and a certificate for 127.0.0.1 that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, path = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=broker -batch"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    out = ["-keyout", str(key), "-out", str(path)]
    subprocess.run([*make.split(), *names, *out], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + path.read_text())
    return both


def test_tls_needs_a_certificate_that_is_accepted(port, certificate):
    with broker(port, certificate=certificate):
        stranger = opened(port, tls=True, timeout_s=1.0)
        with pytest.raises(SinkError, match=r"no connection: .*certificate"):
            stranger.send(notice())
        stranger.close()
        sink = opened(port, tls=True, ca_file=certificate)
        sink.send(notice())
        sink.close()


def test_close_does_not_wait_for_a_broker_that_is_away(port):
    sink = opened(port)
    start_s = time.monotonic()
    sink.close()
    assert time.monotonic() - start_s < 5


@pytest.mark.parametrize("name", ["hall+1", "a/b", "#", "문", "$SYS", "hall 1"])
def test_names_are_one_level_of_a_topic_and_stay_different(name):
    topic = Entity(name, "Fight").topic("recognizer", "state")
    assert topic.count("/") == 3
    assert not set(topic) & set("+#$")
    others = {Entity(other, "Fight").object_id for other in (name, "_", name + "_", "_" + name)}
    assert len(others) == 4
    assert all(object_id.isascii() and "/" not in object_id for object_id in others)
