"""Where notices of events go: a file, HTTP servers, an MQTT broker, a program."""
