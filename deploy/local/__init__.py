"""The embedded stack: a Kafka-protocol broker and a real mongod from Python wheels."""
